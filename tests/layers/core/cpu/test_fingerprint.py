import numpy as np
import pytest

from layers.core.cpu import parallel
from layers.core.cpu.fingerprint import PART, fingerprint


@pytest.mark.parametrize("size", [1, 2, 5, 2 * PART + 3, 5 * PART + 1])
def test_any_one_change_is_seen(size):
    rng = np.random.default_rng(0)
    array = rng.standard_normal(size, dtype=np.float32)
    before = fingerprint(array)
    for place in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
        kept = array[place]
        array[place] = np.nextafter(kept, np.float32(9))
        assert fingerprint(array) != before
        array[place] = kept
    assert fingerprint(array) == before


def test_exchanged_values_and_scaled_arrays_are_seen():
    array = np.random.default_rng(1).standard_normal((7, PART), dtype=np.float32)
    before = fingerprint(array)
    for change in (array[::-1], array[:, ::-1], -array, 2 * array, np.roll(array, 2, axis=1), np.zeros_like(array)):
        assert fingerprint(np.ascontiguousarray(change)) != before


def test_threads_do_not_matter():
    array = np.random.default_rng(2).standard_normal(9 * PART, dtype=np.float32)
    threads, found = parallel.threads(), set()
    try:
        for count in (1, 2, 3):
            parallel.set_threads(count)
            found.add(fingerprint(array))
    finally:
        parallel.set_threads(threads)
    assert len(found) == 1
