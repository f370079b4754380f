import numpy as np
import pytest

from netspec.errors import Error
from tests.support import make_layer, run_layer

X = np.random.RandomState(0).randn(2, 3, 5, 7).astype("f4")


@pytest.mark.parametrize("param, shape", [("", (2, 105)), ("axis: 0", (210,)), ("axis: 1 end_axis: 2", (2, 15, 7)),
                                          ("axis: -2", (2, 3, 35)), ("axis: 2 end_axis: 2", (2, 3, 5, 7))])
def test_axes_are_joined_and_memory_is_shared(param, shape):
    layer, bottom, top = run_layer(f'type: "Flatten" flatten_param {{ {param} }}', [X])
    np.testing.assert_array_equal(top[0].data, X.reshape(shape))
    top[0].diff[...] = X.reshape(shape)
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, X)


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match="end_axis 1 lies before axis 2"):
        make_layer('type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', [X])
    layer, bottom, _ = make_layer('type: "Flatten"', [X])
    with pytest.raises(Error, match="cannot work in place"):
        layer.check_in_place(bottom, bottom)
