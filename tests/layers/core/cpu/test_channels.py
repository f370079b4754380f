"""Channels copied between blocked pictures arrive, whatever their lanes, and nothing else changes."""

import numpy as np
import pytest

from layers.core.cpu import parallel
from layers.core.cpu.blocked import Blocked
from layers.core.cpu.channels import copy_channels
from tests.layers.core.cpu.emulated import again

# channels of the source, the first, channels of the target, at, count
CASES = [(16, 0, 16, 0, 16), (32, 16, 64, 48, 16), (64, 0, 256, 64, 64), (20, 0, 40, 20, 20), (21, 3, 40, 17, 18),
         (40, 33, 3, 0, 3), (16, 15, 16, 0, 1), (7, 0, 50, 43, 7), (50, 1, 49, 0, 49), (100, 5, 100, 80, 20),
         (3, 1, 33, 31, 2), (48, 0, 21, 5, 16), (33, 17, 32, 0, 16), (20, 4, 36, 20, 16), (16, 0, 20, 4, 16),
         (24, 0, 24, 0, 24)]


@pytest.mark.parametrize("border", [0, 1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_copy(case, border):
    channels, first, of, at, count = case
    rng = np.random.default_rng(0)
    one, other = (rng.standard_normal((2, n, 5, 9), dtype=np.float32) for n in (channels, of))
    one[0, first, 0, 0] = np.nan
    source, target = Blocked(one.shape, border).put(one), Blocked(other.shape, 1).put(other)
    copy_channels(source.address, source.picture, first, target.address, target.picture, at, count)
    other[:, at : at + count] = one[:, first : first + count]
    assert np.array_equal(target.array, Blocked(other.shape, 1).put(other).array, equal_nan=True)


def test_concatenation_and_back_with_any_number_of_threads():
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((2, n, 6, 7), dtype=np.float32) for n in (5, 16, 30, 1, 64)]
    for threads in (1, 2, 3):
        parallel.set_threads(threads)
        blocked = [Blocked(part.shape).put(part) for part in parts]
        whole, at = Blocked((2, sum(part.shape[1] for part in parts), 6, 7)), 0
        for one in blocked:
            copy_channels(one.address, one.picture, 0, whole.address, whole.picture, at, one.shape[1])
            at += one.shape[1]
        assert np.array_equal(whole.get(), np.concatenate(parts, 1))
        at = 0
        for part in parts:
            back = Blocked(part.shape, 2)
            copy_channels(whole.address, whole.picture, at, back.address, back.picture, 0, part.shape[1])
            assert np.array_equal(back.array, Blocked(part.shape, 2).put(part).array)
            at += part.shape[1]


def test_nothing_is_nothing():
    one = Blocked((1, 16, 2, 2), 0).put(np.ones((1, 16, 2, 2), np.float32))
    copy_channels(one.address, one.picture, 0, one.address, one.picture, 8, 0)
    assert (one.array == 1).all()


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
