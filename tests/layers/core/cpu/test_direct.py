"""Convolutions by packed patches equal the plain sums, for any window."""

import numpy as np
import pytest

from layers.core.cpu import direct, gemm, parallel
from layers.core.cpu.convolve import Window
from tests.layers.core.cpu import plain, windows
from tests.layers.core.cpu.emulated import again
from tests.layers.core.cpu.windows import make_error, normal

# images, channels, outputs, group, (height, width), kernel, stride, pad, dilation
CASES = {
    "3x3": (2, 5, 7, 1, (9, 11), (3, 3), (1, 1), (1, 1), (1, 1)),
    "few channels, much padding": (1, 3, 16, 1, (6, 5), (3, 3), (1, 1), (30, 30), (1, 1)),
    "1x1": (2, 33, 21, 1, (7, 9), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 grouped": (3, 6, 8, 2, (5, 5), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 with stride": (1, 17, 5, 1, (9, 8), (1, 1), (2, 3), (0, 0), (1, 1)),
    "11x11 stride 4": (2, 3, 20, 1, (43, 39), (11, 11), (4, 4), (2, 5), (1, 1)),
    "stride > kernel": (1, 4, 3, 1, (13, 17), (2, 2), (3, 5), (0, 1), (1, 1)),
    "dilated": (2, 6, 9, 1, (15, 14), (3, 3), (1, 1), (2, 2), (2, 2)),
    "dilated with stride": (1, 6, 9, 3, (15, 14), (3, 2), (2, 1), (1, 2), (3, 2)),
    "grouped 5x5": (2, 8, 12, 2, (9, 33), (5, 5), (1, 1), (2, 2), (1, 1)),
    "depthwise": (2, 5, 5, 5, (9, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    "whole image": (2, 40, 70, 1, (6, 6), (6, 6), (1, 1), (0, 0), (1, 1)),
    "one pixel": (1, 1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    "many pixels": (1, 16, 18, 1, (66, 70), (3, 3), (1, 1), (1, 1), (1, 1)),
    "wide": (1, 20, 30, 1, (40, 70), (3, 5), (1, 1), (1, 2), (1, 1)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def make(case):
    """Return (window, image, weight, error, how): `how` are the keyword arguments of the plain functions."""
    window, image, weight, error = make_error(case)
    how = {"stride": window.stride, "pad": window.pad, "dilation": window.dilation, "group": window.group}
    return window, image, weight, error, how


def close(fast, exact):
    windows.close(fast, exact, 1e-6)


@each_case
def test_forward(case):
    window, image, weight, error, how = make(case)
    bias, out = normal(window.outputs, seed=3), np.full(error.shape, np.nan, np.float32)
    direct.forward(window, image, weight, bias, out)
    exact = plain.convolution(image, weight, bias, **how)
    close(out, exact)
    direct.forward(window, image, weight, None, out, relu=True)
    close(out, np.maximum(exact - bias[:, None, None], 0))


@each_case
def test_image_gradient(case):
    window, image, weight, error, how = make(case)
    bias, out = normal(window.channels, seed=3), np.full(image.shape, np.nan, np.float32)
    exact = plain.image_gradient(error, weight, image.shape, **how)
    direct.image_gradient(window, error, weight, None, out)
    close(out, exact)
    direct.image_gradient(window, error, weight, bias, out)
    close(out, exact + bias[:, None, None])


@each_case
@pytest.mark.parametrize("few", [0, 1 << 16], ids=["many weights", "few weights"])
def test_weight_gradient_adds(case, few, monkeypatch):
    monkeypatch.setattr(direct, "FEW", few)
    window, image, weight, error, how = make(case)
    out = weight.copy()
    direct.weight_gradient(window, image, error, out)
    exact = plain.weight_gradient(image, error, weight.shape, **how)
    close(out, weight + exact)


@pytest.mark.parametrize("axes", [1, 3])
def test_one_and_three_axes(axes):
    shape, kernel = (7,) if axes == 1 else (4, 5, 6), (3,) * axes
    output = tuple((n + 2 - 3) // 2 + 1 for n in shape)
    window = Window(4, 6, 1, shape, kernel, (2,) * axes, (1,) * axes, (1,) * axes, output)
    image, weight = normal(2, 4, *shape), normal(6, 4, *kernel, seed=1)
    error = normal(2, 6, *output, seed=2)
    out, below, gradient = np.empty_like(error), np.empty_like(image), np.zeros_like(weight)
    direct.forward(window, image, weight, None, out)
    direct.image_gradient(window, error, weight, None, below)
    direct.weight_gradient(window, image, error, gradient)
    padded = np.pad(image.astype(np.float64), [(0, 0), (0, 0)] + [(1, 1)] * axes)
    expected, exact_below, exact_gradient = np.zeros(error.shape), np.zeros(padded.shape), np.zeros(weight.shape)
    for tap in np.ndindex(*kernel):
        seen = (..., *(slice(t, t + 2 * (n - 1) + 1, 2) for t, n in zip(tap, output)))
        expected += np.einsum("nc...,mc->nm...", padded[seen], weight[(..., *tap)])
        exact_below[seen] += np.einsum("nm...,mc->nc...", error, weight[(..., *tap)])
        exact_gradient[(..., *tap)] = np.einsum("nmp,ncp->mc", error.reshape(2, 6, -1), padded[seen].reshape(2, 4, -1))
    close(out, expected)
    close(below, exact_below[(..., *(slice(1, -1),) * axes)])
    close(gradient, exact_gradient)


def test_columns_added_back_a_few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr(direct, "COLUMNS", 1)
    window, image, weight, error, how = make(CASES["11x11 stride 4"])
    out = np.empty_like(image)
    direct.image_gradient(window, error, weight, None, out)
    close(out, plain.image_gradient(error, weight, image.shape, **how))


def test_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(gemm, "CHUNK", 2 * gemm.COLUMNS)
    for name in ("wide", "many pixels", "grouped 5x5", "dilated with stride"):
        window, image, weight, error, _ = make(CASES[name])
        results = []
        for threads in (1, 2, 3):
            parallel.set_threads(threads)
            out, below, gradient = np.empty_like(error), np.empty_like(image), np.zeros_like(weight)
            direct.forward(window, image, weight, None, out)
            direct.image_gradient(window, error, weight, None, below)
            direct.weight_gradient(window, image, error, gradient)
            results.append((out, below, gradient))
        for other in results[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
