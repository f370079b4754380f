import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.layers.unrolled import sigmoid
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
N, D = 3, 5
CELLS = RNG.randn(1, N, D).astype("f4")
GATES = (2 * RNG.randn(1, N, 4 * D)).astype("f4")
CONT = np.array([[1, 0, 1]], "f4")
TEXT = 'type: "LSTMUnit" bottom: "c" bottom: "gates" bottom: "cont"'


def test_values_are_those_of_plain_loops():
    cont = np.array([[1, 0, 0.5]], "f4")
    _, _, top = run_layer(TEXT, [CELLS, GATES, cont])
    for n in range(N):
        i, f, o, g = np.split(GATES[0, n].astype("f8"), 4)
        c = cont[0, n] * sigmoid(f) * CELLS[0, n] + sigmoid(i) * np.tanh(g)
        np.testing.assert_allclose(top[0].data[0, n], c, atol=1e-6)
        np.testing.assert_allclose(top[1].data[0, n], sigmoid(o) * np.tanh(c), atol=1e-6)


def test_gradient():
    check_gradient(TEXT, [CELLS, GATES, CONT], wrt=[0, 1])


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_gradient_that_is_not_wanted_is_not_written(wanted):
    layer, bottom, top = run_layer(TEXT, [CELLS, GATES, CONT])
    for blob in top:
        blob.diff[...] = 1
    layer.backward(top, [True, True, False], bottom)
    both = bottom[wanted].diff.copy()
    again, below, above = run_layer(TEXT, [CELLS, GATES, CONT])
    for blob in above:
        blob.diff[...] = 1
    again.backward(above, [wanted == 0, wanted == 1, False], below)
    np.testing.assert_array_equal(below[wanted].diff, both)
    assert not below[1 - wanted].has_diff


def test_saturated_gates():
    gates = np.repeat([200, -200, 100, -100], D)[None, None].astype("f4")
    _, _, top = run_layer(TEXT, [np.full((1, 1, D), 7), gates, np.ones((1, 1))])
    assert (top[0].data == -1).all()
    np.testing.assert_allclose(top[1].data, np.tanh(-1), rtol=1e-6)


@pytest.mark.parametrize("bottoms, message", [
    ([CELLS[0], GATES, CONT], r"needs cells of 3 axes \(1, streams, values\), but 'c' has \[3, 5\]"),
    ([np.zeros((2, 3, 5)), GATES, CONT], r"but 'c' has \[2, 3, 5\]"),
    ([CELLS, GATES[..., :15], CONT], r"needs gates \[1, 3, 20\], but 'gates' has \[1, 3, 15\]"),
    ([CELLS, GATES, CONT[0]], r"needs cont \[1, 3\], but 'cont' has \[3\]"),
])
def test_what_does_not_fit_is_refused(bottoms, message):
    with pytest.raises(Error, match=message):
        make_layer(TEXT, bottoms)


def test_indicators_have_no_gradient():
    layer, bottom, top = run_layer(TEXT, [CELLS, GATES, CONT])
    with pytest.raises(Error, match=r"cannot backpropagate to sequence indicators \('cont'\)"):
        layer.backward(top, [True, True, True], bottom)
    assert [layer.allow_force_backward(i) for i in range(3)] == [True, True, False]


def test_threads_do_not_change_the_result():
    check_same_bits(TEXT, [CELLS, GATES, CONT], [True, True, False])
