"""Pooling of blocked pictures gives the bits of `layers.pooling`, and nothing around them."""

import numpy as np
import pytest

from layers import pooling
from layers.core.cpu import parallel, pool_blocked
from layers.core.cpu.blocked import Blocked
from layers.core.cpu.pool_ir import LOWEST
from netspec import geometry
from tests.layers.core.cpu.emulated import again

# shape, kernel, stride, pad, whether sizes round up
CASES = [((1, 16, 12, 14), (2, 2), (2, 2), (0, 0), True), ((2, 3, 7, 9), (2, 2), (2, 2), (0, 0), True),
         ((1, 21, 7, 9), (2, 2), (2, 2), (0, 0), False), ((2, 40, 9, 12), (3, 3), (2, 2), (0, 0), True),
         ((1, 20, 8, 8), (3, 3), (2, 2), (0, 0), False), ((1, 16, 9, 7), (3, 3), (1, 1), (1, 1), True),
         ((1, 16, 10, 11), (3, 3), (2, 2), (1, 1), True), ((1, 3, 13, 13), (3, 3), (3, 3), (1, 1), True),
         ((1, 21, 4, 4), (2, 2), (3, 3), (1, 1), True), ((1, 16, 9, 19), (2, 1), (3, 5), (0, 0), True),
         ((2, 16, 5, 9), (1, 4), (2, 3), (0, 1), True), ((1, 17, 7, 6), (7, 6), (1, 1), (0, 0), True),
         ((1, 5, 1, 1), (2, 2), (2, 2), (0, 0), True), ((1, 16, 40, 5), (5, 3), (1, 2), (2, 1), True)]
KINDS = ["numbers", "ties", "rare"]


def values(kind, shape):
    """Return normal numbers, a few repeated ones, or many of those that need rules."""
    rng = np.random.default_rng(3)
    if kind == "numbers":
        return rng.standard_normal(shape, dtype=np.float32)
    if kind == "ties":
        return rng.choice(np.array([-1, -0.0, 0, 1], np.float32), shape)
    return rng.choice(np.array([np.nan, -np.inf, LOWEST, np.nan, -np.inf, LOWEST, np.inf, -0.0, 1], np.float32), shape,
                      p=[0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.02, 0.04, 0.04])


def top_size(case):
    shape, kernel, stride, pad, ceil = case
    return tuple(geometry.pool_out(*lengths, ceil=ceil, padded=any(pad), fail=AssertionError)
                 for lengths in zip(shape[2:], kernel, stride, pad))


def numbers_of(case):
    return np.array(case[1:4], np.int64).reshape(-1)


def same(one, other):
    assert np.array_equal(one.view(np.uint32), other.view(np.uint32))


def blocked(shape, border, values=None):
    """Return a `Blocked` with `values` or rubbish inside, and zeros around."""
    return Blocked(shape, border).put(np.full(shape, 7, np.float32) if values is None else values)


def check_around(one):
    """What is around the image and beyond the last channel must be zero."""
    again = Blocked(one.shape, one.border).put(one.get())
    same(again.array, one.array)


def planes(array):
    return array.reshape(-1, *array.shape[2:])


def plain(case, bottom, error=None, average=False):
    """Return what the layer's own kernels make: the top, or the gradient of the bottom."""
    numbers, image = numbers_of(case), planes(bottom)
    out = np.empty((*case[0][:2], *top_size(case)), np.float32)
    top, kept, below = planes(out), np.empty(planes(out).shape, np.int32), np.empty_like(bottom)
    rows = top.shape[0] * top.shape[1]
    if average:
        pooling.average_cpu(0, rows, numbers, image, top)
        if error is not None:
            pooling.average_backward_cpu(0, top.shape[0], numbers, planes(error), planes(below))
    else:
        pooling.max_cpu(0, rows, numbers, image, top, kept)
        if error is not None:
            pooling.winners_backward_cpu(0, top.shape[0], kept, planes(error), planes(below))
    return out if error is None else below


