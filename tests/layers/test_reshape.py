import numpy as np
import pytest

from netspec.errors import Error
from tests.support import make_layer, run_layer

X = np.random.RandomState(0).randn(2, 6, 5, 4).astype("f4")


def text(dims, more=""):
    return f'type: "Reshape" reshape_param {{ shape {{ {" ".join(f"dim: {d}" for d in dims)} }} {more} }}'


@pytest.mark.parametrize("dims, more, shape", [
    ((0, -1, 10), "", (2, 12, 10)),
    ((-1,), "", (240,)),
    ((0, 0, 20), "", (2, 6, 20)),
    ((3, -1), "axis: 1 num_axes: 2", (2, 3, 10, 4)),
    ((2, 2), "axis: -2 num_axes: 1", (2, 6, 5, 2, 2)),
    ((1, 1), "axis: -1 num_axes: 0", (2, 6, 5, 4, 1, 1)),
    ((1,), "axis: 0 num_axes: 0", (1, 2, 6, 5, 4)),
    ((0, -1), "axis: 2", (2, 6, 5, 4)),
])
def test_values_take_another_shape_and_memory_is_shared(dims, more, shape):
    layer, bottom, top = run_layer(text(dims, more), [X])
    np.testing.assert_array_equal(top[0].data, X.reshape(shape))
    top[0].diff[...] = X.reshape(shape)
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, X)


@pytest.mark.parametrize("dims, more, message", [
    ((-1, -1), "", "more than one -1"), ((-2,), "", "below -1"), ((7, -1), "", "240 values .* cannot be divided by the 7"),
    ((3, 4), "", "holds 12 values, but it replaces 240"), ((1, 1, 1, 1, 0), "", r"copies axis 4 \(a dim of 0\)"),
    ((1,), "axis: 5", "axis 5 is out of range"), ((1,), "num_axes: 5", "reach beyond the 4 axes"),
    ((1,), "num_axes: -2", "num_axes is -2"),
])
def test_what_does_not_fit_is_refused(dims, more, message):
    with pytest.raises(Error, match=message):
        make_layer(text(dims, more), [X])


def test_in_place_is_refused():
    layer, bottom, _ = make_layer(text((-1,)), [X])
    with pytest.raises(Error, match="cannot work in place"):
        layer.check_in_place(bottom, bottom)
