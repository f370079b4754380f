"""Gradients by direct summation on blocked pictures equal the plain sums, for any window and layout."""

import numpy as np
import pytest

from layers.core.cpu import direct_blocked, direct_image_gradient, direct_weight_gradient, parallel
from layers.core.cpu.blocked import Blocked
from layers.core.cpu.convolve import plain_backward_image, plain_backward_weight, turn
from tests.layers.core.cpu import windows
from tests.layers.core.cpu.emulated import again
from tests.layers.core.cpu.test_direct_blocked import CASES, PLANES
from tests.layers.core.cpu.windows import Planes, make, make_error, normal, nothing_around

# images, channels, outputs, group, (height, width), kernel, stride, pad, dilation
MORE = {
    "1x1 to one output": (1, 16, 1, 1, (3, 3), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 stride 2, many outputs": (1, 40, 300, 1, (21, 33), (1, 1), (2, 2), (0, 0), (1, 1)),
    "7x7 of many outputs": (1, 20, 290, 1, (12, 11), (7, 7), (1, 1), (0, 0), (1, 1)),
    "7x7 stride 2": (2, 35, 24, 1, (23, 39), (7, 7), (2, 2), (3, 3), (1, 1)),
    "stride beyond the kernel": (1, 17, 33, 1, (11, 20), (2, 2), (3, 4), (1, 0), (1, 1)),
    "grouped, stride 2": (2, 32, 96, 2, (9, 11), (3, 3), (2, 2), (1, 1), (1, 1)),
    "rest of the pixels": (3, 16, 16, 1, (20, 30), (2, 2), (1, 1), (0, 0), (1, 1)),
    "few weights, shares": (3, 18, 20, 1, (40, 50), (1, 3), (1, 1), (0, 1), (1, 1)),
}
ALL = {**CASES, **{f"planes: {name}": case for name, case in PLANES.items()}, **MORE}
FITTING = {name: case for name, case in ALL.items() if direct_weight_gradient.fits(make(case)[0])}


def layouts(window):
    return [(Blocked, 0), (Blocked, 1), (Blocked, 3), (Planes, 0)]


def close(fast, exact):
    windows.close(fast, exact, 1e-6)


def weight_gradient(window, image, error, source=Blocked, over=Blocked, borders=(0, 0), onto=None):
    gradient = np.zeros((window.outputs, window.channels // window.group, *window.kernel), np.float32) if onto is None else onto
    bottom, top = source(image.shape, borders[0]).put(image), over(error.shape, borders[1]).put(error)
    direct_weight_gradient.weight_gradient_pictures(window, *bottom.place, *top.place, gradient)
    return gradient


def image_gradient(window, weight, error, shape, over=Blocked, target=Blocked, borders=(0, 0)):
    """Return the picture of the image's gradient, of which every pixel was 7 before."""
    top, bottom = over(error.shape, borders[0]).put(error), target(shape, borders[1])
    bottom.put(np.full(shape, 7, np.float32))
    weights = direct_image_gradient.prepare_turned(window, weight) if direct_image_gradient.turns(window) else weight
    direct_image_gradient.image_gradient_pictures(window, *top.place, weights, *bottom.place)
    return bottom


@pytest.mark.parametrize("name", FITTING)
def test_weight_gradient(name):
    window, image, weight, error = make_error(FITTING[name])
    before = normal(*weight.shape, seed=4)
    exact = before.astype(np.float64)
    plain_backward_weight(window, image.astype(np.float64), error.astype(np.float64), exact)
    results = []
    for source, border in layouts(window):
        for over, around in ((Blocked, 0), (Blocked, 2), (Planes, 0)):
            results.append(weight_gradient(window, image, error, source, over, (border, around), before.copy()))
            close(results[-1], exact)
    for other in results[1:9]:
        assert np.array_equal(results[0], other)  # neither the border nor the error's layout shows


@pytest.mark.parametrize("name", FITTING)
def test_image_gradient(name):
    window, image, weight, error = make_error(FITTING[name])
    assert direct_image_gradient.fits(window)
    exact = np.empty(image.shape)
    plain_backward_image(window, error.astype(np.float64), weight.astype(np.float64), None, exact)
    for over, around in ((Blocked, 0), (Blocked, 2), (Planes, 0)):
        for target, border in layouts(window):
            result = image_gradient(window, weight, error, image.shape, over, target, (around, border))
            close(result.get(), exact)
            if target is Blocked:
                nothing_around(result)


def test_both_ways_to_the_image_are_tested():
    assert {direct_image_gradient.turns(make(case)[0]) for case in FITTING.values()} == {True, False}


@pytest.mark.parametrize("name", ["1x1 narrow", "3x3", "5x5 grouped", "7x7 of many outputs"])
def test_turned_weights_are_those_of_the_turned_convolution(name):
    window, _, weight, _ = make_error(FITTING[name])
    turned = turn(window, weight, np.empty(weight.size, np.float32)).reshape(-1, window.outputs // window.group, *window.kernel)
    expected = direct_blocked.prepare(window.turned, turned)
    out = direct_image_gradient.prepare_turned(window, weight + 1)
    assert direct_image_gradient.prepare_turned(window, weight, out) is out and np.array_equal(out, expected)


def test_groups_that_are_no_whole_blocks_are_not_for_us():
    window = make((1, 24, 32, 2, (5, 6), (3, 3), (1, 1), (1, 1), (1, 1)))[0]
    assert not direct_weight_gradient.fits(window) and not direct_image_gradient.fits(window)


@pytest.mark.parametrize("name", ["1x1 long sums", "3x3 stride 2", "5x5 grouped", "few weights, shares", "7x7 of many outputs",
                                  "planes: 11x11 stride 4", "planes: wide"])
def test_bits_do_not_depend_on_the_number_of_threads(name):
    window, image, weight, error = make_error(FITTING[name])
    source = Planes if name.startswith("planes") else Blocked
    results = []
    for threads in (1, 2, 5):
        parallel.set_threads(threads)
        results.append((weight_gradient(window, image, error, source),
                        image_gradient(window, weight, error, image.shape).get()))
    for others in results[1:]:
        assert all(np.array_equal(one, other) for one, other in zip(results[0], others))


def test_infinite_errors_leave_missing_channels_zero():
    window, image, weight, error = make_error(FITTING["7x7 of many outputs"])
    error[0, 3, 2, 2] = np.inf
    nothing_around(image_gradient(window, weight, error, image.shape, borders=(1, 1)))


def test_no_images():
    window, image, weight, error = make_error(FITTING["3x3"])
    assert not weight_gradient(window, image[:0], error[:0]).any()
    assert image_gradient(window, weight, error[:0], (0, *image.shape[1:])).get().size == 0


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
