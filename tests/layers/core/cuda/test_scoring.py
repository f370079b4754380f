"""Confusion matrices made on a card."""

import numpy as np
import pytest
from google.protobuf import text_format

from data import metrics
from layers.core.blob import Blob
from layers.core.cuda import scoring
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from solvers import infer, predictions, score
from tests.layers.core.cuda.cards import CARD, no_host


def blobs(*arrays):
    made = []
    for values in arrays:
        made.append(Blob(values.shape))
        made[-1].data[...] = values
    return made


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (7, 300), (1, 70, 3, 3)])
def test_positions_are_counted_as_by_metrics(shape):
    rng = np.random.RandomState(8)
    scores = np.round(rng.uniform(-2, 2, shape)).astype("f4")
    truth = rng.randint(-1, shape[1] + 2, (shape[0], *shape[2:])).astype("f4")
    truth.flat[0] = 255
    hist, prediction = scoring.compare(CARD, *blobs(scores, truth), wanted=True)
    np.testing.assert_array_equal(prediction, scores.argmax(1))
    assert prediction.dtype == (np.uint8 if shape[1] <= 256 else np.int32)
    np.testing.assert_array_equal(hist, metrics.confusion(truth.astype(int), scores.argmax(1), shape[1]))


NET = """
    layer { name: "in" type: "Input" top: "x" top: "label"
            input_param { shape { dim: 2 dim: 3 dim: 3 dim: 4 } shape { dim: 2 dim: 1 dim: 3 dim: 4 } } }
    layer { name: "score" type: "Power" bottom: "x" top: "score" power_param { scale: 2 } }"""


def test_a_net_on_a_card_is_scored_there(monkeypatch):
    rng = np.random.RandomState(9)
    net = Net(text_format.Parse(NET, caffe_pb2.NetParameter()), device=CARD)
    net.blobs["x"].data[...] = rng.uniform(-1, 1, (2, 3, 3, 4))
    net.blobs["label"].data[...] = truth = rng.choice([0, 1, 2, 255], (2, 1, 3, 4))
    wanted = metrics.confusion(truth, net.blobs["x"].data.argmax(1), 3)
    monkeypatch.setattr(metrics, "confusion", no_host)
    saved = []
    hist, _ = score.score_net(net, 2, save=lambda _, prediction, head: saved.append((prediction, head)))
    np.testing.assert_array_equal(hist, 2 * wanted)
    assert not net.blobs["score"].memory().on_host
    np.testing.assert_array_equal(saved[1][0], net.blobs["x"].data.argmax(1))


@pytest.mark.parametrize("name, value, text", [("x", np.nan, "'score' holds NaN"), ("label", 2.5, "label' holds 2.5"),
                                               ("label", np.nan, "label' holds nan"), ("label", 1e12, "label' holds 1e")])
def test_what_is_wrong_is_said_as_on_the_cpu(name, value, text):
    said = []
    for device in ("cpu", CARD):
        net = Net(text_format.Parse(NET, caffe_pb2.NetParameter()), device=device)
        net.blobs[name].data[1, 0, 1, 2] = value
        with pytest.raises(Error, match=text) as caught:
            score.score_net(net, 1)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_picture_is_segmented_there(monkeypatch):
    text = NET.replace('top: "label"', "").replace("dim: 2", "dim: 1").replace(" shape { dim: 1 dim: 1 dim: 3 dim: 4 } }", " }")
    net = Net(text_format.Parse(text, caffe_pb2.NetParameter()), device=CARD)
    segment = infer.Segmenter(net, (0, 0, 0))
    monkeypatch.setattr(predictions, "predict", no_host)
    image = np.random.RandomState(2).randint(0, 256, (5, 6, 3), np.uint8)
    label = segment.label(segment.run(image))
    np.testing.assert_array_equal(label, image[..., ::-1].argmax(-1))
    assert not net.blobs["score"].memory().on_host


def test_classes_come_over_instead_of_scores():
    scores, = blobs(np.round(np.random.RandomState(1).uniform(-2, 2, (2, 5, 3, 4))).astype("f4"))
    expected = scores.data.argmax(1)
    scores.on(CARD)
    found = scoring.classes(CARD, scores)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8
    scores.data[1, 2, 0, 0] = np.nan
    assert scoring.classes(CARD, scores) is None
