import numpy as np

from tests.layers.elementwise import check_elementwise, spread
from tests.support import run_layer


def test_absolute_value():
    check_elementwise('type: "AbsVal"', np.abs, spread(-4, 4))


def test_the_slope_at_zero_is_zero():
    layer, bottom, top = run_layer('type: "AbsVal"', [np.zeros((1, 2), "f4")])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    assert not bottom[0].diff.any()
