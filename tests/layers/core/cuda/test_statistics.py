"""BatchNorm and MVN on a card."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from tests.layers.core.cuda.cards import CARD, check_on_card
from tests.layers.core.cuda.simulated import needs_card

RNG = np.random.RandomState(0)
X = (RNG.randn(3, 2, 3, 5) * 2 + 3).astype("f4")


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", [(3, 2, 3, 5), (15, 6), (9,)])
def test_batch_norm(in_place, shape):
    x = X.reshape(-1)[:int(np.prod(shape))].reshape(shape)
    layer, _, _ = check_on_card('type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.75 }', [x], in_place=in_place,
                                tolerance=1e-5)
    channels = shape[1] if len(shape) > 1 else 1
    values = np.moveaxis(x.reshape(shape[0], channels, -1), 1, 0).reshape(channels, -1).astype("f8")
    np.testing.assert_allclose(layer.blobs[0].data, values.mean(1), rtol=1e-5)
    np.testing.assert_allclose(layer.blobs[1].data, values.var(1, ddof=1), rtol=1e-5)
    assert layer.blobs[2].data == 1


@pytest.mark.parametrize("in_place", [False, True])
def test_batch_norm_with_gathered_statistics(in_place):
    for weight in (2.5, 0):
        check_on_card('type: "BatchNorm"', [X], caffe_pb2.TEST, [[1, 2], [3, 4], [weight]], in_place=in_place, tolerance=1e-5)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("param", ["", "across_channels: true", "normalize_variance: false", "eps: 0.5"])
def test_mvn(param, in_place):
    check_on_card(f'type: "MVN" mvn_param {{ {param} }}', [X], in_place=in_place, tolerance=1e-5)


@needs_card
def test_statistics_are_gathered_at_each_replay():
    net = """
        layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 2 dim: 3 dim: 3 } } }
        layer { name: "norm" type: "BatchNorm" bottom: "data" top: "y" batch_norm_param { use_global_stats: false } }"""
    found = []
    for device in ("cpu", CARD):
        one = Net(text_format.Parse(net, caffe_pb2.NetParameter()), caffe_pb2.TEST, device=device)
        for number in range(4):
            one.blobs["data"].data[...] = np.random.RandomState(number).randn(4, 2, 3, 3)
            one.forward()
        found.append([one.blobs["y"].data.copy(), *(blob.data.copy() for blob in one.params["norm"])])
    for ours, plain in zip(*found):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)
    assert found[0][3] > 3.9
