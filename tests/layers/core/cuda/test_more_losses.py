"""InfogainLoss, HingeLoss and ContrastiveLoss on a card."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.core.cuda.cards import CARD, check_on_card

RNG = np.random.RandomState(0)
SCORES = RNG.randn(2, 5, 3, 7).astype("f4")
LABELS = RNG.randint(0, 5, (2, 1, 3, 7)).astype("f4")
IGNORED = np.where(RNG.rand(2, 1, 3, 7) < 0.4, 255, LABELS).astype("f4")
MATRIX = RNG.uniform(-0.5, 1, (1, 1, 5, 5)).astype("f4")
INFOGAIN = 'type: "InfogainLoss" bottom: "score" bottom: "label" bottom: "gain" '


@pytest.mark.parametrize("more", ["", "loss_param { ignore_label: 255 normalization: FULL }", "loss_param { ignore_label: 255 }"])
def test_infogain_loss(more):
    check_on_card(INFOGAIN + more, [SCORES, IGNORED if "255" in more else LABELS, MATRIX], wanted=[0])


def test_a_bad_label_of_infogain_loss_is_said_as_on_the_cpu():
    labels, said = LABELS.copy(), []
    labels[1, 0, 2, 3] = 9
    for device in ("cpu", CARD):
        param = text_format.Parse("""
            layer { name: "in" type: "Input" top: "x" top: "label" top: "gain" input_param {
              shape { dim: 2 dim: 5 dim: 3 dim: 7 } shape { dim: 2 dim: 1 dim: 3 dim: 7 } shape { dim: 5 dim: 5 } } }
            layer { name: "it" type: "InfogainLoss" bottom: "x" bottom: "label" bottom: "gain" top: "loss" }""",
                                  caffe_pb2.NetParameter())
        net = Net(param, device=device)
        net.blobs["x"].data[...], net.blobs["label"].data[...], net.blobs["gain"].data[...] = SCORES, labels, MATRIX[0, 0]
        with pytest.raises(Error, match="label 9 at n 1, row 2, column 3") as caught:
            net.forward()
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("norm", ["L1", "L2"])
def test_hinge_loss(norm):
    scores = np.where(RNG.rand(7, 5) < 0.2, 1, 2 * RNG.randn(7, 5))
    check_on_card(f'type: "HingeLoss" hinge_loss_param {{ norm: {norm} }}', [scores, RNG.randint(0, 5, 7)], wanted=[0])


def test_a_bad_label_of_hinge_loss_is_said_as_on_the_cpu():
    said = []
    for device in ("cpu", CARD):
        param = text_format.Parse("""
            layer { name: "in" type: "Input" top: "x" top: "label" input_param { shape { dim: 3 dim: 2 } shape { dim: 3 } } }
            layer { name: "it" type: "HingeLoss" bottom: "x" bottom: "label" top: "loss" }""", caffe_pb2.NetParameter())
        net = Net(param, device=device)
        net.blobs["label"].data[...] = [0, 1, 2]
        with pytest.raises(Error, match="label 2 at n 2") as caught:
            net.forward()
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("wanted", [[0, 1], [1]])
@pytest.mark.parametrize("param", ["", "margin: 2.5", "margin: 2.5 legacy_version: true"])
def test_contrastive_loss(param, wanted):
    a, b = RNG.randn(2, 7, 3)
    b[2], b[5] = a[2] + 0.1, a[5]
    alike = [1, 0, 0, 3, 0, 0, -1]
    check_on_card(f'type: "ContrastiveLoss" contrastive_loss_param {{ {param} }}', [a, b, alike], wanted=wanted, tolerance=1e-5)
