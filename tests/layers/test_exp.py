import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.elementwise import check_elementwise, spread
from tests.support import run_layer


@pytest.mark.parametrize("param, formula", [
    ("", np.exp),
    ("base: 2 scale: 3 shift: 0.5", lambda x: 2 ** (0.5 + 3 * x)),
    ("scale: -0.5 shift: -1", lambda x: np.exp(-1 - 0.5 * x)),
])
def test_powers_of_the_base(param, formula):
    check_elementwise(f'type: "Exp" exp_param {{ {param} }}', formula, spread(-2, 1))


def test_overflow_is_infinite():
    assert np.isinf(run_layer('type: "Exp" exp_param { shift: 1000 }', [np.ones((1, 1), "f4")])[2][0].data).all()


@pytest.mark.parametrize("base", [0, -2])
def test_a_base_without_real_powers_is_refused(base):
    with pytest.raises(Error, match="it must be positive, or -1 for e"):
        run_layer(f'type: "Exp" exp_param {{ base: {base} }}', [np.ones((1, 1), "f4")])
