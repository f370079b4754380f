"""A check for layers that map each value by itself."""

import numpy as np

from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer


def check_elementwise(text, formula, x):
    """Hold values against `formula`, the gradient against differences, in place against not, and 1 to 3 threads."""
    x = np.asarray(x, "f4")
    layer, bottom, top = run_layer(text, [x])
    assert top[0].shape == x.shape
    np.testing.assert_allclose(top[0].data, formula(x.astype("f8")), rtol=2e-5, atol=2e-6)
    check_gradient(text, [x], tolerance=1e-5)
    dy = np.random.RandomState(5).uniform(0.5, 1.5, x.shape).astype("f4")
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    again, blob, _ = make_layer(text, [x])
    again.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    blob[0].diff[...] = dy
    again.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, bottom[0].diff)
    check_same_bits(text, [x])


def spread(low, high, shape=(2, 3, 5)):
    """Return distinct values over [low, high] in mixed order, none nearer to 0 than 1e-3."""
    x = np.random.RandomState(1).permutation(np.linspace(low, high, int(np.prod(shape)))).reshape(shape)
    return np.where(abs(x) < 1e-3, 1e-2, x)
