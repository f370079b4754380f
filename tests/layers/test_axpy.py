import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
X, B = RNG.randn(2, 2, 3, 5, 7).astype("f4")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)])
def test_channels_are_scaled_and_added(shape):
    a = RNG.randn(*shape).astype("f4")
    _, _, top = run_layer('type: "Axpy"', [a, X, B])
    np.testing.assert_allclose(top[0].data, X * a.reshape(2, 3, 1, 1) + B, rtol=1e-6, atol=1e-6)
    check_same_bits('type: "Axpy"', [a, X, B])


@pytest.mark.parametrize("spatial", [(2, 3), (), (4,)])
def test_gradient(spatial):
    x, b = RNG.randn(2, 2, 3, *spatial)
    check_gradient('type: "Axpy"', [RNG.randn(2, 3, 1, 1), x, b])


def test_no_pixels():
    _, _, top = run_layer('type: "Axpy"', [np.ones((2, 3)), np.zeros((2, 3, 0, 4)), np.zeros((2, 3, 0, 4))])
    assert top[0].shape == (2, 3, 0, 4)


@pytest.mark.parametrize("shapes, message", [
    ([(2, 4), (2, 3, 5, 5), (2, 3, 5, 5)], r"the factors bottom 0 \[2, 4\] do not fit bottom 1 \[2, 3, 5, 5\]"),
    ([(2, 3, 5, 5), (2, 3, 5, 5), (2, 3, 5, 5)], "one for each image and channel"),
    ([(3, 2), (2, 3, 5, 5), (2, 3, 5, 5)], "do not fit"),
    ([(2,), (2,), (2,)], "do not fit"),
    ([(2, 3), (2, 3, 5, 5), (2, 3, 5, 4)], "must have the same shape"),
])
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(Error, match=message):
        make_layer('type: "Axpy"', [np.zeros(shape) for shape in shapes])
