"""Coordinate maps against impulses sent through plain NumPy layers, and the paper's offsets."""

from fractions import Fraction

import numpy as np
import pytest

from netspec.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)
from netspec.errors import Error
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P


def chain(top, *steps):
    for kind, fields in steps:
        top = getattr(L, kind)(top, **fields)
    return top


def offset_of(top):
    return top.fn.params["crop_param"]["offset"]


def deconvolution(top, kernel_size, stride, **fields):
    return L.Deconvolution(top, convolution_param={"kernel_size": kernel_size, "stride": stride, **fields})


VGG = [("Convolution", {"kernel_size": 3, "pad": 100})]
VGG += [("Pooling", {"kernel_size": 2, "stride": 2}), ("Convolution", {"kernel_size": 3, "pad": 1})] * 4
VGG += [("Pooling", {"kernel_size": 2, "stride": 2}), ("Convolution", {"kernel_size": 7}), ("ReLU", {"in_place": True})]
ALEXNET = [("Convolution", {"kernel_size": 11, "stride": 4, "pad": 100}), ("Pooling", {"kernel_size": 3, "stride": 2}),
           ("LRN", {}), ("Convolution", {"kernel_size": 5, "pad": 2}), ("Pooling", {"kernel_size": 3, "stride": 2}),
           ("Convolution", {"kernel_size": 3, "pad": 1}), ("Pooling", {"kernel_size": 3, "stride": 2}),
           ("Convolution", {"kernel_size": 6})]
INCEPTION = [("Convolution", {"kernel_size": 5, "pad": 2})]
HALF = [("Pooling", {"kernel_size": 3, "stride": 2})]
GOOGLENET = ([("Convolution", {"kernel_size": 7, "stride": 2, "pad": 100})] + HALF
             + [("Convolution", {"kernel_size": 3, "pad": 1})] + HALF + INCEPTION * 2 + HALF + INCEPTION * 5 + HALF
             + INCEPTION * 2)


@pytest.mark.parametrize("trunk, kernel, offset", [(VGG, 64, 19), (ALEXNET, 63, 18), (GOOGLENET, 63, 98)])
def test_offsets_of_one_stream(trunk, kernel, offset):
    data = L.Input()
    assert offset_of(crop(deconvolution(chain(data, *trunk), kernel, 32), data)) == [offset]


@pytest.mark.parametrize("trunk, offset", [(ALEXNET, "18.5"), (GOOGLENET, "98.5")])
def test_an_even_kernel_behind_odd_pools_is_half_a_pixel_off_and_refused(trunk, offset):
    data = L.Input()
    says = rf"kernel_size=64, stride=32.*noninteger offset {offset}; change a kernel by one"
    with pytest.raises(AssertionError, match=says):
        crop(deconvolution(chain(data, *trunk), 64, 32), data)


def impulse_centre(kind, fields, x, size=41):
    """Where an impulse at x comes out of a 1-D layer of ones: the centre of the positions that it reaches."""
    kernel, stride = fields["kernel_size"], fields.get("stride", 1)
    pad, dilation = fields.get("pad", 0), fields.get("dilation", 1)
    taps = dilation * np.arange(kernel)
    if kind == "Deconvolution":
        reached = x * stride - pad + taps
    else:
        outputs = np.arange(-size, 2 * size)
        reached = np.array([o for o in outputs if x in o * stride - pad + taps])
    return Fraction(int(reached.min() + reached.max()), 2)


@pytest.mark.parametrize("fields", [
    {"kernel_size": 1}, {"kernel_size": 3, "pad": 1}, {"kernel_size": 5, "pad": 0}, {"kernel_size": 3, "dilation": 4},
    {"kernel_size": 4, "pad": 3, "dilation": 2},
])
def test_maps_of_stride_one_are_where_impulses_arrive(fields):
    for kind in ("Convolution", "Deconvolution"):
        make = chain(L.Input(), ("Convolution", fields)) if kind == "Convolution" else deconvolution(
            L.Input(), **{"stride": 1, **fields})
        axis, a, b = coord_map(make.fn)
        assert axis == 1
        assert [a[0] * x + b[0] for x in (15, 20)] == [impulse_centre(kind, fields, x) for x in (15, 20)]


