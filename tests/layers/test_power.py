import numpy as np
import pytest

from tests.layers.elementwise import check_elementwise, spread
from tests.support import run_layer


@pytest.mark.parametrize("param, formula", [
    ("", lambda x: x),
    ("power: 2 scale: 0.5 shift: 1.5", lambda x: (1.5 + 0.5 * x) ** 2),
    ("power: -1.5 shift: 6", lambda x: (6 + x) ** -1.5),
    ("power: 0", lambda x: x * 0 + 1),
    ("power: 3 scale: 0 shift: 2", lambda x: x * 0 + 8),
    ("scale: -3 shift: 1", lambda x: 1 - 3 * x),
])
def test_powers_of_an_affine_map(param, formula):
    check_elementwise(f'type: "Power" power_param {{ {param} }}', formula, spread(-4, 4))


def test_what_has_no_real_power_is_nan_or_infinite():
    _, _, top = run_layer('type: "Power" power_param { power: -0.5 }', [np.array([[0, -1]], "f4")])
    assert np.isinf(top[0].data[0, 0])
    assert np.isnan(top[0].data[0, 1])
