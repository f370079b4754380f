import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
X = RNG.randn(2, 3, 5, 7).astype("f4")


def text(param):
    return f'type: "Bias" bias_param {{ {param} }}'


@pytest.mark.parametrize("param, shape, view", [
    ("", (3,), (1, 3, 1, 1)), ("num_axes: 0", (), (1, 1, 1, 1)), ("axis: 1 num_axes: 2", (3, 5), (1, 3, 5, 1)),
    ("axis: 0 num_axes: -1", (2, 3, 5, 7), (2, 3, 5, 7)),
])
def test_the_bias_lies_along_its_axes(param, shape, view):
    b = RNG.normal(size=shape)
    layer, bottom, top = run_layer(text(param), [X], params=[b])
    np.testing.assert_allclose(top[0].data, X + np.reshape(b, view), rtol=1e-5, atol=1e-6)
    again, blob, _ = make_layer(text(param), [X], params=[b])
    again.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    check_gradient(text(param), [X[:, :, :2, :2]])


def test_gradient_of_a_second_bottom():
    check_gradient(text("axis: 1"), [X[:, :, :2, :2], RNG.randn(3, 2)])
    check_gradient(text(""), [X[:, :, :2, :2], RNG.normal(size=())])


@pytest.mark.parametrize("param, shapes, message", [
    ("num_axes: 4", [(2, 3)], "reach beyond the 2 axes"), ("num_axes: -2", [(2, 3)], "num_axes is -2"),
    ("", [(2, 3, 4), (4,)], r"the bias \[4\] does not fit bottom 0 \[2, 3, 4\] from axis 1 on, where it has \[3\]"),
])
def test_what_does_not_fit_is_refused(param, shapes, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param), [np.zeros(shape, "f4") for shape in shapes])
