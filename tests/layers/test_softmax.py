import numpy as np
import pytest

from layers.core.cpu.softmax import BLOCK
from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).randn(2, 5, 3, 7).astype("f4") * 3


def softmax(x, axis):
    e = np.exp(x.astype("f8") - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("shape, axis", [((2, 5, 3, 7), 1), ((2, 5, 3, 7), -1), ((2, 5, 3, 7), 0), ((4, 1000), 1),
                                         ((2, 3, BLOCK + 5), 1), ((3, 1, 4), 1), ((1, 21, 23, 45), 1)])
def test_probabilities(shape, axis):
    x = np.random.RandomState(1).randn(*shape).astype("f4") * 5
    _, _, top = run_layer(f'type: "Softmax" softmax_param {{ axis: {axis} }}', [x])
    np.testing.assert_allclose(top[0].data, softmax(x, axis), rtol=2e-5, atol=1e-7)


def test_huge_scores_do_not_overflow():
    _, _, top = run_layer('type: "Softmax"', [np.array([[1e30, 1e30, -1e30], [1000, 999, -1000]], "f4")])
    np.testing.assert_allclose(top[0].data[0], [0.5, 0.5, 0])
    np.testing.assert_allclose(top[0].data[1], softmax(np.array([1.0, 0, -2000]), 0), rtol=1e-5)


def test_nan_spoils_its_own_position_only():
    x = X.copy()
    x[1, 2, 0, 3] = np.nan
    _, _, top = run_layer('type: "Softmax"', [x])
    assert np.isnan(top[0].data[1, :, 0, 3]).all()
    assert np.isnan(top[0].data).sum() == 5


@pytest.mark.parametrize("axis", [1, 2])
def test_gradient(axis):
    check_gradient(f'type: "Softmax" softmax_param {{ axis: {axis} }}', [X[:, :, :, :2]])


def test_in_place_equals_out_of_place():
    layer, bottom, top = run_layer('type: "Softmax"', [X])
    top[0].diff[...] = X
    layer.backward(top, [True], bottom)
    again, blob, _ = make_layer('type: "Softmax"', [X])
    again.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    blob[0].diff[...] = X
    again.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, bottom[0].diff)


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(Error, match="axis 4 is out of range"):
        make_layer('type: "Softmax" softmax_param { axis: 4 }', [X])


def test_threads_do_not_change_the_result():
    check_same_bits('type: "Softmax"', [np.random.RandomState(1).randn(2, 3, 40, 41)])
