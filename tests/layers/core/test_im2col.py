"""im2col and col2im kernels against their plain twins, which are held against the definition."""

import itertools

import numpy as np
import pytest

from layers.core.cpu.convolve import Window
from layers.core.cpu.im2col import col2im, col2im_cpu, im2col, im2col_cpu, inside_at

rng = np.random.RandomState(8)
SIZES = [  # image, kernel, stride, pad, dilation, output
    ((9,), (3,), (2,), (1,), (2,), (4,)),
    ((6, 7), (3, 2), (1, 2), (1, 1), (1, 2), (6, 4)),
    ((5, 4), (1, 3), (2, 1), (2, 4), (1, 3), (5, 6)),
    ((4, 5, 3), (2, 3, 2), (2, 1, 1), (1, 1, 0), (1, 2, 1), (3, 3, 2)),
]


def window(channels, sizes):
    image, kernel, stride, pad, dilation, output = sizes
    return Window(channels, 1, 1, image, kernel, stride, pad, dilation, output)


@pytest.mark.parametrize("sizes", SIZES)
def test_plain_im2col_is_the_definition(sizes):
    spatial, kernel, stride, pad, dilation, output = sizes
    image = rng.randn(2, *spatial)
    columns = im2col(image, kernel, stride, pad, dilation, output).reshape(2, *kernel, *output)
    for c, *rest in itertools.product(range(2), *map(range, kernel), *map(range, output)):
        k, o = rest[: len(kernel)], rest[len(kernel) :]
        at = [i * s - p + j * d for i, s, p, j, d in zip(o, stride, pad, k, dilation)]
        inside = all(0 <= i < n for i, n in zip(at, spatial))
        assert columns[(c, *k, *o)] == (image[(c, *at)] if inside else 0)


@pytest.mark.parametrize("sizes", SIZES)
def test_plain_col2im_is_the_transpose(sizes):
    spatial, *geometry, output = sizes
    image = rng.randn(2, *spatial)
    columns = rng.randn(2 * int(np.prod(geometry[0])), int(np.prod(output)))
    there = (im2col(image, *geometry, output) * columns).sum()
    back = (image * col2im(columns, spatial, *geometry, output)).sum()
    assert there == pytest.approx(back, rel=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_kernels_equal_their_plain_twins_in_any_cut(sizes):
    spatial, *geometry, output = sizes
    wd = window(3, sizes)
    image = rng.randn(3, *spatial)
    whole = im2col(image, *geometry, output)
    lines = wd.image3[0] * wd.image3[1]
    got = np.full_like(whole, np.nan)
    back = np.zeros((3, *wd.image3))
    for first in range(0, wd.rows, 2):
        last = min(first + 2, wd.rows)
        part = np.full((whole.shape[0], (last - first) * wd.width), np.nan)
        im2col_cpu(0, 4, wd.numbers, image.reshape(3, *wd.image3), first, last, part)
        im2col_cpu(4, whole.shape[0], wd.numbers, image.reshape(3, *wd.image3), first, last, part)
        got[:, first * wd.width : last * wd.width] = part
        for line in range(0, lines, 3):
            col2im_cpu(0, 1, wd.numbers, part, first, last, back, line, min(line + 3, lines))
            col2im_cpu(1, 3, wd.numbers, part, first, last, back, line, min(line + 3, lines))
    np.testing.assert_array_equal(got, whole)
    np.testing.assert_allclose(back.reshape(image.shape), col2im(whole, spatial, *geometry, output), atol=1e-12)


def test_negative_pad_crops():
    wd = Window(1, 1, 1, (8, 6), (3, 3), (1, 1), (-2, -1), (1, 1), (2, 2))
    image = rng.randn(1, 1, 8, 6)
    part = np.empty((9, 4))
    im2col_cpu(0, 9, wd.numbers, image, 0, 2, part)
    inside = np.ascontiguousarray(image[0, :, 2:6, 1:5])
    np.testing.assert_array_equal(part, im2col(inside, (3, 3), (1, 1), (0, 0), (1, 1), (2, 2)))


def test_inside_is_exact():
    for shift, stride, size, count in itertools.product(range(-7, 8), range(1, 5), range(1, 6), range(6)):
        good = [i for i in range(count) if 0 <= i * stride + shift < size]
        low, high = inside_at(shift, stride, size, count)
        assert list(range(low, high)) == good
        assert 0 <= low <= high <= count
