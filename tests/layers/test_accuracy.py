import numpy as np
import pytest

from netspec import caffe_pb2
from netspec.errors import Error
from tests.support import make_layer, run_layer

RNG = np.random.RandomState(0)
SCORES = RNG.randn(2, 5, 3, 7).astype("f4")
LABELS = RNG.randint(0, 5, (2, 1, 3, 7)).astype("f4")


def accuracy(scores, labels, param="", tops=1):
    text = (f'type: "Accuracy" bottom: "score" bottom: "label" accuracy_param {{ {param} }} '
            + " ".join(f'top: "t{i}"' for i in range(tops)))
    return [blob.data for blob in run_layer(text, [scores, labels], caffe_pb2.TEST)[2]]


@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("ignore", [None, 3])
def test_accuracy_of_all_and_of_each_class(top_k, ignore):
    order = np.argsort(-SCORES, axis=1)[:, :top_k]
    right = (order == LABELS).any(axis=1)
    keep = LABELS[:, 0] != ignore
    param = f"top_k: {top_k}" + (f" ignore_label: {ignore}" if ignore is not None else "")
    whole, each = accuracy(SCORES, LABELS, param, 2)
    assert float(whole) == pytest.approx(right[keep].mean())
    for c in range(5):
        mine = (LABELS[:, 0] == c) & keep
        assert each[c] == pytest.approx(right[mine].mean() if mine.any() else 0)


def test_other_axes():
    last = accuracy(SCORES.transpose(0, 2, 3, 1), LABELS.transpose(0, 2, 3, 1), "axis: -1")
    assert last[0] == accuracy(SCORES, LABELS)[0]


def test_a_tie_is_not_among_the_best():
    scores = np.array([[1, 1, 0]], "f4")
    assert accuracy(scores, np.array([0], "f4"))[0] == 0
    assert accuracy(scores, np.array([0], "f4"), "top_k: 2")[0] == 1


@pytest.mark.parametrize("scores", [[np.nan, 1, 2], [np.nan] * 3, [1, np.nan, 0]])
def test_nan_is_never_right(scores):
    assert accuracy(np.array([scores], "f4"), np.array([0], "f4"))[0] == 0


def test_a_nan_score_is_wrong_even_when_everything_is_among_the_best():
    assert accuracy(np.array([[np.nan, 1, 2]], "f4"), np.array([0], "f4"), "top_k: 3")[0] == 0


def test_nothing_to_count_is_zero():
    whole, each = accuracy(SCORES, LABELS * 0 + 255, "ignore_label: 255", 2)
    assert whole == 0
    assert not each.any()


@pytest.mark.parametrize("value, message", [(5, "label 5 at n 0, row 1, column 2 of 'label' is out of range"),
                                            (np.nan, "not a whole number"), (0.5, "not a whole number")])
@pytest.mark.filterwarnings("ignore")
def test_bad_labels_are_caught(value, message):
    labels = LABELS.copy()
    labels[0, 0, 1, 2] = value
    with pytest.raises(Error, match=message):
        accuracy(SCORES, labels)


@pytest.mark.parametrize("param, shape, message", [
    ("", (2, 1, 3, 6), "holds 36 labels, .* needs 42"),
    ("top_k: 6", (2, 1, 3, 7), "top_k 6 exceeds the 5 classes of 'score'"),
    ("top_k: 0", (2, 1, 3, 7), "top_k is 0"),
])
def test_what_does_not_fit_is_refused(param, shape, message):
    with pytest.raises(Error, match=message):
        accuracy(SCORES, np.zeros(shape, "f4"), param)


def test_there_is_no_gradient():
    layer, bottom, top = make_layer('type: "Accuracy"', [SCORES, LABELS])
    layer.backward(top, [False, False], bottom)
    assert not layer.allow_force_backward(0)
    with pytest.raises(Error, match="has no gradient"):
        layer.backward(top, [True, False], bottom)