@pytest.mark.parametrize("kernel, stride, pad", [(2, 2, 0), (3, 2, 1), (11, 4, 100), (64, 32, 0), (63, 32, 3)])
def test_deconvolution_undoes_convolution(kernel, stride, pad):
    data = L.Input()
    down = L.Convolution(data, kernel_size=kernel, stride=stride, pad=pad)
    axis, a, b = coord_map_from_to(deconvolution(down, kernel, stride, pad=pad), data)
    assert (axis, a[0], b[0]) == (1, 1, 0)
    assert compose(coord_map(down.fn), inverse(coord_map(down.fn)))[1:] == (1, 0)


def test_thirds_are_exact():
    data = L.Input()
    axis, a, b = coord_map_from_to(L.Pooling(L.Pooling(data, kernel_size=2, stride=3), kernel_size=2, stride=7), data)
    assert a[0] == 21 and isinstance(a[0], Fraction)
    assert coord_map(L.Pooling(data, kernel_size=2, stride=3).fn)[1][0] == Fraction(1, 3)


def test_activations_and_joins_pass_through():
    data = L.Input()
    top = L.Eltwise(L.ReLU(data), L.Dropout(data), operation=P.Eltwise.SUM)
    assert coord_map_from_to(L.Concat(top, L.Scale(data)), data)[1:] == (1, 0)


def test_several_bottoms_and_tops_map_alike():
    n = NetSpec()
    n.data, n.aux = L.Input(), L.Input()
    n.one, n.two = L.Convolution(n.data, n.aux, ntop=2, kernel_size=5, stride=2)
    assert repr(coord_map_from_to(n.one, n.data)) == repr(coord_map_from_to(n.two, n.aux))


def test_each_axis_has_its_own_map():
    data = L.Input()
    axis, a, b = coord_map_from_to(L.Convolution(data, kernel_size=[3, 5], stride=[1, 2], pad=[0, 10]), data)
    assert list(a) == [1, 2] and list(b) == [1, -8]
    assert offset_of(crop(data, L.Convolution(data, kernel_size=[3, 5]))) == [1, 2]
    assert offset_of(crop(data, L.Convolution(data, kernel_size=[3, 3]))) == [1]


def test_other_axes_and_their_mismatch():
    data = L.Input()
    top = L.Convolution(data, kernel_size=3, axis=2)
    assert crop(data, top).fn.params["crop_param"] == {"axis": 3, "offset": [1]}
    with pytest.raises(AxisMismatchException, match="axis 2 and axis 1|axis 1 and axis 2"):
        coord_map_from_to(L.Pooling(top, kernel_size=2), data)


def test_a_crop_shifts_and_only_its_first_bottom_counts():
    data = L.Input()
    wide = L.Convolution(data, kernel_size=3, pad=10)
    cut = L.Crop(wide, data, axis=2, offset=4)
    before, after = coord_map_from_to(wide, data), coord_map_from_to(cut, data)
    assert after[2][0] == before[2][0] + 4
    assert coord_map_from_to(crop(wide, data), data)[1:] == (1, 0)


def test_unconnected_tops_are_refused_with_where_the_walk_ended():
    with pytest.raises(RuntimeError, match="not connected by spatial layers"):
        coord_map_from_to(L.Input(), L.Input())
    data = L.Input()
    with pytest.raises(RuntimeError, match="type InnerProduct has no coordinate map"):
        coord_map_from_to(L.InnerProduct(data, num_output=3), data)
    with pytest.raises(UndefinedMapException, match="global pooling"):
        coord_map(L.Pooling(data, global_pooling=True).fn)


def test_refusals_of_crop():
    data = L.Input()
    with pytest.raises(AssertionError, match="scale mismatch on crop, one step of the first is 2 steps of the second"):
        crop(L.Pooling(data, kernel_size=2, stride=2), data)
    with pytest.raises(AssertionError, match="cannot crop negative offset -1: .* raise the pad .* by 1 or more"):
        crop(L.Convolution(data, kernel_size=3), data)
    with pytest.raises(AssertionError, match="does not support kernel_h, kernel_w; give a list"):
        crop(L.Convolution(data, kernel_h=3, kernel_w=3), data)
    with pytest.raises(Error, match="kernel_size is missing"):
        crop(L.Convolution(data), data)


def test_streams_joined_out_of_step_are_refused():
    data = L.Input()
    askew = L.Eltwise(L.Convolution(data, kernel_size=3, pad=1), L.Convolution(data, kernel_size=3, pad=2))
    with pytest.raises(Error, match="two ways .* different maps"):
        coord_map_from_to(askew, data)
