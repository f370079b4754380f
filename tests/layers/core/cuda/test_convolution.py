"""Convolutions on a card against numpy's."""

import numpy as np
import pytest

from layers.core.cpu import convolve
from layers.core.cpu.convolve import Window
from layers.core.cuda import implicit, tiles
from layers.core.cuda.convolution import CardWindow, bias_gradient
from netspec import geometry
from tests.layers.core.cuda.support import card, get, put, simulated

pytestmark = simulated

# channels, outputs, group, image, kernel, stride, pad, dilation
SHAPES = {
    "one pixel": (3, 2, 1, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    "odd": (3, 5, 1, (7, 6), (3, 2), (1, 1), (1, 0), (1, 1)),
    "stride above the kernel": (2, 2, 1, (9, 8), (2, 2), (3, 3), (0, 1), (1, 1)),
    "group and dilation": (4, 6, 2, (8, 9), (3, 3), (2, 1), (2, 2), (2, 1)),
    "depthwise": (3, 3, 3, (6, 5), (3, 3), (1, 2), (1, 1), (1, 1)),
    "upsampling": (2, 2, 2, (9, 10), (4, 4), (2, 2), (1, 1), (1, 1)),
    "many taps": (2, 2, 2, (8, 11), (8, 9), (4, 4), (2, 2), (1, 1)),
    "one axis": (3, 4, 1, (9,), (4,), (2,), (1,), (1,)),
}


def make(channels, outputs, group, image, kernel, stride, pad, dilation):
    output = tuple(geometry.conv_out(*lengths, fail=pytest.fail) for lengths in zip(image, kernel, stride, pad, dilation))
    return Window(channels, outputs, group, image, kernel, stride, pad, dilation, output)


def values(window, batch, seed=0):
    """Return an image, an output's gradient, weights and biases of both sides."""
    rng = np.random.default_rng(seed)
    shapes = ((batch, window.channels, *window.image), (batch, window.outputs, *window.output),
              (window.outputs, window.channels // window.group, *window.kernel), (window.outputs,), (window.channels,))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def close(ours, expected, tolerance=2e-6):
    assert ours.shape == expected.shape
    assert np.isfinite(ours).all()
    assert abs(ours - expected).max() <= tolerance * max(1, abs(expected).max())


def expect(window, image, error, weight, bias, below, first):
    """Return forward, the image's gradient plus `below`, and the weights' gradient added to `first`, in float64."""
    image, error, weight, bias, below = (array.astype(np.float64) for array in (image, error, weight, bias, below))
    out, back, gradient = np.empty_like(error), np.empty_like(image), first.astype(np.float64)
    convolve.plain_forward(window, image, weight, bias, out)
    convolve.plain_backward_image(window, error, weight, below, back)
    convolve.plain_backward_weight(window, image, error, gradient)
    return out, back, gradient


@pytest.mark.parametrize("name", SHAPES)
def test_plain_kernels_equal_numpy(name):
    window = make(*SHAPES[name])
    image, error, weight, bias, below = values(window, 2)
    first = np.full_like(weight, 0.5)
    out, back, gradient = expect(window, image, error, weight, bias, below, first)
    ours = CardWindow(card(), window, "plain")
    parts = [put(array) for array in (image, error, weight, bias, below, first, out, back)]
    x, dy, w, b, b2, dw, y, dx = (span for _, span in parts)
    ours.forward(x, w, b, y, 2)
    close(get(y, out.shape), out)
    ours.forward(x, w, b, y, 2, rectify=True)
    close(get(y, out.shape), np.maximum(out, 0))
    ours.forward(x, w, None, y, 2)
    close(get(y, out.shape), out - bias.reshape(-1, *(1,) * len(window.image)))
    ours.image_gradient(dy, w, b2, dx, 2)
    close(get(dx, back.shape), back)
    ours.weight_gradient(x, dy, dw, 2)
    close(get(dw, gradient.shape), gradient, 4e-6)


def test_dense_weights_with_a_diagonal_are_one_kernel_a_channel():
    window = make(2, 2, 1, (5, 6), (4, 4), (2, 2), (1, 1), (1, 1))
    image, error, weight, bias, below = values(window, 2)
    weight *= np.eye(2, dtype=np.float32)[:, :, None, None]
    out, back, _ = expect(window, image, error, weight, 0 * bias, below, weight)
    ours = CardWindow(card(), window, "plain")
    parts = [put(array) for array in (image, error, weight, below, out, back)]
    x, dy, w, b2, y, dx = (span for _, span in parts)
    ours.upsample(dy, w, b2, dx, 2)
    close(get(dx, back.shape), back)
    ours.downsample(x, w, y, 2)
    close(get(y, out.shape), out)


def test_rectify_keeps_nan():
    window = make(1, 1, 1, (1, 3), (1, 1), (1, 1), (0, 0), (1, 1))
    parts = [put(array) for array in ([np.nan, -1, 2], [1], np.zeros(3))]
    x, w, y = (span for _, span in parts)
    CardWindow(card(), window).forward(x, w, None, y, 1, rectify=True)
    np.testing.assert_array_equal(get(y, 3), np.float32([np.nan, 0, 2]))


@pytest.mark.parametrize("batch, channels, pixels", [(1, 1, 1), (2, 3, 5), (3, 2, 37)])
def test_bias_gradient_adds_each_channel(batch, channels, pixels):
    error = np.random.default_rng(1).standard_normal((batch, channels, pixels)).astype(np.float32)
    parts = [put(error), put(np.ones(channels))]
    bias_gradient(card(), parts[0][1], parts[1][1], batch, channels, pixels)
    close(get(parts[1][1], channels), 1 + error.sum((0, 2), dtype=np.float64), 1e-6)


TILED = {
    "odd": (3, 5, 1, (7, 6), (3, 2), (1, 1), (1, 0), (1, 1)),
    "rows of four, more than a tile": (4, 66, 1, (6, 8), (1, 1), (1, 1), (0, 0), (1, 1)),
    "stride": (2, 3, 1, (8, 7), (3, 3), (2, 3), (1, 1), (1, 1)),
    "stride above the kernel": (2, 2, 1, (9, 8), (2, 2), (3, 3), (0, 1), (1, 1)),
    "group and dilation": (4, 6, 2, (6, 7), (3, 3), (2, 1), (2, 2), (2, 1)),
    "one axis": (3, 4, 1, (9,), (4,), (2,), (1,), (1,)),
}


def tiled(monkeypatch, window, how, batch=2, steps=None, image_too=True):
    """Compute all three, or without the image's gradient, by tiles of one arithmetic; return ours, and what is expected."""
    monkeypatch.setattr("layers.core.cuda.convolution.ROWS", 0)
    monkeypatch.setattr("layers.core.cuda.convolution.LEAST", 0)
    if steps:
        monkeypatch.setattr(tiles, "parts_for", lambda card, blocks, all_steps, count: (-(-all_steps // steps), steps))
    image, error, weight, bias, below = values(window, batch)
    first = np.full_like(weight, 0.5)
    expected = expect(window, image, error, weight, bias, below, first)
    ours = CardWindow(card(), window)
    ours.how = how
    parts = [put(array) for array in (image, error, weight, bias, below, first, expected[0], expected[1])]
    x, dy, w, b, b2, dw, y, dx = (span for _, span in parts)
    ours.forward(x, w, b, y, batch, rectify=True)
    if image_too:  # forward's kernel with other terms
        ours.image_gradient(dy, w, b2, dx, batch)
    ours.weight_gradient(x, dy, dw, batch)
    return [get(span, array.shape) for span, array in zip((y, dx, dw), expected)], (np.maximum(expected[0], 0), *expected[1:])


@pytest.mark.parametrize("name", TILED)
def test_tiles_of_float32_equal_numpy(monkeypatch, name):
    for ours, expected in zip(*tiled(monkeypatch, make(*TILED[name]), tiles.FLOAT32)):
        close(ours, expected, 4e-6)


@pytest.mark.parametrize("how, tolerance", [(tiles.SPLIT, 2e-6), (tiles.TF32, 2e-3)])
def test_tiles_on_tensor_cores_equal_numpy(monkeypatch, how, tolerance):
    window = make(3, 5, 1, (3, 4), (2, 2), (1, 1), (1, 0), (1, 1))
    for ours, expected in zip(*tiled(monkeypatch, window, how, 1, image_too=False)):
        close(ours, expected, tolerance)


def test_parts_of_the_sums_are_added_in_order(monkeypatch):
    for ours, expected in zip(*tiled(monkeypatch, make(*TILED["odd"]), tiles.FLOAT32, steps=1)):
        close(ours, expected, 4e-6)


@pytest.mark.parametrize("stride, pad, dilation", [((1, 1), (1, 2), (1, 1)), ((2, 3), (0, 1), (1, 2)), ((4, 5), (3, 0), (2, 1))])
def test_terms_of_the_image_gradient_are_those_of_its_sum(stride, pad, dilation):
    window = make(2, 3, 1, (9, 11), (3, 2), stride, pad, dilation)
    _, error, weight, _, _ = values(window, 1)
    expected = np.empty((1, 2, 9, 11))
    convolve.plain_backward_image(window, error.astype(np.float64), weight.astype(np.float64), None, expected)
    terms = implicit.image_terms(2, 3, (3, 2), stride, pad, dilation)
    for c, y, x in np.ndindex(2, 9, 11):
        phase = y % stride[0] * stride[1] + x % stride[1]
        total = 0
        for m, dy, dx, place in terms[phase]:
            oy, ox = y // stride[0] + dy, x // stride[1] + dx
            if 0 <= oy < error.shape[2] and 0 <= ox < error.shape[3]:
                total += float(weight.ravel()[c * 6 + place]) * error[0, m, oy, ox]
        assert abs(total - expected[0, c, y, x]) < 1e-5