@pytest.mark.parametrize("border", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case, kind, border):
    image = values(kind, case[0])
    source = blocked(image.shape, border, image)
    for average in (False, True):
        wanted = plain(case, image, average=average)
        target = blocked(wanted.shape, border)
        run = pool_blocked.average_pictures if average else pool_blocked.max_pictures
        with np.errstate(all="ignore"):
            run(numbers_of(case), source.address, source.picture, target.address, target.picture)
        got = target.get()
        assert np.array_equal(got, wanted, equal_nan=True) and (np.signbit(got) == np.signbit(wanted))[~np.isnan(got)].all()
        check_around(target)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("average", [False, True])
def test_box_computes_these_pixels_only(case, average):
    image = values("numbers", case[0])
    wanted = plain(case, image, average=average)
    height, width = wanted.shape[2:]
    y0, y1, x0, x1 = height // 3, max(height // 3, height - 1), width // 4, width
    source, target = blocked(image.shape, 1, image), blocked(wanted.shape, 1)
    run = pool_blocked.average_pictures if average else pool_blocked.max_pictures
    run(numbers_of(case), source.address, source.picture, target.address, target.picture, (y0, y1, x0, x1))
    expected = np.full_like(wanted, 7)
    expected[:, :, y0:y1, x0:x1] = wanted[:, :, y0:y1, x0:x1]
    same(target.get(), expected)
    check_around(target)


@pytest.mark.parametrize("border", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_backward(case, kind, border):
    image = values(kind, case[0])
    error = values("ties" if kind == "ties" else "numbers", (*case[0][:2], *top_size(case)))
    source, above, below = blocked(image.shape, border, image), blocked(error.shape, 0, error), blocked(image.shape, border)
    pictures = source.address, source.picture, above.address, above.picture, below.address, below.picture
    pool_blocked.max_backward_pictures(numbers_of(case), *pictures)
    same(below.get(), plain(case, image, error))
    check_around(below)


@pytest.mark.parametrize("border", [0, 1])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_average_backward(case, border):
    error = values("numbers", (*case[0][:2], *top_size(case)))
    above, below = blocked(error.shape, border, error), blocked(case[0], border)
    pool_blocked.average_backward_pictures(numbers_of(case), above.address, above.picture, below.address, below.picture)
    same(below.get(), plain(case, np.zeros(case[0], np.float32), error, average=True))
    check_around(below)


def test_errors_that_are_not_finite_reach_only_their_winners():
    case = ((1, 16, 8, 8), (3, 3), (2, 2), (0, 0), True)
    image, error = values("numbers", case[0]), values("numbers", (1, 16, 4, 4))
    error[0, :, 1, 1], error[0, 3:, 2, 0] = np.nan, np.inf
    source, above, below = (blocked(a.shape, 0, a) for a in (image, error, image))
    pool_blocked.max_backward_pictures(numbers_of(case), source.address, source.picture, above.address, above.picture,
                                       below.address, below.picture)
    np.testing.assert_array_equal(below.get(), plain(case, image, error))


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_bits_do_not_depend_on_the_number_of_threads(threads):
    parallel.set_threads(threads)
    for case in (((1, 16, 41, 20), (3, 3), (2, 2), (0, 0), True), ((1, 20, 64, 9), (2, 2), (2, 2), (0, 0), True),
                 ((1, 16, 31, 9), (5, 5), (1, 1), (2, 2), True)):
        image, error = values("ties", case[0]), values("numbers", (*case[0][:2], *top_size(case)))
        source, above, below = (blocked(a.shape, 1, a) for a in (image, error, image))
        pool_blocked.max_pictures(numbers_of(case), source.address, source.picture, above.address, above.picture)
        same(above.get(), plain(case, image))
        above.put(error)
        pool_blocked.max_backward_pictures(numbers_of(case), source.address, source.picture, above.address, above.picture,
                                           below.address, below.picture)
        same(below.get(), plain(case, image, error))
        pool_blocked.average_backward_pictures(numbers_of(case), above.address, above.picture, below.address, below.picture)
        same(below.get(), plain(case, image, error, average=True))


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
