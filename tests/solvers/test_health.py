import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.cpu import parallel
from layers.core.net import Net
from netspec import caffe_pb2
from solvers import health

DATA = """
layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "%s" bottom: "label" top: "loss" }'


def conv(name, bottom, filler="", fields="", param=""):
    filler = f'weight_filler {{ type: "{filler}" }}' if filler else ""
    return (f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {param} '
            f"convolution_param {{ num_output: 2 kernel_size: 1 {filler} {fields} }} }}\n")


def relu(name):
    return f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'


def stuck(*layers):
    net = Net(text_format.Parse(DATA + "".join(layers), caffe_pb2.NetParameter()), caffe_pb2.TRAIN, seed=1)
    return [net.layers[number].name for number in health.stuck_layers(net)]


def test_one_zero_layer_learns():
    assert stuck(conv("a", "data", "msra"), relu("a"), conv("score", "a"), LOSS % "score") == []


def test_two_zero_layers_above_each_other_never_learn():
    assert stuck(conv("a", "data"), relu("a"), conv("score", "a"), LOSS % "score") == ["a", "score"]
    assert stuck(conv("a", "data"), conv("score", "a"), LOSS % "score") == ["a", "score"]


def test_zero_layer_under_a_relu_never_learns_since_no_gradient_passes_there():
    assert stuck(conv("a", "data"), relu("a"), conv("score", "a", "msra"), LOSS % "score") == ["a"]
    assert stuck(conv("a", "data"), conv("score", "a", "msra"), LOSS % "score") == []


def test_bias_makes_up_for_zero_weights():
    layers = (conv("a", "data", "", "bias_filler { value: 0.1 }"), relu("a"), conv("score", "a"), LOSS % "score")
    assert stuck(*layers) == []


def test_frozen_zero_layer_is_stuck_and_blocks():
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    assert stuck(conv("a", "data"), conv("up", "a", param=frozen), LOSS % "up") == ["a", "up"]
    assert stuck(conv("a", "data", "msra"), conv("up", "a", param=frozen), LOSS % "up") == ["up"]


def test_zero_branch_beside_a_live_one_learns():
    add = 'layer { name: "sum" type: "Eltwise" bottom: "%s" bottom: "%s" top: "sum" }\n'
    # Two skip streams whose score layers are zero, as in FCN-8s.
    assert stuck(conv("a", "data", "msra"), conv("score_a", "a"), conv("b", "a", "msra"), conv("score_b", "b"),
                 add % ("score_a", "score_b"), LOSS % "sum") == []
    # A residual branch that starts at zero, below another one.
    assert stuck(conv("a", "data", "msra"), conv("r", "a"), add % ("a", "r"), conv("score", "sum"),
                 LOSS % "score") == []


def test_layers_that_no_loss_needs_are_not_looked_at():
    assert stuck(conv("a", "data", "msra"), LOSS % "a", conv("x", "a"), conv("y", "x")) == []


def test_second_bottom_of_crop_carries_nothing():
    crop = 'layer { name: "c" type: "Crop" bottom: "b" bottom: "data" top: "c" crop_param { axis: 2 offset: 0 } }\n'
    assert stuck(conv("a", "data"), conv("b", "a"), crop, conv("score", "c", "msra"), LOSS % "score") == ["a", "b"]


@pytest.mark.parametrize("count", [0, 1, 5, health.BLOCK - 1, health.BLOCK + 3, 3 * health.BLOCK])
def test_sum_of_squares_is_exact_to_double_precision(count):
    values = np.random.RandomState(0).randn(count).astype(np.float32)
    assert health.sum_of_squares(values) == pytest.approx((values.astype(np.float64) ** 2).sum(), rel=1e-13)


def test_sum_of_squares_does_not_depend_on_threads(monkeypatch):
    values = np.random.RandomState(0).randn(5 * health.BLOCK + 7).astype(np.float32)
    sums = []
    for count in (1, 2, 5):
        monkeypatch.setattr(parallel, "_threads", count)
        monkeypatch.setattr(parallel, "_pool", None)
        sums.append(health.sum_of_squares(values))
    assert sums[0] == sums[1] == sums[2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_found(value):
    values = np.full(2 * health.BLOCK, 3e38, np.float32)
    assert health.is_finite(values)
    values[-1] = value
    assert not health.is_finite(values)
    assert health.is_finite(np.full(5, 1e200))  # squares overflow, the values are finite


def test_the_first_value_that_is_not_finite_is_named():
    text = DATA + conv("a", "data", "xavier") + conv("b", "a", "xavier")
    net = Net(text_format.Parse(text, caffe_pb2.NetParameter()), caffe_pb2.TEST, seed=1)
    net.forward()
    assert health.first_bad(net) is None
    net.params["b"][1].data[0] = np.inf
    assert health.first_bad(net) == "parameter 1 of layer 'b'"
    net.forward()
    assert health.first_bad(net) == "blob 'b'"
