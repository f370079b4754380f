import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.elementwise import check_elementwise, spread
from tests.support import run_layer


@pytest.mark.parametrize("param, formula", [
    ("", np.log),
    ("base: 2 scale: 3 shift: 0.5", lambda x: np.log2(0.5 + 3 * x)),
    ("base: 0.5", lambda x: -np.log2(x)),
])
def test_logarithm_to_the_base(param, formula):
    check_elementwise(f'type: "Log" log_param {{ {param} }}', formula, spread(0.5, 4))


def test_zero_and_negative_values_are_no_error():
    layer, bottom, top = run_layer('type: "Log"', [np.array([[0, -1]], "f4")])
    assert top[0].data[0, 0] == -np.inf
    assert np.isnan(top[0].data[0, 1])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    assert bottom[0].diff[0, 0] == np.inf


@pytest.mark.parametrize("base", [0, 1, -2])
def test_a_base_without_logarithm_is_refused(base):
    with pytest.raises(Error, match="it must be positive and not 1, or -1 for e"):
        run_layer(f'type: "Log" log_param {{ base: {base} }}', [np.ones((1, 1), "f4")])
