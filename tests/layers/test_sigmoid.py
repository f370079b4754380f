import numpy as np
import pytest

from tests.layers.elementwise import check_elementwise, spread


@pytest.mark.parametrize("limit", [3, 80])
def test_logistic_function_without_overflow(limit):
    check_elementwise('type: "Sigmoid"', lambda x: 1 / (1 + np.exp(-x)), spread(-limit, limit))
