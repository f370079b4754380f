"""Convolution by direct summation: matrix products whose right operand is packed straight from the image.

Any kernel, stride, pad, dilation, group, up to three spatial axes; arrays are NCHW. With an image x (N, C, *image),
weights w (M, C / group, *kernel) and an output y (N, M, *output), for each group:

    forward           y = w patches(x) + b
    image_gradient    dx = turned(w) patches(dy) where no pixel is skipped, else the patches of wT dy added up (col2im)
    weight_gradient   dw += dy patches(x)T

The patches (the columns of im2col) are never in memory; 1 x 1 kernels that skip nothing need none. The error against
float64 is the matrix product's: 2e-7 to 6e-7 of the largest value. `convolve` is the same with BLAS, for any precision.
"""

import numpy as np

from layers.core.cpu import gemm, parallel
from layers.core.cpu.convolve import turn
from layers.core.cpu.gemm import Product
from layers.core.cpu.im2col import col2im_cpu
from layers.core.cpu.memory import scratch
from layers.core.cpu.packing import PATCHES, ROWS, TURNED, TURNED_PATCHES

COLUMNS = 1 << 19  # floats of columns that are added back to an image at a time
LEAST = 128  # of its rows
SHARES = 8  # parts of the pixels that are summed apart where the weights are few
FEW = 1 << 16  # weights that are few


def forward(window, image, weight, bias, out, relu=False):
    """Write the convolution of `image` (N, C, *) with `weight` to `out` (N, M, *).

    Parameters
    ----------
    window : layers.core.cpu.convolve.Window
    bias : ndarray (M,) or None
    relu : bool
        Clamp at 0; NaN stays NaN.
    """
    _product(window, image, weight, window.depth * 4, 0, bias, out, relu)


def image_gradient(window, error, weight, bias, image):
    """Write the transposed convolution of `error` (N, M, *) with `weight` to `image` (N, C, *), plus `bias` (C,)."""
    if window.pointwise:
        _product(window.turned, error, weight, window.channels // window.group * 4, 1, bias, image)
    elif window.turns:
        turned = turn(window, weight, scratch(weight.nbytes, "turned")[: weight.nbytes].view(np.float32))
        _product(window.turned, error, turned, window.turned.depth * 4, 0, bias, image)
    else:
        _add_patches(window, error, weight, bias, image)


def weight_gradient(window, image, error, gradient, accumulate=True):
    """Add the gradient of the weights to `gradient` (M, C / group, *kernel), or write it there without `accumulate`."""
    images, group = image.shape[0], window.group
    outputs, pixels = window.outputs // group, window.pixels
    image_bytes = window.channels * int(np.prod(window.image)) * 4
    kind = TURNED if window.pointwise else TURNED_PATCHES
    few = gradient.size <= FEW
    shares = min(SHARES, -(-images * pixels // 1024)) if few else 1

    def add(first, last, onto, accumulate, threads=None):
        """Add, or write, the terms of pixels [first, last), counted over all images."""
        while first < last:
            n, begin = divmod(first, pixels)
            end = min(pixels, begin + last - first)
            product = Product(outputs, window.depth, end, pixels * 4, 0, pixels * 4, kind, window.depth * 4, 1, group,
                              a_group=outputs * pixels * 4, b_group=image_bytes // group,
                              c_group=outputs * window.depth * 4)
            gemm.run(product, error[n], image[n], onto, accumulate=accumulate, geometry=_geometry(window), k_first=begin,
                     threads=threads)
            first += end - begin
            accumulate = True

    if not accumulate and (shares > 1 or images * pixels == 0):
        gradient.fill(0)
    if shares <= 1:
        add(0, images * pixels, gradient, accumulate)
        return
    # Each share of the pixels has sums of its own, by one thread: the shares do not depend on the number of threads.
    sums = np.zeros((shares, *gradient.shape), np.float32)
    edges = [images * pixels * i // shares for i in range(shares + 1)]

    def some(first, last):
        for share in range(first, last):
            add(edges[share], edges[share + 1], sums[share], True, threads=1)

    parallel.run(some, shares, work=images * window.outputs * window.depth * pixels // 32)
    for share in sums:
        gradient += share


def _product(window, image, weight, weight_row, weight_turned, bias, out, relu=False):
    """Write the products of the groups' weights and patches of all images to `out`."""
    group, outputs, pixels = window.group, window.outputs // window.group, window.pixels
    image_bytes = window.channels * int(np.prod(window.image)) * 4
    product = Product(outputs, pixels, window.depth, weight_row, weight_turned, pixels * 4,
                      ROWS if window.pointwise else PATCHES, pixels * 4, image.shape[0], group,
                      a_group=outputs * window.depth * 4, b_image=image_bytes, b_group=image_bytes // group,
                      c_image=window.outputs * pixels * 4, c_group=outputs * pixels * 4)
    gemm.run(product, weight, image, out, row_bias=bias, relu=relu, geometry=_geometry(window))


def _add_patches(window, error, weight, bias, image):
    """Write the sums of the patches (weights transposed times error) where they came from to `image`."""
    images, group = error.shape[0], window.group
    outputs, channels = window.outputs // group, window.channels // group
    error = error.reshape(images, group, outputs, window.pixels)
    weight = weight.reshape(group, outputs, window.depth)
    image = image.reshape(images, group, channels, *window.image3)
    image[...] = 0 if bias is None else bias.reshape(group, channels, 1, 1, 1)
    # Each item has some channels of an image to itself, and their columns in its cache, for a few output rows at a time.
    step = min(max(COLUMNS // (window.taps * window.pixels), -(-LEAST // window.taps)), channels)
    rows = min(window.rows, max(1, COLUMNS // (step * window.taps * window.width)))
    items = [(n, g, c, min(c + step, channels)) for n in range(images) for g in range(group)
             for c in range(0, channels, step)]
    threads = 1 if len(items) > 1 else None
    items = iter(items)
    lines = window.image3[0] * window.image3[1]

    def work(first, last):
        for n, g, c, end in items:
            taken = weight[g, :, c * window.taps : end * window.taps].T
            for row in range(0, window.rows, rows):
                stop = min(row + rows, window.rows)
                size = taken.shape[0] * (stop - row) * window.width
                columns = scratch(size * 4, "columns")[: size * 4].view(np.float32).reshape(taken.shape[0], -1)
                gemm.gemm(taken, error[n, g, :, row * window.width : stop * window.width], columns, threads=threads)
                onto = window.numbers, columns, row, stop, image[n, g, c:end], 0, lines
                if threads:
                    col2im_cpu(0, end - c, *onto)
                else:
                    parallel.run(col2im_cpu, end - c, *onto, work=size)

    parallel.run(work, parallel.threads() if threads else 1, work=images * window.outputs * window.depth * window.pixels // 32)


def _geometry(window):
    """Return what `patches` wants to know of a window."""
    return np.concatenate([window.numbers, np.array(window.image3, np.int64)])
