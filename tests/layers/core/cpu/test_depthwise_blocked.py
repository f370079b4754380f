"""Depthwise convolutions of blocked pictures equal the plain sums, for any window, layout and box."""

import functools

import numpy as np
import pytest

from layers.core.cpu import depthwise_blocked, parallel
from layers.core.cpu.blocked import Blocked
from tests.layers.core.cpu import windows
from tests.layers.core.cpu.emulated import again
from tests.layers.core.cpu.windows import Planes, a_box_has_the_bits_of_the_whole, close, make, nothing_around

# images, channels, outputs, group, (height, width), kernel, stride, pad, dilation
CASES = {
    "3x3": (2, 20, 20, 20, (9, 31), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3 stride 2": (1, 48, 48, 48, (13, 35), (3, 3), (2, 2), (1, 1), (1, 1)),
    "3x3 narrow": (1, 16, 16, 16, (3, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
    "5x5 dilated": (2, 3, 3, 3, (15, 34), (5, 5), (1, 1), (4, 4), (2, 2)),
    "much padding": (1, 17, 17, 17, (6, 5), (3, 3), (1, 1), (9, 20), (1, 1)),
    "edges and stride": (1, 20, 20, 20, (4, 40), (5, 5), (2, 1), (6, 4), (2, 2)),
    "rows beyond the picture": (1, 16, 16, 16, (2, 33), (3, 3), (1, 2), (7, 1), (2, 1)),
    "1x3": (1, 16, 16, 16, (5, 40), (1, 3), (3, 2), (0, 1), (1, 1)),
    "one channel": (1, 1, 1, 1, (8, 9), (4, 4), (4, 4), (0, 0), (1, 1)),
    "many rows": (1, 16, 16, 16, (70, 90), (3, 3), (1, 1), (1, 1), (1, 1)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def run(window, image, weight, source, target, borders=(0, 0), **more):
    weights = depthwise_blocked.prepare(window, weight)
    return windows.run(depthwise_blocked, window, image, weights, source, target, borders, **more)


@pytest.mark.parametrize("borders", [(0, 0), (1, 1), (4, 2)], ids=str)
@each_case
def test_forward(case, borders):
    window, image, weight, bias, exact = make(case)
    assert depthwise_blocked.fits(window)
    top = run(window, image, weight, Blocked, Blocked, borders, bias=bias, relu=True)
    close(top.get(), np.maximum(exact, 0))
    nothing_around(top)
    close(run(window, image, weight, Blocked, Planes, borders).get(), exact - bias[:, None, None])
    close(run(window, image, weight, Planes, Blocked, borders, bias=bias).get(), exact)


@pytest.mark.parametrize("target", [Blocked, Planes])
@each_case
def test_a_box_has_the_bits_of_the_whole(case, target):
    window, image, weight, bias, _ = make(case)
    a_box_has_the_bits_of_the_whole(window, functools.partial(run, window, image, weight, Blocked, target, (1, 1), bias=bias))


@each_case
def test_bits_depend_neither_on_threads_nor_on_the_border(case):
    window, image, weight, bias, _ = make(case)
    results = []
    for threads, border in ((1, 0), (2, 1), (3, 4)):
        parallel.set_threads(threads)
        results.append(run(window, image, weight, Blocked, Blocked, (border, 0), bias=bias).get())
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_nan_stays_in_its_channel():
    window, image, weight, bias, _ = make(CASES["3x3"])
    image[0, 18, 4, 4] = np.nan
    top = run(window, image, weight, Blocked, Blocked, (1, 1), bias=bias, relu=True)
    values = top.get()
    assert np.isnan(values[0, 18, 3:6, 3:6]).all() and np.isnan(values).sum() == 9
    nothing_around(top)


def test_no_images():
    window, image, weight, _, _ = make(CASES["3x3"])
    assert run(window, image[:0], weight, Blocked, Blocked).get().shape == (0, 20, 9, 31)


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
