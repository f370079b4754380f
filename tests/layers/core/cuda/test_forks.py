"""Layers of Caffe's forks on a card, at toy sizes: alone, and in a net."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.core.cuda.cards import CARD, check_on_card

RNG = np.random.RandomState(3)
X = RNG.randn(2, 3, 4, 5).astype("f4")
MASK = RNG.randint(0, 80, X.shape)  # some places twice, and one window that held nothing
MASK[0, 0, 0, 0] = -1
REGIONS = np.array([[1, 0, 1, 4, 7], [0, 3, 3, 3, 3], [1, 0, 1, 4, 7], [0, 9, 9, 12, 12]], "f4")


@pytest.mark.parametrize("text, bottoms", [
    ('type: "ReLU6"', [4 * X]),
    ('type: "Axpy"', [X[:, :, 0, 0], X, X[::-1]]),
    ('type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }', [X]),
    ('type: "Permute" permute_param { order: 3 order: 1 }', [X]),
    ('type: "Upsample"', [X, MASK]),
    ('type: "Interp" interp_param { zoom_factor: 2 pad_beg: -1 }', [X[:1]]),
    ('type: "Interp" interp_param { height: 3 width: 1 }', [X[:1]]),
    ('type: "Normalize"', [X]),
    ('type: "Normalize" norm_param { across_spatial: false channel_shared: false }', [X]),
    ('type: "BN"', [X]),
    ('type: "BN" bn_param { bn_mode: INFERENCE }', [X]),
    ('type: "BN" bn_param { moving_average: true }', [X]),
    ('type: "BN" bn_param { frozen: true }', [X]),
    ('type: "PriorBox" prior_box_param { min_size: 3 aspect_ratio: 2 }', [X, X]),
    ('type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }', [X, REGIONS]),
])
def test_layer(text, bottoms):
    check_on_card(text, bottoms, tolerance=1e-5, wanted=[0, 1] if "Axpy" in text else [0])


NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 6 } } }
layer { name: "conv" type: "DepthwiseConvolution" bottom: "x" top: "conv" convolution_param { num_output: 2 kernel_size: 3 pad: 1
  weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" top: "mask" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "bn" type: "BN" bottom: "pool" top: "pool" bn_param { bn_mode: INFERENCE
  scale_filler { type: "uniform" min: 1 max: 2 } } }
layer { name: "up" type: "Upsample" bottom: "pool" bottom: "mask" top: "up" upsample_param { upsample_h: 5 upsample_w: 6 } }
layer { name: "norm" type: "Normalize" bottom: "up" top: "norm" norm_param { across_spatial: false } }
layer { name: "flat" type: "Permute" bottom: "norm" top: "flat" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "boxes" type: "PriorBox" bottom: "norm" bottom: "x" top: "boxes" prior_box_param { min_size: 3 } }
layer { name: "found" type: "DetectionOutput" bottom: "locations" bottom: "flat" bottom: "boxes" top: "found"
  detection_output_param { num_classes: 2 code_type: CENTER_SIZE } }
""".replace('layer { name: "found"', """layer { name: "join" type: "Concat" bottom: "flat" bottom: "flat" top: "locations" }
layer { name: "found\"""")


def test_a_net_lists_detections_from_a_card_each_time():
    param = text_format.Parse(NET, caffe_pb2.NetParameter())
    nets = [Net(param, caffe_pb2.TEST, seed=1, device=device) for device in ("cpu", CARD)]
    for run in range(3):
        image = np.random.RandomState(run).randn(1, 2, 5, 6)
        for net in nets:
            net.blobs["x"].data[...] = image
            net.forward()
        ours, theirs = (net.blobs["found"].data for net in nets)
        assert ours.shape == theirs.shape and ours.shape[2] > 1
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert [layer.type for layer in nets[1].layers if layer.card is None] == ["Input"]


def test_a_mask_that_does_not_fit_is_refused_after_the_pass():
    text = NET.replace("upsample_h: 5", "upsample_h: 2")
    param = text_format.Parse(text[: text.index('layer { name: "norm"')], caffe_pb2.NetParameter())
    net = Net(param, caffe_pb2.TEST, device=CARD)
    net.blobs["x"].data[...] = np.arange(60).reshape(1, 2, 5, 6)
    with pytest.raises(Error, match="layer 'up' .*the top's images 2x6 have indices 0 to 11"):
        net.forward()
