import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

PROB = np.random.RandomState(0).dirichlet(np.ones(5), 6).astype("f4") + np.float32(0.01)
LABELS = np.array([0, 4, 2, 2, 1, 3], "f4")
TEXT = 'type: "MultinomialLogisticLoss" bottom: "prob" bottom: "label"'


def test_mean_of_minus_log_probability():
    _, _, top = run_layer(TEXT, [PROB, LABELS])
    expected = -np.log(PROB[np.arange(6), LABELS.astype(int)]).mean()
    assert float(top[0].data) == pytest.approx(expected, rel=1e-5)
    check_gradient(TEXT, [PROB, LABELS], wrt=[0], tolerance=1e-5)


def test_probability_zero_is_held_at_the_smallest():
    _, _, top = run_layer(TEXT, [np.array([[0, 1]], "f4"), np.zeros(1, "f4")])
    assert float(top[0].data) == pytest.approx(-np.log(1e-20), rel=1e-6)


@pytest.mark.parametrize("value, message", [(5, "label 5 at n 1 of 'label' is out of range: 'prob' has 5 classes"),
                                            (0.5, "not a whole number"), (np.nan, "not a whole number")])
def test_bad_labels_are_caught(value, message):
    labels = LABELS.copy()
    labels[1] = value
    with pytest.raises(Error, match=message):
        run_layer(TEXT, [PROB, labels])


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match="one label for each image"):
        make_layer(TEXT, [PROB, np.zeros((6, 2), "f4")])
    layer, bottom, top = run_layer(TEXT, [PROB, LABELS])
    with pytest.raises(Error, match="cannot backpropagate to label inputs"):
        layer.backward(top, [True, True], bottom)
