"""What holds for every layer type: in place or not."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core import catalogue
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error

NET = """
force_backward: true
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }
layer { name: "x" type: "Power" bottom: "data" top: "x" }
layer { name: "y" type: "%s" bottom: "x" top: "%s" %s }
"""
# Python: the user's code decides. Eltwise takes two bottoms and has tests of its own.
IN_PLACE = [name for name in catalogue.types()
            if catalogue.find(name).works_in_place and name not in ("Python", "Eltwise")]
PARAMETERS = {"Clip": "clip_param { min: 1.2 max: 1.7 }", "Threshold": "threshold_param { threshold: 1.5 }"}
OTHERS = {  # what would be overwritten while it is still read, or changes shape
    "Convolution": "convolution_param { num_output: 3 kernel_size: 3 pad: 1 }",
    "InnerProduct": "inner_product_param { num_output: 5 axis: -1 }",
    "Pooling": "pooling_param { kernel_size: 3 stride: 1 pad: 1 }",
    "LRN": "", "Tile": "tile_param { tiles: 2 }", "Concat": "", "Flatten": "", "Split": "",
    "Reshape": "reshape_param { shape { dim: -1 } }",
}


def passes(kind, top):
    net = Net(text_format.Parse(NET % (kind, top, PARAMETERS.get(kind, "")), caffe_pb2.NetParameter()), caffe_pb2.TRAIN, seed=1)
    rng = np.random.RandomState(0)
    net.blobs["data"].data[...] = 1 + rng.rand(2, 3, 4, 5)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.rand(*blob.shape)
    net.forward()
    net.blobs[top].diff[...] = rng.randn(2, 3, 4, 5)
    result = net.blobs[top].data.copy()
    if kind != "Threshold":  # it has no gradient
        net.backward()
    return [result, net.blobs["data"].diff, *(blob.diff for blob in net.params.get("y", []))]


@pytest.mark.parametrize("kind", IN_PLACE)
def test_in_place_gives_the_same_values_and_gradients(kind):
    for inside, outside in zip(passes(kind, "x"), passes(kind, "y"), strict=True):
        np.testing.assert_array_equal(inside, outside)


@pytest.mark.parametrize("kind", OTHERS)
def test_types_that_cannot_work_in_place_say_so(kind):
    text = NET % (kind, "x", OTHERS[kind])
    with pytest.raises(Error, match=rf"layer 'y' \({kind}\): cannot work in place: top 'x' is its bottom"):
        Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe_pb2.TRAIN)
