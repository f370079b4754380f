"""What tests of convolutions share: windows with their arrays, and pictures in either layout."""

import numpy as np

from layers.core.cpu.blocked import Blocked, Place, picture
from layers.core.cpu.convolve import Window, plain_forward
from layers.core.cpu.memory import address


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def make(case):
    """Return (window, image, weight, bias, the convolution in float64).

    A case is (images, channels, outputs, group, (height, width), kernel, stride, pad, dilation).
    """
    images, channels, outputs, group, size, kernel, stride, pad, dilation = case
    output = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, stride, pad, dilation))
    window = Window(channels, outputs, group, size, kernel, stride, pad, dilation, output)
    image, weight = normal(images, channels, *size), normal(outputs, channels // group, *kernel, seed=1)
    bias = normal(outputs, seed=2)
    exact = np.empty((images, outputs, *output))
    plain_forward(window, image.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64), exact)
    return window, image, weight, bias, exact


def make_error(case):
    """Return (window, image, weight, error): of the same case, with a gradient of the output."""
    window, image, weight, _, exact = make(case)
    return window, image, weight, normal(*exact.shape, seed=3)


class Planes:
    """An array NCHW with the face of `Blocked`."""

    def __init__(self, shape, border=0):
        self.array = np.zeros(shape, np.float32)
        self.place = self.address, self.picture = Place(address(self.array), picture(self.array))

    def put(self, values):
        self.array[...] = values
        return self

    def get(self):
        return self.array.copy()


def run(kernel, window, image, weights, source, target, borders=(0, 0), **more):
    """Return the target, `Blocked` or `Planes`, of a kernel's `forward_pictures`; every pixel of it was 7 before."""
    bottom = source(image.shape, borders[0]).put(image)
    shape = (len(image), window.outputs, *window.output)
    top = target(shape, borders[1]).put(np.full(shape, 7, np.float32))
    kernel.forward_pictures(window, *bottom.place, weights, *top.place, **more)
    return top


def close(fast, exact, limit=2e-6):
    assert fast.shape == exact.shape and abs(fast - exact).max() <= limit * max(abs(exact).max(), 1)


def nothing_around(top):
    """The border and the lanes without a channel are zero."""
    whole = top.array.copy()
    again = Blocked(top.shape, top.border).put(top.get())
    assert np.array_equal(whole, again.array, equal_nan=True)


def a_box_has_the_bits_of_the_whole(window, run):
    """``run(box=...)`` writes the pixels of a box only, as ``run()`` does."""
    height, width = window.output
    whole = run().get()
    for y0, y1, x0, x1 in ((0, height, 0, width), (height // 3, height // 3 + 2, width // 3, width), (0, 1, 0, 1)):
        y1, x1 = min(y1, height), min(x1, width)
        part = run(box=(y0, y1, x0, x1))
        expected = np.full_like(whole, 7)
        expected[:, :, y0:y1, x0:x1] = whole[:, :, y0:y1, x0:x1]
        assert np.array_equal(part.get(), expected)
