import numpy as np
import pytest

from netspec.errors import Error
from tests.support import make_layer, run_layer

X = np.random.RandomState(0).permutation(210).reshape(2, 3, 5, 7).astype("f4")


def run(x, param=""):
    return run_layer(f'type: "ArgMax" argmax_param {{ {param} }}', [x])[2][0].data


@pytest.mark.parametrize("axis", [0, 1, 3, -2])
@pytest.mark.parametrize("top_k", [1, 2])
def test_along_an_axis(axis, top_k):
    order = np.argsort(-X, axis)
    numbers = np.take(order, range(top_k), axis)
    np.testing.assert_array_equal(run(X, f"axis: {axis} top_k: {top_k}"), numbers)
    np.testing.assert_array_equal(run(X, f"axis: {axis} top_k: {top_k} out_max_val: true"),
                                  np.take_along_axis(X, numbers, axis))


@pytest.mark.parametrize("top_k", [1, 3])
def test_over_all_axes_but_the_first(top_k):
    flat = X.reshape(2, -1)
    numbers = np.argsort(-flat, 1)[:, :top_k]
    np.testing.assert_array_equal(run(X, f"top_k: {top_k}"), numbers[:, None, :, None])
    both = run(X, f"top_k: {top_k} out_max_val: true")
    np.testing.assert_array_equal(both[:, 0, :, 0], numbers)
    np.testing.assert_array_equal(both[:, 1, :, 0], np.take_along_axis(flat, numbers, 1))
    assert run(X[:, :, 0, 0], f"top_k: {top_k}").shape == (2, 1, top_k)


def test_of_equal_values_the_later_one_comes_first():
    x = np.array([[3, 5, 5, 1]], "f4")
    assert run(x).ravel().tolist() == [2]
    assert run(x, "top_k: 3").ravel().tolist() == [2, 1, 0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match="top_k 4 must lie within 1 and the 3 values"):
        run(X, "axis: 1 top_k: 4")
    layer, bottom, top = make_layer('type: "ArgMax"', [X])
    with pytest.raises(Error, match="has no gradient"):
        layer.backward(top, [True], bottom)
