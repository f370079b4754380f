import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
SCORES = (2 * RNG.randn(7, 5)).astype("f4")
LABELS = RNG.randint(0, 5, 7).astype("f4")


def text(norm="L1"):
    return f'type: "HingeLoss" bottom: "score" bottom: "label" hinge_loss_param {{ norm: {norm} }}'


@pytest.mark.parametrize("norm", ["L1", "L2"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1, 1), (7, 1, 5)])
def test_margins_add_up(norm, shape):
    loss = 0.0
    for scores, label in zip(SCORES.astype("f8"), LABELS):
        for c, x in enumerate(scores):
            margin = max(0, 1 - x if c == label else 1 + x)
            loss += margin ** 2 if norm == "L2" else margin
    _, _, top = run_layer(text(norm), [SCORES.reshape(shape), LABELS])
    assert float(top[0].data) == pytest.approx(loss / 7, rel=1e-6)
    check_gradient(text(norm), [SCORES.reshape(shape), LABELS], wrt=[0], tolerance=1e-5)


def test_l1_is_the_default_and_the_bottom_stays():
    layer, bottom, top = run_layer('type: "HingeLoss"', [SCORES, LABELS])
    _, _, same = run_layer(text("L1"), [SCORES, LABELS])
    assert top[0].data == same[0].data
    assert not bottom[0].has_diff  # Caffe keeps its margins there
    top[0].diff[...] = 1
    layer.backward(top, [False, False], bottom)
    assert not bottom[0].has_diff


def test_a_margin_of_zero_has_no_gradient():
    layer, bottom, top = run_layer(text(), [np.array([[1, -1, 3]], "f4"), np.zeros(1)])
    top[0].diff[...] = 2
    layer.backward(top, [True, False], bottom)
    assert float(top[0].data) == 4
    np.testing.assert_array_equal(bottom[0].diff, [[0, 0, 2]])


@pytest.mark.parametrize("value, message", [(5, "label 5 at n 1 of 'label' is out of range: 'score' has 5 classes"),
                                            (-1, "out of range"), (0.5, "not a whole number"), (np.nan, "not a whole number")])
def test_bad_labels_are_caught(value, message):
    labels = LABELS.copy()
    labels[1] = value
    with pytest.raises(Error, match=message):
        run_layer(text(), [SCORES, labels])


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match=r"'label' \[7, 2\] must hold one label for each image"):
        make_layer(text(), [SCORES, np.zeros((7, 2))])
    with pytest.raises(Error, match="the same first axis"):
        make_layer(text(), [SCORES, LABELS[:6]])
    layer, bottom, top = run_layer(text(), [SCORES, LABELS])
    with pytest.raises(Error, match="cannot backpropagate to label inputs"):
        layer.backward(top, [True, True], bottom)
