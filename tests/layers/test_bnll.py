import numpy as np
import pytest

from tests.layers.elementwise import check_elementwise, spread


@pytest.mark.parametrize("limit", [3, 90])
def test_softplus_without_overflow(limit):
    check_elementwise('type: "BNLL"', lambda x: np.logaddexp(0, x), spread(-limit, limit))
