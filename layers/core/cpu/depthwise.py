"""Convolutions in which every channel has one kernel of its own: depthwise, and bilinear upsampling.

As `layers.core.cpu.convolve` with C = M = group, for one or two spatial axes: image (N * C, H, W), weight (C, kh, kw),
out (N * C, oh, ow). Here matrix products would be mostly zeros (FCN's upsampling is stored as dense 21 x 21 kernels
of which the diagonal is not zero) or have one row. Every element is written by one thread, sums in the order of the
kernel's taps. `numbers` are those of `Window`.

What is here is plain, for any dtype; `depthwise_planes` does the same faster for most windows in float32.
"""

import numpy as np

from layers.core.cpu import depthwise_planes, parallel
from layers.core.cpu.compiled import cached
from layers.core.cpu.im2col import inside_at


def forward(window, image, weight, bias, out):
    """As `convolve.forward`."""
    if window.numbers[5] > 1 and depthwise_planes.fits(window, image, weight, out):
        depthwise_planes.forward(window, image, weight, bias, out)
        return
    planes = out.shape[0] * window.channels
    parallel.run(depthwise_cpu, planes * window.rows, window.numbers, image.reshape(planes, *window.image3[1:]),
                 weight.reshape(window.channels, *window.numbers[1:3]), _bias(window, bias, weight),
                 out.reshape(planes, window.rows, window.width), work=out.size * window.taps)


def backward_image(window, out, weight, bias, image):
    """As `convolve.backward_image`: also upsampling by a Deconvolution."""
    if depthwise_planes.fits(window, out, weight, image):
        depthwise_planes.backward_image(window, out, weight, bias, image)
        return
    planes = out.shape[0] * window.channels
    parallel.run(depthwise_transposed_cpu, planes * window.image3[1], window.numbers,
                 out.reshape(planes, window.rows, window.width),
                 weight.reshape(window.channels, *window.numbers[1:3]), _bias(window, bias, weight),
                 image.reshape(planes, *window.image3[1:]), work=out.size * window.taps)


def backward_weight(window, image, out, weight):
    """As `convolve.backward_weight`."""
    planes = out.shape[0] * window.channels
    parallel.run(depthwise_weight_cpu, window.channels * window.taps, window.numbers,
                 image.reshape(planes, *window.image3[1:]), out.reshape(planes, window.rows, window.width),
                 weight.reshape(window.channels, *window.numbers[1:3]), work=out.size * window.taps)


def fits(window):
    """Whether the kernels here can do the spatial part of `window`."""
    return window.simple and len(window.image) <= 2


def diagonal(weight):
    """Return the (C, *kernel) on the diagonal of dense weights (C, C, *kernel) if all others are exactly 0, or None.

    Looks at every value each time, since anybody may write into the weights: a millisecond for FCN-8s.
    """
    channels = weight.shape[0]
    if channels != weight.shape[1] or not is_diagonal(weight.reshape(channels, channels, -1)):
        return None
    return np.ascontiguousarray(weight[np.arange(channels), np.arange(channels)])


@cached
def is_diagonal(weight):
    """Whether weight[i, j] is 0 for all i != j; NaN is not 0."""
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            if i != j:
                row = weight[i, j]
                other = 0
                for k in range(row.size):
                    other += row[k] != 0
                if other:
                    return False
    return True


def _bias(window, bias, weight):
    return np.zeros(window.channels, weight.dtype) if bias is None else bias


@cached
def depthwise_cpu(first, last, numbers, image, weight, bias, out):
    """Write rows [first, last) of the convolution, counted over all planes."""
    sh, sw, ph, pw, dh, dw = numbers[4], numbers[5], numbers[7], numbers[8], numbers[10], numbers[11]
    channels, kh, kw = weight.shape
    height, width = image.shape[1], image.shape[2]
    rows, out_width = out.shape[1], out.shape[2]
    for index in range(first, last):
        plane, row = index // rows, index % rows
        channel = plane % channels
        target = out[plane, row]
        for i in range(out_width):
            target[i] = bias[channel]
        for ky in range(kh):
            y = row * sh - ph + ky * dh
            if y < 0 or y >= height:
                continue
            for kx in range(kw):
                shift = kx * dw - pw
                low, high = inside_at(shift, sw, width, out_width)
                if low >= high:
                    continue
                factor = weight[channel, ky, kx]
                onto = target[low:high]
                source = image[plane, y, low * sw + shift :]
                if sw == 1:
                    for i in range(onto.size):
                        onto[i] += factor * source[i]
                else:
                    for i in range(onto.size):
                        onto[i] += factor * source[i * sw]


@cached
def depthwise_transposed_cpu(first, last, numbers, out, weight, bias, image):
    """Write lines [first, last) of the image, counted over all planes: each pixel sums ceil(k / stride)^2 terms.

    Pixels x = j * stride + phase of a line are summed side by side, phase by phase, so that the inner loop is
    contiguous, and interleaved at the end.
    """
    sh, sw, ph, pw, dh, dw = numbers[4], numbers[5], numbers[7], numbers[8], numbers[10], numbers[11]
    channels, kh, kw = weight.shape
    height, width = image.shape[1], image.shape[2]
    rows, out_width = out.shape[1], out.shape[2]
    across = (width + sw - 1) // sw
    sums = np.empty((sw, across), image.dtype)
    for index in range(first, last):
        plane, line = index // height, index % height
        channel = plane % channels
        for phase in range(sw):
            for j in range(across):
                sums[phase, j] = bias[channel]
        for ky in range(kh):
            y = line + ph - ky * dh
            if y < 0 or y % sh != 0 or y // sh >= rows:
                continue
            for kx in range(kw):
                shift = kx * dw - pw
                low, high = inside_at(shift, sw, width, out_width)
                if low >= high:
                    continue
                factor = weight[channel, ky, kx]
                source = out[plane, y // sh, low:high]
                onto = sums[shift % sw, low + shift // sw :]
                for i in range(source.size):
                    onto[i] += factor * source[i]
        target = image[plane, line]
        if sw == 1:
            for x in range(width):
                target[x] = sums[0, x]
        else:
            for phase in range(min(sw, width)):
                for j in range((width - phase + sw - 1) // sw):
                    target[j * sw + phase] = sums[phase, j]


@cached
def depthwise_weight_cpu(first, last, numbers, image, out, weight):
    """Add the gradient of weights [first, last), counted over (C, kh, kw); rows summed in float64."""
    sh, sw, ph, pw, dh, dw = numbers[4], numbers[5], numbers[7], numbers[8], numbers[10], numbers[11]
    channels, kh, kw = weight.shape
    height, width = image.shape[1], image.shape[2]
    rows, out_width = out.shape[1], out.shape[2]
    for index in range(first, last):
        channel, ky, kx = index // (kh * kw), index // kw % kh, index % kw
        shift = kx * dw - pw
        low, high = inside_at(shift, sw, width, out_width)
        total = 0.0
        for plane in range(channel, out.shape[0], channels):
            for row in range(rows):
                y = row * sh - ph + ky * dh
                if y < 0 or y >= height or low >= high:
                    continue
                errors = out[plane, row, low:high]
                source = image[plane, y, low * sw + shift :]
                for i in range(errors.size):
                    total += errors[i] * source[i * sw]
        weight[channel, ky, kx] += total
