import numpy as np
import pytest

from layers.core.cpu import parallel
from layers.core.cpu.blocked import Blocked, place
from layers.core.cpu.channel_sums import bias_gradient_pictures


@pytest.mark.parametrize("shape", [(1, 16, 3, 5), (2, 21, 7, 300), (3, 3, 1, 1), (1, 40, 33, 17), (1, 16, 0, 4), (0, 5, 2, 2)])
@pytest.mark.parametrize("border", [0, 1, 3])
def test_sums_are_those_of_numpy_in_either_layout_for_any_threads(shape, border):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = (3 + values.astype(np.float64).sum(axis=(0, 2, 3))).astype(np.float32)
    results = []
    blocked = Blocked(shape, border).put(values)
    for threads in (1, 2, 3):
        parallel.set_threads(threads)
        for source in (place(values), (blocked.address, blocked.picture)):
            bias = np.full(shape[1], 3, np.float32)
            bias_gradient_pictures(*source, bias)
            results.append(bias)
    for result in results:
        assert np.allclose(result, expected, rtol=1e-6, atol=1e-6)
        assert np.array_equal(result, results[0])
