"""MAX by vectors of windows gives the bits of windows one by one, and of rows tap after tap."""

import numpy as np
import pytest

from layers import pooling
from layers.core.cpu.pool_rows import NARROW, WIDE
from netspec import geometry
from tests.layers.core.cpu.emulated import again
from tests.layers.core.cpu.test_pool_blocked import KINDS, values

KERNELS = (2, 2, 0), (3, 2, 0), (3, 1, 1), (3, 2, 1), (2, 2, 1), (3, 1, 0)  # kernel, stride, pad
SIZES = [(*numbers, width) for numbers in KERNELS for width in (2 * NARROW, 2 * WIDE + 1, 2 * WIDE - 1, 70, 5, 141)]


def one_by_one(numbers, image, size):
    out, winners = np.empty((image.shape[0], *size), image.dtype), np.empty((image.shape[0], *size), np.int32)
    for plane, row, column in np.ndindex(out.shape):
        window = pooling.window_at(numbers, row, column, *image.shape[1:])
        largest, winner = pooling.largest_at(image, plane, *window)
        if winner < 0:
            winner = pooling.first_at(image, plane, *window)
            largest = image[plane].reshape(-1)[winner] if winner >= 0 else largest
        out[plane, row, column], winners[plane, row, column] = largest, winner
    return out, winners


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel, stride, pad, width", SIZES)
def test_same_bits(kernel, stride, pad, width, kind):
    numbers = np.array([kernel, kernel, stride, stride, pad, pad], np.int64)
    # The image ends where its memory does.
    image = values(kind, (3, 9, width))
    size = tuple(geometry.pool_out(length, kernel, stride, pad, ceil=True, padded=pad > 0, fail=AssertionError)
                 for length in image.shape[1:])
    wanted, indices = one_by_one(numbers, image, size)
    for real in (np.float32, np.float64):  # float64 goes tap after tap
        out, winners = np.empty(wanted.shape, real), np.empty(wanted.shape, np.int32)
        pooling.max_cpu(0, size[0] * 3, numbers, image.astype(real), out, winners)
        assert np.array_equal(winners, indices)
        assert np.array_equal(out.astype(np.float32), wanted, equal_nan=True)
        assert np.array_equal(np.signbit(out), np.signbit(wanted))
        alone = np.empty(wanted.shape, real)
        pooling.max_cpu(0, size[0] * 3, numbers, image.astype(real), alone, np.empty((0, 0, 0), np.int32))
        assert alone.tobytes() == out.tobytes()


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
