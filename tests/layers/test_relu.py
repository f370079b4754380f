import numpy as np
import pytest

from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).randn(2, 3, 5, 7).astype("f4")


@pytest.mark.parametrize("slope", [0, 0.25])
def test_negative_values_are_scaled_by_the_slope(slope):
    _, _, top = run_layer(f'type: "ReLU" relu_param {{ negative_slope: {slope} }}', [X])
    np.testing.assert_array_equal(top[0].data, np.where(X > 0, X, np.float32(slope) * X))
    assert not np.signbit(top[0].data[X < 0]).any() or slope


@pytest.mark.parametrize("slope", [0, 0.25])
def test_gradient(slope):
    x = np.where(abs(X) < 1e-3, 1, X)[:1, :, :2]
    check_gradient(f'type: "ReLU" relu_param {{ negative_slope: {slope} }}', [x])


@pytest.mark.parametrize("slope", [0, 0.25])
def test_in_place_equals_out_of_place(slope):
    text = f'type: "ReLU" relu_param {{ negative_slope: {slope} }}'
    layer, bottom, top = run_layer(text, [X])
    top[0].diff[...] = X[::-1]
    layer.backward(top, [True], bottom)
    again, blob, _ = make_layer(text, [X])
    again.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    blob[0].diff[...] = X[::-1]
    again.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, bottom[0].diff)


def test_nan_stays_nan_and_gets_no_gradient():
    layer, bottom, top = run_layer('type: "ReLU"', [np.array([[np.nan, -1, 0, 2]], "f4")])
    np.testing.assert_array_equal(top[0].data, [[np.nan, 0, 0, 2]])
    top[0].diff[...] = 3
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [[0, 0, 0, 3]])


def test_an_empty_blob_is_no_error():
    _, _, top = run_layer('type: "ReLU"', [np.zeros((0, 3), "f4")])
    assert top[0].shape == (0, 3)


def test_threads_do_not_change_the_result():
    check_same_bits('type: "ReLU" relu_param { negative_slope: 0.1 }', [X])
