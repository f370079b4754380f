import numpy as np
import pytest

from tests.layers.elementwise import check_elementwise, spread


@pytest.mark.parametrize("alpha", [1, 0.3])
def test_exponential_below_zero(alpha):
    check_elementwise(f'type: "ELU" elu_param {{ alpha: {alpha} }}', lambda x: np.where(x > 0, x, alpha * np.expm1(x)),
                      spread(-4, 4))
