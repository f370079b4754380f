import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).randn(2, 3, 5, 2).astype("f4")


@pytest.mark.parametrize("operation, formula", [
    ("SUM", np.sum), ("ASUM", lambda x, axis: abs(x).sum(axis)), ("SUMSQ", lambda x, axis: (x * x).sum(axis)),
    ("MEAN", np.mean),
])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_last_axes_become_one_value(operation, formula, axis):
    text = f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: 0.5 }}'
    _, _, top = run_layer(text, [X])
    axes = tuple(range(axis % 4, 4))
    np.testing.assert_allclose(top[0].data, 0.5 * formula(X.astype("f8"), axes), rtol=1e-5, atol=1e-6)
    check_gradient(text, [X])


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(Error, match="axis 4 is out of range"):
        make_layer('type: "Reduction" reduction_param { axis: 4 }', [X])
