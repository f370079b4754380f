"""Section 3.2: shift-and-stitch and dilation give the same dense outputs, bit for bit, and the plain net's in between."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from models import dense
from netspec import caffe_pb2, make, measure
from netspec.errors import Error
from tests.models.thin import thin

INPUT = 'layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 2 dim: {} dim: {} }} }} }}'
CONV = """layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}" convolution_param {{ num_output: {2} kernel_size: {3}
  {4} weight_filler {{ type: "msra" }} bias_filler {{ value: 0.1 }} }} }}"""
RELU = 'layer {{ name: "relu_{0}" type: "ReLU" bottom: "{0}" top: "{0}" }}'
POOL = 'layer {{ name: "{0}" type: "Pooling" bottom: "{1}" top: "{0}" pooling_param {{ {2} kernel_size: {3} stride: {4} }} }}'


def parse(*lines):
    return text_format.Parse("\n".join(lines), caffe_pb2.NetParameter())


def tiny(height, width, pad="", kernel=2, first="", stride=2):
    return parse(
        INPUT.format(height, width), CONV.format("conv1", "data", 6, 3, f"{pad} {first}"), RELU.format("conv1"),
        POOL.format("pool1", "conv1", "", 2, 2), CONV.format("conv2", "pool1", 7, 3, pad), RELU.format("conv2"),
        POOL.format("pool2", "conv2", "", kernel, stride), CONV.format("fc", "pool2", 5, 3, ""), RELU.format("fc"),
        CONV.format("score", "fc", 3, 1, ""))


def outputs(message, weights=None, image=None, dtype=np.float32):
    net = Net(message, caffe_pb2.TEST, seed=3, math="strict", dtype=dtype)
    if weights is not None:
        net.share_with(weights)
    net.blobs["data"].data[...] = np.random.RandomState(0).randn(*net.blobs["data"].shape)
    net.forward()
    return net, net.blobs[message.layer[-1].top[0]].data.copy()


@pytest.mark.parametrize("height, width, kernel, first, stride", [
    (33, 41, 2, "", 2), (34, 40, 2, "", 2), (35, 37, 3, "", 2), (50, 47, 2, "stride: 2", 2), (43, 49, 3, "", 3)])
def test_dilation_is_shift_and_stitch_and_holds_the_plain_net_bit_for_bit(height, width, kernel, first, stride):
    message = tiny(height, width, "", kernel, first, stride)
    step, _ = dense.subsampling(message)
    net, plain = outputs(message)
    _, holes = outputs(dense.dilated(message), net)
    _, stitches = outputs(dense.stitched(message), net)
    rows, columns = (length // step * step for length in holes.shape[2:])  # what complete windows give
    assert rows and columns and plain.any()
    assert np.array_equal(holes[:, :, :rows, :columns], stitches[:, :, :rows, :columns])
    there = holes[:, :, ::step, ::step]
    rows, columns = (min(pair) for pair in zip(there.shape[2:], plain.shape[2:]))
    assert np.array_equal(there[:, :, :rows, :columns], plain[:, :, :rows, :columns])


def test_a_net_that_pads_inside_is_dilated_as_it_is_and_stitched_when_all_padding_is_first():
    message = tiny(40, 36, "pad: 1")
    net, plain = outputs(message)
    _, holes = outputs(dense.dilated(message), net)
    there = holes[:, :, ::4, ::4]
    assert np.array_equal(there, plain[:, :, :there.shape[2], :there.shape[3]])
    with pytest.raises(Error, match=r"layer 'conv1' pads by 1: .* put all padding first \(padded_first\)"):
        dense.stitched(message)
    padded = dense.padded_first(message)
    assert padded.layer[1].convolution_param.pad[0] == 1 + 2  # conv2's pixel is two of the image's
    net, plain = outputs(padded, net)
    _, holes = outputs(dense.dilated(padded), net)
    _, stitches = outputs(dense.stitched(padded), net)
    rows, columns = (length // 4 * 4 for length in holes.shape[2:])
    assert np.array_equal(holes[:, :, :rows, :columns], stitches[:, :, :rows, :columns])
    there = holes[:, :, ::4, ::4]
    assert np.array_equal(there, plain[:, :, :there.shape[2], :there.shape[3]])


def test_padding_first_changes_nothing_that_sees_no_border():
    message = tiny(60, 60, "pad: 1")
    net, plain = outputs(message)
    _, padded = outputs(dense.padded_first(message), net)
    assert plain.shape == padded.shape
    assert np.array_equal(plain[:, :, 1:-1, 1:-1], padded[:, :, 1:-1, 1:-1])


def test_the_centre_of_the_first_output_and_the_stride_are_those_that_measure_finds():
    for pad, kernel in (("", 2), ("pad: 1", 3)):
        message = tiny(40, 40, pad, kernel)
        row = measure.measure(message)[-1]
        assert dense.subsampling(message) == (row.stride[0], row.offset[0])
        row = measure.measure(dense.dilated(message))[-1]
        assert (row.stride[0], row.offset[0]) == (1, dense.subsampling(message)[1])
        plain, holes = (measure.measure(one)[-1].field for one in (message, dense.dilated(message)))
        assert plain == holes  # "without decreasing the receptive field"


@pytest.mark.parametrize("layers, says", [
    ([CONV.format("a", "data", 3, 3, "kernel_h: 3")], "given; keep one of these forms"),
    (['layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" inner_product_param { num_output: 2 } }'],
     r"layer 'a' \(InnerProduct\): dense forms know convolutions, poolings"),
    ([POOL.format("a", "data", "pool: AVE", 2, 2), POOL.format("b", "a", "pool: AVE", 2, 2)],
     "layer 'b': only max pooling without padding can be dilated"),
    ([POOL.format("a", "elsewhere", "", 2, 2)], "layer 'a': its bottom 'elsewhere' does not come from the image"),
])
def test_what_cannot_be_dilated_is_refused_by_name(layers, says):
    with pytest.raises(Error, match=says):
        dense.dilated(parse(INPUT.format(9, 9), *layers))


def test_streams_of_other_padding_cannot_be_padded_first():
    two = [CONV.format("a", "data", 3, 3, "pad: 1"), CONV.format("b", "data", 3, 1, ""),
           'layer { name: "c" type: "Concat" bottom: "a" bottom: "b" top: "c" }']
    with pytest.raises(Error, match=r"layer 'c': its bottoms are padded by \[1, 0\] pixels in all"):
        dense.padded_first(parse(INPUT.format(9, 9), *two))


def test_both_forms_of_a_recipe_have_the_same_scores_for_every_pixel():
    options = {"only": "pool3", "size": (21, 26), "channels": 3}
    nets, scores = {}, {}
    for form in ("dilated", "stitched"):
        net = Net(thin("fcn_sample", form=form, **options), caffe_pb2.TEST, seed=1, math="strict")
        if nets:
            net.share_with(nets["dilated"])
        rng = np.random.RandomState(5)
        net.params["score_pool3"][0].data[...] = rng.randn(*net.params["score_pool3"][0].shape)
        net.blobs["data"].data[...] = 50 * rng.randn(1, 3, 21, 26)
        net.blobs["label"].data[...] = rng.randint(0, 6, (1, 1, 21, 26))
        net.forward()
        nets[form], scores[form] = net, net.blobs["score"].data.copy()
    assert scores["dilated"].shape == (1, 6, 21, 26) and scores["dilated"].std() > 0.1
    assert np.array_equal(scores["dilated"], scores["stitched"])


@pytest.mark.parametrize("name, options", [("fcn32s", {}), ("fcn_pool4", {}), ("fcn_sample", {"finest": 32})])
def test_dense_scores_lie_on_the_pixels(name, options):
    net = make.recipe(name).net("deploy", form="dilated", **options)
    rows = measure.measure(net, {"data": (1, 3, 61, 70)})
    assert rows[-1].shapes[0][2:] == (61, 70) and rows[-1].stride == (1, 1) and rows[-1].offset == (0, 0)
    for size in ((1, 1), (30, 31), (61, 70)):
        shapes = measure.measure(make.recipe(name).net("deploy", form="stitched", **options), {"data": (1, 3, *size)})
        assert shapes[-1].shapes[0][2:] == size
