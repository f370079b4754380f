"""Convolutions on a card against numpy's."""

import numpy as np
import pytest

from layers.core.cpu import convolve
from layers.core.cpu.convolve import Window
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
    ours = CardWindow(card(), window)
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
    ours = CardWindow(card(), window)
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
