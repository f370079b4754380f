import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from tests.support import check_gradient, make_layer

NET = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 2 } } }
    layer { name: "it" type: "Parameter" top: "p" parameter_param { shape { dim: 3 dim: 2 } } %s }
    layer { name: "sum" type: "Bias" bottom: "x" bottom: "p" top: "y" bias_param { axis: 1 } }
    layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1
            reduction_param { operation: SUMSQ coeff: 0.5 } }
"""


def net_of(more="", **options):
    return Net(text_format.Parse(NET % more, caffe_pb2.NetParameter()), caffe_pb2.TRAIN, **options)


def test_the_top_is_the_parameter():
    net = net_of()
    assert not net.params["it"][0].data.any()
    values = np.arange(6, dtype="f4").reshape(3, 2)
    net.params["it"][0].data[...] = values
    net.blobs["x"].data[...] = 1
    assert net.forward() == 0.5 * 4 * ((1 + values) ** 2).sum()
    np.testing.assert_array_equal(net.blobs["p"].data, values)


@pytest.mark.parametrize("low_memory", [False, True])
def test_gradients_accumulate(low_memory):
    net = net_of(low_memory=low_memory)
    net.blobs["x"].data[...] = 1
    net.clear_param_diffs()
    for times in (1, 2):
        net.forward_backward()
        assert (net.params["it"][0].diff == 4 * times).all()


def test_a_parameter_that_does_not_learn_gets_no_gradient():
    net = net_of("param { lr_mult: 0 }")
    net.forward_backward()
    assert not net.params["it"][0].has_diff


def test_gradient():
    check_gradient('type: "Parameter" parameter_param { shape { dim: 2 dim: 3 } }', [])


def test_other_memory_is_followed():
    one, other = net_of(), net_of()
    other.params["it"][0].data[...] = 3
    one.share_with(other)
    one.forward()
    assert (one.blobs["p"].data == 3).all()


def test_no_axes_are_one_value():
    _, _, top = make_layer('type: "Parameter"', [])
    assert top[0].shape == ()
