"""Softmax, losses, Accuracy and ArgMax on a card, and how a net hears of bad labels."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.cuda import losses, softmax
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.core.cuda.cards import CARD, check_on_card

RNG = np.random.RandomState(5)
SCORES = RNG.uniform(-3, 3, (2, 5, 3, 4)).astype("f4")
LABELS = RNG.randint(0, 5, (2, 1, 3, 4)).astype("f4")
IGNORED = np.where(RNG.rand(2, 1, 3, 4) < 0.3, 255, LABELS).astype("f4")


@pytest.fixture
def small_pieces(monkeypatch):
    """Let a block sum up few values, so that toy sizes need several."""
    monkeypatch.setattr(losses, "PIECE", 7)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("in_place", [False, True])
def test_softmax(axis, in_place):
    check_on_card(f'type: "Softmax" softmax_param {{ axis: {axis} }}', [SCORES], in_place=in_place)


@pytest.mark.parametrize("shape, axis", [((3, 70), 1), ((2, 65, 3), 1)])
def test_softmax_of_many_channels_at_few_positions(shape, axis):
    x = RNG.uniform(-90, 90, shape)
    check_on_card(f'type: "Softmax" softmax_param {{ axis: {axis} }}', [x])
    x[1, 5] = np.nan
    check_on_card(f'type: "Softmax" softmax_param {{ axis: {axis} }}', [x], backward=False)


def test_a_block_a_position_is_a_thread_a_position(monkeypatch):
    x = RNG.uniform(-9, 9, (2, 66, 3))
    monkeypatch.setattr(softmax, "MANY", 1000)
    check_on_card('type: "Softmax"', [x])


@pytest.mark.parametrize("mode", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
def test_softmax_with_loss(mode, small_pieces):
    text = f'type: "SoftmaxWithLoss" loss_param {{ ignore_label: 255 normalization: {mode} }}'
    check_on_card(text, [SCORES, IGNORED], wanted=[0])


def test_softmax_with_loss_of_ignored_labels_only_and_of_rows():
    check_on_card('type: "SoftmaxWithLoss" loss_param { ignore_label: 255 }', [SCORES, np.full((2, 1, 3, 4), 255)], wanted=[0])
    check_on_card('type: "SoftmaxWithLoss"', [SCORES[:, :, 0, 0], LABELS[:, 0, 0, 0]], wanted=[0])
    saturated = np.where(np.arange(5).reshape(1, 5, 1, 1) == LABELS, -1e4, 0)
    check_on_card('type: "SoftmaxWithLoss" top: "loss" top: "prob"', [saturated, LABELS], wanted=[0])


@pytest.mark.parametrize("text", ["", "loss_param { ignore_label: -1 }", "loss_param { normalization: NONE ignore_label: 1 }",
                                  "loss_param { normalize: true ignore_label: 0 }"])
def test_sigmoid_cross_entropy_loss(text, small_pieces):
    scores = np.concatenate([SCORES, [[[[-200, 200, 0, 88]]]] * np.ones((1, 5, 3, 4))])
    targets = np.where(RNG.rand(3, 5, 3, 4) < 0.2, -1.5, RNG.uniform(0, 1, (3, 5, 3, 4)))
    check_on_card(f'type: "SigmoidCrossEntropyLoss" {text}', [scores, targets], wanted=[0])


@pytest.mark.parametrize("wanted", [[0], [1], [0, 1]])
def test_euclidean_loss(wanted):
    check_on_card('type: "EuclideanLoss"', [SCORES, SCORES[::-1] ** 2], wanted=wanted)


def test_multinomial_logistic_loss():
    prob = RNG.dirichlet(np.ones(5), 9)
    prob[3] = 0
    check_on_card('type: "MultinomialLogisticLoss"', [prob, RNG.randint(0, 5, 9)], wanted=[0])


@pytest.mark.parametrize("text", ["", "top_k: 2", "ignore_label: 255 top_k: 3"])
@pytest.mark.parametrize("tops", ["", 'top: "a" top: "each"'])
def test_accuracy(text, tops):
    scores = np.round(SCORES)  # with ties
    scores[0, 1, 0, 0], scores[1, :, 1, 1] = np.nan, np.nan
    labels = IGNORED if "ignore" in text else LABELS
    check_on_card(f'type: "Accuracy" accuracy_param {{ {text} }} {tops}', [scores, labels], backward=False, tolerance=1e-7)


@pytest.mark.parametrize("text", ["", "out_max_val: true", "top_k: 3", "top_k: 4 out_max_val: true", "axis: 1 top_k: 3",
                                  "axis: 1", "axis: 2 out_max_val: true", "axis: -1 top_k: 2 out_max_val: true"])
def test_argmax(text):
    scores = np.round(SCORES)
    scores[0, 1, 0, 0] = scores[0, 1, 0, 2] = scores[1, 0, 1, 1] = np.nan
    check_on_card(f'type: "ArgMax" argmax_param {{ {text} }}', [scores], backward=False, tolerance=0)


NET = """
    layer {{ name: "in" type: "Input" top: "x" top: "label"
             input_param {{ shape {{ dim: 2 dim: 5 dim: 3 dim: 4 }} shape {{ dim: 2 dim: 1 dim: 3 dim: 4 }} }} }}
    layer {{ name: "thin" type: "Power" bottom: "x" top: "scores" power_param {{ scale: 0.5 }} }}
    layer {{ name: "it" type: "{}" bottom: "scores" bottom: "label" top: "value" }}
    layer {{ name: "more" type: "Power" bottom: "value" top: "twice" power_param {{ scale: 2 }} }}"""


@pytest.mark.parametrize("value", [5, -1, 2.5, np.nan, np.inf])
@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "Accuracy"])
def test_a_bad_label_is_said_as_on_the_cpu(kind, value):
    labels = LABELS.copy()
    labels[1, 0, 2, 1] = value
    labels[1, 0, 2, 3] = -7
    said = []
    for device in ("cpu", CARD):
        net = Net(text_format.Parse(NET.format(kind), caffe_pb2.NetParameter()), device=device)
        net.blobs["x"].data[...], net.blobs["label"].data[...] = SCORES, labels
        with pytest.raises(Error, match="n 1, row 2, column 1") as caught:
            net.forward()
        said.append(str(caught.value))
        net.blobs["label"].data[...] = LABELS  # and all is well again
        net.forward()
    assert said[0] == said[1]


def test_a_bad_label_of_given_probabilities_is_said_as_on_the_cpu():
    said = []
    for device in ("cpu", CARD):
        param = text_format.Parse("""
            layer { name: "in" type: "Input" top: "x" top: "label" input_param { shape { dim: 3 dim: 2 } shape { dim: 3 } } }
            layer { name: "it" type: "MultinomialLogisticLoss" bottom: "x" bottom: "label" }""", caffe_pb2.NetParameter())
        net = Net(param, device=device)
        net.blobs["x"].data[...], net.blobs["label"].data[...] = 0.5, [0, 2, 1]
        with pytest.raises(Error, match="label 2 at n 1") as caught:
            net.forward()
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_the_loss_of_a_net_is_that_of_the_cpu():
    found = []
    for device in ("cpu", CARD):
        param = text_format.Parse("force_backward: true" + NET.format("SoftmaxWithLoss").replace('"it"', '"it" loss_weight: 3'),
                                  caffe_pb2.NetParameter())
        net = Net(param, device=device)
        net.blobs["x"].data[...], net.blobs["label"].data[...] = SCORES, LABELS
        found.append((net.forward_backward(), net.blobs["twice"].data.copy(), net.blobs["x"].diff.copy()))
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-8)
