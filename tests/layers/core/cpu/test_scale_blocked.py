import numpy as np
import pytest

from layers.core.cpu import parallel
from layers.core.cpu.blocked import Blocked
from layers.core.cpu.scale_blocked import scale_pictures


@pytest.mark.parametrize("shape", [(1, 16, 3, 5), (2, 21, 7, 1), (1, 40, 1, 33), (0, 3, 2, 2), (1, 3, 0, 2)])
@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("one", [False, True])
def test_bits_are_those_of_numpy_and_what_is_no_pixel_stays_zero(shape, border, biased, one):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape).astype(np.float32)
    values[values > 1.5] = np.nan
    values[values < -1.5] = -0.0
    factors, bias = rng.standard_normal((2, 1 if one else shape[1])).astype(np.float32)
    expected = values * factors[:, None, None]
    if biased:
        expected += bias[:, None, None]
    for threads in (1, 2):
        parallel.set_threads(threads)
        source, target = Blocked(shape, border).put(values), Blocked(shape, border)
        for onto in (target, source):
            scale_pictures(source.address, source.picture, factors, bias if biased else None, onto.address, onto.picture)
            assert np.array_equal(onto.get().view(np.int32), expected.view(np.int32))
            inside = onto.array[:, :, border : border + shape[2], border : border + shape[3]]
            assert not inside[:, -1:, :, :, (shape[1] - 1) % 16 + 1 :].any()
            if onto is target:
                inside[...] = 0
                assert not onto.array.any()
