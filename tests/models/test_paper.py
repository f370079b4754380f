"""Exact claims of the paper that need the engine and no data: sections 3.1 to 3.4 and 4.3."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from models.fcn32s import net as fcn32s
from netspec import caffe_pb2

INPUT = 'layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: {0} dim: {0} }} }} }}'
CONV = """layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}"
  convolution_param {{ num_output: {2} kernel_size: {3} {4} weight_filler {{ type: "msra" }} bias_filler {{ value: 0.1 }} }} }}"""
POOL = 'layer {{ name: "{0}" type: "Pooling" bottom: "{1}" top: "{0}" pooling_param {{ kernel_size: 2 stride: 2 }} }}'
FULL = """layer {{ name: "{0}" type: "InnerProduct" bottom: "{1}" top: "{0}"
  inner_product_param {{ num_output: {2} bias_filler {{ value: 0.1 }} }} }}"""


def make(*layers, phase=caffe_pb2.TEST, dtype=np.float64, **options):
    return Net(text_format.Parse("\n".join(layers), caffe_pb2.NetParameter()), phase, dtype=dtype, seed=1, **options)


def test_fully_connected_layers_are_convolutions_and_slide_over_larger_images():
    """Section 3.1: a classifier cast to convolutions gives, at each place, what it gives on the crop there."""
    trunk = [CONV.format("conv1", "data", 4, 3, ""), POOL.format("pool1", "conv1"),
             CONV.format("conv2", "pool1", 6, 3, ""), POOL.format("pool2", "conv2")]
    classifier = make(INPUT.format(22), *trunk, FULL.format("fc6", "pool2", 8), FULL.format("fc7", "fc6", 5))
    rng = np.random.RandomState(0)
    for blob in (classifier.params["fc6"][0], classifier.params["fc7"][0]):
        blob.data[...] = rng.randn(*blob.shape)
    cast = make(INPUT.format(34), *trunk, CONV.format("fc6", "pool2", 8, 4, ""), CONV.format("fc7", "fc6", 5, 1, ""))
    for name, blobs in classifier.params.items():
        for target, source in zip(cast.params[name], blobs):
            target.data[...] = source.data.reshape(target.shape)
    image = rng.randn(1, 3, 34, 34)
    cast.blobs["data"].data[...] = image
    cast.forward()
    scores = cast.blobs["fc7"].data
    assert scores.shape == (1, 5, 4, 4)
    for y in range(4):
        for x in range(4):
            classifier.blobs["data"].data[...] = image[:, :, 4 * y : 4 * y + 22, 4 * x : 4 * x + 22]
            classifier.forward()
            np.testing.assert_allclose(scores[0, :, y, x], classifier.blobs["fc7"].data[0], rtol=1e-11)


def test_gradient_of_the_image_is_the_sum_of_its_patches_gradients():
    """Section 3: with a loss summed over the final layer's cells, whole-image SGD is SGD over receptive fields."""
    body = [CONV.format("conv1", "data", 4, 3, "stride: 2"), CONV.format("score", "conv1", 3, 3, "")]
    label = 'layer {{ name: "l" type: "Input" top: "label" input_param {{ shape {{ dim: 1 dim: 1 dim: {0} dim: {0} }} }} }}'
    loss = """layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
      loss_param { normalization: NONE } }"""
    whole = make(INPUT.format(13), label.format(4), *body, loss, phase=caffe_pb2.TRAIN)
    patch = make(INPUT.format(7), label.format(1), *body, loss, phase=caffe_pb2.TRAIN)
    patch.share_with(whole)
    rng = np.random.RandomState(1)
    image, labels = rng.randn(1, 3, 13, 13), rng.randint(0, 3, (1, 1, 4, 4))
    whole.blobs["data"].data[...], whole.blobs["label"].data[...] = image, labels
    total = whole.forward_backward()
    summed = 0
    for y in range(4):
        for x in range(4):
            patch.blobs["data"].data[...] = image[:, :, 2 * y : 2 * y + 7, 2 * x : 2 * x + 7]
            patch.blobs["label"].data[...] = labels[0, 0, y, x]
            summed += patch.forward_backward()
    assert total == pytest.approx(summed, rel=1e-12)
    for name in ("conv1", "score"):
        for a, b in zip(whole.params[name], patch.params[name]):
            np.testing.assert_allclose(a.diff, b.diff, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size, stride", [(4, 2), (16, 8), (32, 16), (64, 32), (63, 32)])
def test_bilinear_upsampling_is_exact_on_ramps(size, stride):
    """Section 3.3: inside, weights sum to one and a plane comes out as the same plane, finer."""
    up = f"""layer {{ name: "up" type: "Deconvolution" bottom: "data" top: "up" convolution_param {{ num_output: 3
      kernel_size: {size} stride: {stride} bias_term: false group: 3 weight_filler {{ type: "bilinear" }} }} }}"""
    net = make(INPUT.format(8), up)
    y, x = np.mgrid[:8, :8]
    net.blobs["data"].data[0] = np.ones((8, 8)), y, 2 * x - 3 * y
    net.forward()
    out = net.blobs["up"].data[0][:, size:-size, size:-size]
    centre = (size - 1) / 2
    place = (np.arange(size, size + out.shape[1]) - centre) / stride  # where an output pixel lies on the input's grid
    py, px = place[:, None] + 0 * place, place + 0 * place[:, None]
    np.testing.assert_allclose(out, [np.ones_like(px), py, 2 * px - 3 * py], rtol=0, atol=1e-5)


def test_scores_of_a_concatenation_are_the_sum_of_scores():
    """Section 4.3: a 1x1 score over concatenated layers is the sum of scores over each."""
    two = [INPUT.format(5), CONV.format("a", "data", 4, 1, ""), CONV.format("b", "data", 6, 1, "")]
    apart = make(*two, CONV.format("sa", "a", 3, 1, "bias_term: false"), CONV.format("sb", "b", 3, 1, "bias_term: false"),
                 'layer { name: "sum" type: "Eltwise" bottom: "sa" bottom: "sb" top: "score" }')
    joined = make(*two, 'layer { name: "cat" type: "Concat" bottom: "a" bottom: "b" top: "ab" }',
                  CONV.format("score", "ab", 3, 1, "bias_term: false"))
    joined.share_with(apart)
    joined.params["score"][0].data[...] = np.concatenate([apart.params[n][0].data for n in ("sa", "sb")], axis=1)
    for net in (apart, joined):
        net.blobs["data"].data[...] = np.random.RandomState(2).randn(1, 3, 5, 5)
        net.forward()
    np.testing.assert_allclose(apart.blobs["score"].data, joined.blobs["score"].data, rtol=1e-12, atol=1e-12)


def test_a_score_lies_over_the_pixel_it_speaks_of():
    """Section 4.3 and the published crop offsets: an impulse in the coarse scores comes out centred on its pixel."""
    param = fcn32s.net("deploy")
    upscore, crop = (layer for layer in param.layer if layer.name in ("upscore", "score"))
    offset = crop.crop_param.offset[0]
    coarse = 16  # cells of score_fr for a 500 x 500 image
    net = make(f"""layer {{ name: "in" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 21 dim: {coarse}
      dim: {coarse} }} }} }} layer {{ name: "up" type: "Deconvolution" bottom: "data" top: "up" convolution_param {{
      num_output: 21 kernel_size: {upscore.convolution_param.kernel_size[0]} stride: 32 group: 21 bias_term: false
      weight_filler {{ type: "bilinear" }} }} }}""")
    net.blobs["data"].data[0, 0, 5, 9] = 1
    net.forward()
    ys, xs = np.mgrid[: net.blobs["up"].shape[2], : net.blobs["up"].shape[3]] - offset
    weight = net.blobs["up"].data[0, 0]
    centre = (weight * ys).sum() / weight.sum(), (weight * xs).sum() / weight.sum()
    # Where the trunk puts the centre of cell 0, in pixels of the image, and how far cells are apart.
    position, jump = -100.0 + 1, 1.0  # conv1_1: pad 100, kernel 3; the other 3x3 convolutions (pad 1) move nothing
    for _ in range(5):
        position += jump / 2  # a 2x2 pooling
        jump *= 2
    position += 3 * jump  # fc6: kernel 7
    assert centre == pytest.approx((position + 5 * jump, position + 9 * jump), abs=1e-6)
