import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.elementwise import check_elementwise, spread
from tests.support import make_layer, run_layer


@pytest.mark.parametrize("slope", [0, 0.25])
def test_values_are_cut_at_six(slope):
    x = spread(-9, 15)
    x[0, 0, :2] = 5.9, 6.1
    check_elementwise(f'type: "ReLU6" relu6_param {{ negative_slope: {slope} }}',
                      lambda x: np.where(x > 0, np.minimum(x, 6), slope * x), x)


def test_kinks_and_nan():
    x = np.array([0, 6, np.nan, -np.inf, np.inf, -0.0], "f4")
    layer, bottom, top = run_layer('type: "ReLU6"', [x])
    np.testing.assert_array_equal(top[0].data, [0, 6, np.nan, np.nan, 6, 0])  # as ReLU: -inf * 0
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [0, 0, 0, 0, 0, 0])


def test_a_slope_below_zero_is_refused():
    with pytest.raises(Error, match="negative_slope is -1; give 0 or more"):
        make_layer('type: "ReLU6" relu6_param { negative_slope: -1 }', [np.zeros(3)])
