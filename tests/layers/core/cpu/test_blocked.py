"""Images in blocks of 16 channels hold the same values as NCHW."""

import numpy as np
import pytest

from layers.core.cpu.blocked import Blocked
from tests.layers.core.cpu.emulated import again

SHAPES = [(1, 16, 5, 16), (2, 20, 7, 21), (1, 3, 1, 1), (3, 33, 9, 70), (1, 48, 6, 129), (2, 1, 4, 15)]


@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip_and_zeros_around(shape, border):
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    blocked = Blocked(shape, border).put(values)
    images, channels, height, width = shape
    expected = np.zeros((images, -(-channels // 16) * 16, height + 2 * border, width + 2 * border), np.float32)
    expected[:, :channels, border : border + height, border : border + width] = values
    expected = expected.reshape(images, -1, 16, *expected.shape[2:]).transpose(0, 1, 3, 4, 2)
    assert np.array_equal(blocked.array, expected)
    room = np.full((images, channels + 1, height, width), 7, np.float32)
    out = np.full(shape, np.nan, np.float32)
    assert np.array_equal(blocked.get(out), values)
    assert np.array_equal(blocked.get(), values) and (room == 7).all()


def test_nothing_beside_the_result_is_written():
    memory = np.full(20 * 7 * 21 + 64, 7, np.float32)
    out = memory[32:-32].reshape(1, 20, 7, 21)
    Blocked(out.shape).put(np.ones(out.shape, np.float32)).get(out)
    assert (out == 1).all() and (memory[:32] == 7).all() and (memory[-32:] == 7).all()


@pytest.mark.parametrize("border", [0, 1, 3])
def test_memory_used_again_has_zeros_around_and_in_missing_channels(border):
    largest = (3, 48, 30, 130)
    blocked = Blocked(largest, border)
    taken = blocked.nbytes
    for shape in [*SHAPES, (0, 16, 4, 4), (1, 16, 0, 5), (1, 16, 5, 0), (1, 20, 1, 2), largest]:
        blocked.array[...] = 7
        blocked.reshape(shape)
        height, width = shape[2:]
        again = blocked.array.copy()
        inside = again[:, :, border : border + height, border : border + width]
        if shape[1] % 16:
            assert not inside[:, -1, ..., shape[1] % 16 :].any()
        inside[...] = 0
        assert not again.any(), shape
    assert blocked.nbytes == taken


def test_empty_batch():
    assert Blocked((0, 16, 4, 4)).put(np.zeros((0, 16, 4, 4), np.float32)).get().shape == (0, 16, 4, 4)


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
