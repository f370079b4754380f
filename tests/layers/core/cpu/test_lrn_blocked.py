"""Normalisation across channels of blocked pictures gives the bits of `layers.lrn`."""

import numpy as np
import pytest

from layers import lrn
from layers.core.cpu import lrn_blocked, parallel
from layers.core.cpu.blocked import Blocked
from tests.layers.core.cpu.emulated import again

SHAPES = [(1, 96, 5, 33), (2, 3, 7, 9), (1, 16, 4, 64), (2, 21, 3, 35), (1, 40, 6, 1), (1, 64, 5, 70)]
NUMBERS = [(2, 1e-4 / 5, 0.75, 1), (2, 0.5, 0.75, 2), (1, 0.3, 0.6, 1), (0, 1, 1, 1), (20, 0.01, 0.75, 1)]  # half, alpha, beta, k


def plain(numbers, x, dy=None):
    """Return y and scale, or dx, from the layer's own kernels."""
    half, alpha, beta, k = numbers[0], *(np.float32(n) for n in numbers[1:])
    flat, y, scale, dx = x.reshape(*x.shape[:2], -1), *(np.empty_like(x).reshape(*x.shape[:2], -1) for _ in range(3))
    pieces = x.shape[0] * -(-flat.shape[2] // lrn.PIXELS)
    lrn.across_cpu(0, pieces, half, alpha, beta, k, flat, scale, y)
    if dy is None:
        return y.reshape(x.shape), scale.reshape(x.shape)
    lrn.across_backward_cpu(0, pieces, half, alpha, beta, flat, scale, y, dy.reshape(flat.shape), dx)
    return dx.reshape(x.shape)


def check(one, wanted):
    got = one.get()
    same = got.view(np.uint32) == wanted.view(np.uint32)
    assert (same | (np.isnan(got) & np.isnan(wanted))).all()
    assert np.array_equal(Blocked(one.shape, one.border).put(got).array, one.array, equal_nan=True)  # zeros around


def run(numbers, x, dy, border):
    """Hold forward and backward of blocked pictures against the layer's kernels."""
    source, target, scale, below = Blocked(x.shape, border).put(x), *(Blocked(x.shape, border) for _ in range(3))
    error = Blocked(x.shape).put(dy)
    y, denominators = plain(numbers, x)
    pictures = source.address, source.picture, target.address, target.picture
    lrn_blocked.across_pictures(*numbers, *pictures)
    check(target, y)
    target.array[...] = 0
    lrn_blocked.across_pictures(*numbers, *pictures, (scale.address, scale.picture))
    check(target, y)
    check(scale, denominators)
    lrn_blocked.across_backward_pictures(*numbers, *pictures, error.address, error.picture, below.address, below.picture)
    check(below, plain(numbers, x, dy))


@pytest.mark.parametrize("border", [0, 1, 3])
@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_layers_bits(shape, numbers, border):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape, dtype=np.float32) * 3 for _ in range(2))
    run(numbers, x, dy, border)


def test_what_is_not_finite():
    x = np.random.default_rng(1).standard_normal((1, 20, 4, 6), dtype=np.float32)
    x[0, 3, 1, 1], x[0, 17, 2, 2], x[0, 19, 3, 3], x[0, 5, 0, 0] = np.nan, np.inf, -np.inf, 3e38
    with np.errstate(all="ignore"):
        run(NUMBERS[1], x, x[:, ::-1].copy(), 1)


def test_without_k_missing_channels_stay_zero():
    x = np.random.default_rng(1).standard_normal((1, 20, 4, 6), dtype=np.float32)
    run((2, 0.5, 0.75, 0), x, x + 1, 0)
    run((2, 0.5, 0.5, 0), x, x + 1, 0)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bits_do_not_depend_on_the_number_of_threads(threads):
    parallel.set_threads(threads)
    rng = np.random.default_rng(2)
    run(NUMBERS[0], *rng.standard_normal((2, 2, 33, 11, 40), dtype=np.float32), 0)


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
