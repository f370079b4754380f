import numpy as np
import pytest

from tests.layers.elementwise import check_elementwise, spread


@pytest.mark.parametrize("beta", [1, 1.5])
def test_self_gated(beta):
    check_elementwise(f'type: "Swish" swish_param {{ beta: {beta} }}', lambda x: x / (1 + np.exp(-beta * x)), spread(-4, 4))
