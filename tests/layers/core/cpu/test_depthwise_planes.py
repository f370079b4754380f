"""Depthwise convolutions of planes with a stride equal the plain loops, for any window."""

import numpy as np
import pytest

from layers.core.cpu import depthwise, depthwise_planes, parallel
from layers.core.cpu.convolve import Window
from tests.layers.core.cpu.emulated import again

# images, channels, (height, width), kernel, stride, pad, dilation
CASES = {
    "bilinear, 2": (2, 3, (10, 38), (4, 4), (2, 2), (0, 0), (1, 1)),
    "bilinear, 2, padded": (1, 2, (32, 78), (4, 4), (2, 2), (1, 1), (1, 1)),
    "bilinear, 8": (1, 5, (40, 136), (16, 16), (8, 8), (0, 0), (1, 1)),
    "bilinear, 8, padded": (2, 2, (24, 261), (16, 16), (8, 8), (4, 4), (1, 1)),
    "bilinear, 16": (1, 2, (64, 80), (32, 32), (16, 16), (0, 0), (1, 1)),
    "bilinear, 32": (1, 3, (127, 575), (63, 63), (32, 32), (0, 0), (1, 1)),
    "odd stride": (1, 2, (21, 77), (5, 5), (3, 3), (1, 1), (1, 1)),
    "many phases": (1, 2, (50, 300), (40, 40), (31, 31), (3, 5), (1, 1)),
    "stride above kernel": (1, 2, (17, 65), (2, 3), (4, 5), (0, 0), (1, 1)),
    "dilation": (2, 2, (19, 60), (3, 4), (2, 3), (2, 1), (3, 2)),
    "dilation that meets some phases": (1, 2, (19, 60), (3, 4), (2, 4), (2, 1), (2, 2)),
    "stride 1": (1, 3, (9, 40), (3, 3), (1, 1), (1, 1), (1, 1)),
    "stride 1 across": (1, 3, (9, 40), (3, 3), (2, 1), (1, 1), (1, 2)),
    "much padding": (1, 2, (6, 20), (3, 3), (2, 2), (9, 30), (1, 1)),
    "one vector": (1, 1, (5, 16), (4, 4), (2, 2), (0, 0), (1, 1)),
    "one axis": (2, 3, (83,), (7,), (3,), (2,), (1,)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def make(case):
    """Return (window, small image, weight, bias, large image)."""
    images, channels, size, kernel, stride, pad, dilation = case
    output = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, pad, dilation))
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(shape, np.float32) for shape in
              ((images, channels, *output), (channels, 1, *kernel), (channels,), (images, channels, *size))]
    return Window(channels, channels, channels, size, kernel, stride, pad, dilation, output), *arrays


def close(value, exact):
    assert value.dtype == np.float32
    assert np.abs(value - exact).max() <= 2e-6 * max(1, np.abs(exact).max())


def run(function, window, source, weight, bias, target):
    """Return what `function` writes to an array like `target`."""
    result = np.full_like(target, 7)
    function(window, source, weight, bias, result)
    return result


@each_case
def test_both_equal_the_plain_loops(case):
    window, small, weight, bias, large = make(case)
    assert depthwise_planes.fits(window, small, weight, large)
    exact = [one.astype(np.float64) for one in (small, weight, bias, large)]  # for which `depthwise` takes the loops
    for with_bias, exact_bias in ((bias, exact[2]), (None, None)):
        close(run(depthwise_planes.backward_image, window, small, weight, with_bias, large),
              run(depthwise.backward_image, window, exact[0], exact[1], exact_bias, exact[3]))
        close(run(depthwise_planes.forward, window, large, weight, with_bias, small),
              run(depthwise.forward, window, exact[3], exact[1], exact_bias, exact[0]))


@each_case
def test_bits_do_not_depend_on_threads(case):
    window, small, weight, bias, large = make(case)
    results = []
    for threads in (1, 2, 5):
        parallel.set_threads(threads)
        results.append((run(depthwise_planes.backward_image, window, small, weight, bias, large),
                        run(depthwise_planes.forward, window, large, weight, bias, small)))
    for others in results[1:]:
        assert all(np.array_equal(one, other) for one, other in zip(results[0], others))


def test_narrow_rows_and_other_dtypes_are_left_to_the_loops():
    window, small, weight, bias, large = make((1, 2, (9, 15), (3, 3), (2, 2), (1, 1), (1, 1)))
    assert not depthwise_planes.fits(window, small, weight, large)
    exact = run(depthwise.backward_image, window, *(one.astype(np.float64) for one in (small, weight, bias, large)))
    close(run(depthwise.backward_image, window, small, weight, bias, large), exact)
    window, small, weight, _, large = make(CASES["odd stride"])
    assert not depthwise_planes.fits(window, small, weight.astype(np.float64), large)
    assert not depthwise_planes.fits(window, small, weight, large[:, :, ::-1])


def test_nan_reaches_as_far_as_a_kernel_of_whole_strides():
    window, small, weight, bias, large = make(CASES["odd stride"])  # 5 taps, padded to 6, less 1 of the border
    small[0, 1, 2, 10] = np.nan
    large = run(depthwise_planes.backward_image, window, small, weight, bias, large)
    assert np.isnan(large[0, 1, 5:10, 29:35]).all() and np.isnan(large).sum() == 30


def test_no_images():
    window, small, weight, bias, large = make(CASES["odd stride"])
    assert run(depthwise_planes.backward_image, window, small[:0], weight, bias, large[:0]).shape == (0, 2, 21, 77)


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
