import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
X = RNG.randn(2, 3, 5, 7).astype("f4")


@pytest.mark.parametrize("shared", [False, True])
def test_negative_values_are_scaled_by_learned_slopes(shared):
    text = f'type: "PReLU" prelu_param {{ channel_shared: {str(shared).lower()} }}'
    slopes = np.float32(0.3) if shared else np.array([0.1, 0.2, -0.3], "f4")
    _, _, top = run_layer(text, [X], params=[slopes])
    np.testing.assert_allclose(top[0].data, np.where(X > 0, X, X * np.reshape(slopes, (1, -1, 1, 1))), rtol=1e-6)
    check_gradient(text, [np.where(abs(X) < 1e-3, 1, X)[:, :, :2, :3]], params=[slopes])
    check_gradient(text, [np.where(abs(X) < 1e-3, 1, X)[:, :, 0, 0]], params=[slopes])
    check_same_bits(text, [X], params=[slopes])


def test_slopes_are_a_quarter_by_default_and_gradients_add_up():
    layer, bottom, top = run_layer('type: "PReLU"', [X])
    assert layer.blobs[0].data.tolist() == [0.25] * 3
    layer.blobs[0].diff[...] = 100
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(layer.blobs[0].diff, 100 + np.where(X > 0, 0, X).sum((0, 2, 3)), rtol=1e-5)


def test_in_place_equals_out_of_place():
    layer, bottom, top = run_layer('type: "PReLU"', [X])
    again, blob, _ = make_layer('type: "PReLU"', [X])
    again.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    top[0].diff[...] = blob[0].diff[...] = X[::-1]
    layer.backward(top, [True], bottom)
    again.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, bottom[0].diff)
    np.testing.assert_array_equal(again.blobs[0].diff, layer.blobs[0].diff)


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match="2 or more axes"):
        make_layer('type: "PReLU"', [X[0, 0, 0]])
    layer, bottom, top = make_layer('type: "PReLU"', [X])
    bottom[0].reshape(2, 4, 5, 7)
    with pytest.raises(Error, match="has 3 slopes, but the bottom .* has 4 channels"):
        layer.reshape(bottom, top)
