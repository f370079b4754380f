"""Every input size gives a score of its own size: no crop reaches outside, no stream is too short."""

import pytest

from models import parts, small, trunks
from models.datasets import VOC
from netspec import geometry, make
from netspec.coord_map import crop
from netspec.errors import Error
from netspec.spec import NetSpec
from netspec.spec import layers as L

NETS = {"fcn32s": 1, "fcn16s": 1, "fcn8s": 1, "fcn_alexnet": 1, "fcn_squeezenet": 29, "fcn_sample": 1}


def steps(net):
    """The layers that change or check a size, as (function of sizes -> size, top, bottoms)."""
    out = []
    for layer in net.layer:
        kind, bottoms, top = layer.type, list(layer.bottom), layer.top[0] if layer.top else None
        if kind in ("Convolution", "Deconvolution"):
            k, s, p, d = (one[0] for one in geometry.kernel_stride_pad_dilation(layer.convolution_param, 2))
            size_of = geometry.conv_out if kind == "Convolution" else geometry.deconv_out
            out.append((lambda size, f=size_of, k=k, s=s, p=p, d=d: f(size, k, s, p, d), top, bottoms))
        elif kind == "Pooling":
            pool = layer.pooling_param
            out.append((lambda size, k=pool.kernel_size, s=pool.stride: geometry.pool_out(size, k, s), top, bottoms))
        elif kind == "Crop":
            out.append((lambda size, to, offset=layer.crop_param.offset[0]: cropped(size, to, offset), top, bottoms))
        elif kind in ("Eltwise", "Concat"):
            out.append((same, top, bottoms))
        elif bottoms and top != bottoms[0]:
            out.append((lambda *sizes: sizes[0], top, bottoms))
    return out


def cropped(size, to, offset):
    if offset + to > size:
        raise Error(f"offset {offset} + size {to} exceeds {size}")
    return to


def same(*sizes):
    if len(set(sizes)) != 1:
        raise Error(f"sizes {sizes} differ")
    return sizes[0]


def score_size(program, size):
    sizes = {"data": size}
    for function, top, bottoms in program:
        sizes[top] = function(*(sizes[bottom] for bottom in bottoms))
    return sizes["score"]


@pytest.mark.parametrize("name, least", NETS.items())
def test_every_size_up_to_3000_is_covered(name, least):
    program = steps(make.recipe(name).net("deploy"))
    assert all(score_size(program, size) == size for size in range(least, 3001))
    for size in range(1, least):
        with pytest.raises(Error):
            score_size(program, size)


@pytest.mark.parametrize("pad", [96, 97, 98, 100])
def test_97_is_the_least_padding_of_fcn32s_and_the_offset_follows_it(pad):
    n = NetSpec()
    VOC.add(n, "deploy")
    top = parts.score(n, "score_fr", trunks.vgg16(n, n.data, deploy=True, pad=pad), 21)
    n.score = crop(parts.upscore(n, "upscore", top, 21, 64, 32), n.data)
    assert n.score.fn.params["crop_param"]["offset"] == [pad - 81]
    program = steps(n.to_proto())
    fits = []
    for size in range(1, 3001):
        try:
            fits.append(score_size(program, size) == size)
        except Error:
            fits.append(False)
    assert all(fits) == (pad >= 97)


@pytest.mark.parametrize("pool, kernel, stride, offset", [
    ("pool5", 64, 32, 115), ("pool4", 32, 16, 107), ("pool3", 16, 8, 103),
])
def test_offsets_of_nets_scored_on_one_pool(pool, kernel, stride, offset):
    n = NetSpec()
    n.data = L.Input()
    trunks.vgg16(n, n.data)
    top = parts.upscore(n, "upscore", parts.score(n, "score", n[pool], 21), 21, kernel, stride)
    assert crop(top, n.data).fn.params["crop_param"]["offset"] == [offset]


def test_squeezenet_with_less_padding_misses_the_edge():
    with pytest.raises(Error, match="negative offset -1"):
        small.squeezenet(VOC, "deploy", 21, pad=1)
    short = steps(small.squeezenet(VOC, "deploy", 21, pad=2))
    with pytest.raises(Error, match="exceeds"):
        [score_size(short, size) for size in range(100, 140)]
