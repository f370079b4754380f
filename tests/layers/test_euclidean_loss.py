import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
A, B = RNG.randn(3, 2, 5).astype("f4"), RNG.randn(3, 2, 5).astype("f4")


def test_half_the_mean_squared_distance():
    layer, _, top = run_layer('type: "EuclideanLoss"', [A, B])
    assert top[0].shape == ()
    assert float(top[0].data) == pytest.approx(((A - B) ** 2).sum() / 6, rel=1e-6)
    assert layer.allow_force_backward(1)
    check_gradient('type: "EuclideanLoss"', [A, B])


@pytest.mark.parametrize("shape", [(2, 2, 5), (3, 2, 4)])
def test_what_does_not_fit_is_refused(shape):
    with pytest.raises(Error, match=r"same first axis|hold as many values"):
        make_layer('type: "EuclideanLoss"', [A, np.zeros(shape, "f4")])
