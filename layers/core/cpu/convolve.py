"""Convolution and its two gradients as matrix products over blocks of output rows (im2col and BLAS).

With an image x (N, C, *image), weights w (M, C / group, *kernel) and an output y (N, M, *output):

    forward          y[m, o] = b[m] + sum over c, k of w[m, c, k] x[c, o * stride - pad + k * dilation]
    backward_image   the transpose, y to x (also a Deconvolution's forward)
    backward_weight  w[m, c, k] += sum over n, o of y[m, o] x[c, o * stride - pad + k * dilation]

The columns of a whole image are never in memory: at 64 channels of 698 x 698 they would take 1.1 GB. `plain_forward`,
`plain_backward_image` and `plain_backward_weight` are the same in plain numpy, for any number of axes; the fast ones
take up to three and must equal them up to rounding.

Sums are BLAS's in the arrays' precision; weight gradients add up block by block, in order.
"""

import functools
import math

import numpy as np

from layers.core.cpu import blas, isa, parallel
from layers.core.cpu.compiled import cached
from layers.core.cpu.im2col import col2im_cpu, im2col_cpu

BLOCK = 1 << 21  # bytes of columns that a thread likes to make at a time: what its cache holds
MOST = 1 << 23  # bytes of columns that it makes for the sake of 2 * PIXELS
PIXELS = 256  # fewer output pixels are not worth a product: BLAS then repacks the weights more than it multiplies
OUTPUTS = 256  # rows of the weights in one product where there are too few pixels to share among threads
ROWS = 1152  # rows of columns (channels * taps) in one product of the weight gradient


class Window:
    """The sizes of a convolution: what slides how over an image.

    Parameters
    ----------
    channels, outputs, group : int
        C, M and the number of groups that both are cut into.
    image, kernel, stride, pad, dilation, output : tuple of int
        One length for each spatial axis.
    plain : bool
        Compute with plain numpy, as for more than three axes.
    """

    def __init__(self, channels, outputs, group, image, kernel, stride, pad, dilation, output, plain=False):
        self.channels, self.outputs, self.group = channels, outputs, group
        self.image, self.kernel, self.stride = tuple(image), tuple(kernel), tuple(stride)
        self.pad, self.dilation, self.output = tuple(pad), tuple(dilation), tuple(output)
        self.taps = math.prod(kernel)
        self.depth = channels // group * self.taps  # rows of the columns: terms of each output's sum
        self.pixels = math.prod(output)
        self.simple = len(self.image) <= 3 and not plain  # what the kernels can do
        if self.simple:
            missing = 3 - len(self.image)
            self.image3 = (1,) * missing + self.image
            self.rows, self.width = math.prod(self.output[:-1]), (self.output or (1,))[-1]

    @functools.cached_property
    def numbers(self):
        """Of three axes, those that are missing added in front: kernel d h w, stride d h w, ..., output d h w; int64."""
        missing = 3 - len(self.image)
        each = [(one,) * missing + values for one, values in
                ((1, self.kernel), (1, self.stride), (0, self.pad), (1, self.dilation), (1, self.output))]
        return np.array(each, np.int64).reshape(-1)

    @functools.cached_property
    def pointwise(self):
        """Whether the columns are the image itself: a 1 x 1 kernel that skips nothing."""
        return self.taps == 1 and set(self.stride) <= {1} and set(self.pad) <= {0}

    @functools.cached_property
    def two_axes(self):
        """Whether the kernels for pictures can do it: two spatial axes."""
        return self.simple and len(self.image) == 2

    @functools.cached_property
    def whole_blocks(self):
        """Whether groups' channels and outputs begin where blocks of 16 do."""
        channels, outputs = self.channels // self.group, self.outputs // self.group
        return self.group == 1 or channels % isa.BLOCK == outputs % isa.BLOCK == 0

    @functools.cached_property
    def depthwise(self):
        """Whether every channel has one kernel of its own."""
        return self.group == self.channels == self.outputs

    @functools.cached_property
    def unit_stride(self):
        """Whether no pixel is skipped: the gradient for the image is then a convolution too."""
        return set(self.stride) <= {1}

    @functools.cached_property
    def turns(self):
        """Whether the gradient is better taken so (`turned`): many pixels, few of them outside the output, not few rows."""
        return (self.unit_stride and self.pixels >= 4096 and self.channels // self.group >= 16
                and 4 * math.prod(self.image) <= 5 * self.pixels)

    @functools.cached_property
    def turned(self):
        """The window that slides over the output to give the image's gradient; only for `unit_stride`."""
        pad = tuple(d * (k - 1) - p for k, p, d in zip(self.kernel, self.pad, self.dilation))
        return Window(self.outputs, self.channels, self.group, self.output, self.kernel, self.stride, pad,
                      self.dilation, self.image)


def forward(window, image, weight, bias, out):
    """Write the convolution of `image` (N, C, *) with `weight` to `out` (N, M, *); `bias` (M,) or None."""
    if not window.simple:
        plain_forward(window, image, weight, bias, out)
        return
    matrix = weight.reshape(window.group, window.outputs // window.group, window.depth)
    _product(window, image, matrix, bias, out)


def backward_image(window, out, weight, bias, image):
    """Write the transposed convolution of `out` (N, M, *) with `weight` to `image` (N, C, *), plus `bias` (C,)."""
    if not window.simple:
        plain_backward_image(window, out, weight, bias, image)
        return
    group, outputs, channels = window.group, window.outputs // window.group, window.channels // window.group
    if window.pointwise:
        matrix = weight.reshape(group, outputs, channels).transpose(0, 2, 1)
        _product(window.turned, out, matrix, bias, image)
    elif window.turns:
        turned = turn(window, weight, blas.scratch((weight.size,), weight.dtype, "turned"))
        _product(window.turned, out, turned.reshape(group, channels, -1), bias, image)
    else:
        _scatter(window, out, weight, bias, image)


def backward_weight(window, image, out, weight):
    """Add the gradient of the weights to `weight` (M, C / group, *kernel)."""
    if not window.simple:
        plain_backward_weight(window, image, out, weight)
        return
    number, group, depth = image.shape[0], window.group, window.depth
    outputs, channels = window.outputs // group, window.channels // group
    image = image.reshape(number, group, channels, *window.image3)
    out = out.reshape(number, group, outputs, window.rows, window.width)
    weight = weight.reshape(group, outputs, depth)
    # Items own some channels; where these are few, also a part of the sum, in a place of its own.
    step = _even(channels, min(ROWS, max(2 * PIXELS, window.depth // 8)) // window.taps, 2 if group == 1 else 1)
    parts = [(g, c, min(c + step, channels)) for g in range(group) for c in range(0, channels, step)]
    blocks = [(n, first, last) for n in range(number) for first, last in _rows(window, step * window.taps, image)]
    shares = 1 if len(parts) >= 4 or depth * outputs > 1 << 16 else min(8, len(blocks))
    sums = [weight] + [np.zeros_like(weight) for _ in range(shares - 1)]
    items = [(g, c, end, blocks[len(blocks) * s // shares : len(blocks) * (s + 1) // shares], sums[s])
             for g, c, end in parts for s in range(shares)]

    def add(g, c, end, blocks, onto):
        for n, first, last in blocks:
            columns = _columns(window, image[n, g, c:end], first, last)
            for m in range(0, outputs, 2 * OUTPUTS):
                errors = out[n, g, m : m + 2 * OUTPUTS, first:last].reshape(-1, columns.shape[1])
                sides = (errors, columns) if errors.shape[0] >= OUTPUTS else (columns, errors)  # BLAS wants it tall
                product = blas.scratch((len(sides[0]), len(sides[1])), columns.dtype, "product")
                np.matmul(sides[0], sides[1].T, out=product)
                part = onto[g, m : m + 2 * OUTPUTS, c * window.taps : end * window.taps]
                part += product if sides[0] is errors else product.T

    blas.each(items, add, number * window.outputs * depth * window.pixels)
    for share in sums[1:]:
        weight += share


def backward_bias(out, bias):
    """Add the sum of `out` (N, M, *) over images and pixels to `bias` (M,); pairwise sums."""
    planes = out.reshape(*out.shape[:2], math.prod(out.shape[2:]))

    def add(first, last):
        with np.errstate(all="ignore"):
            bias[first:last] += planes[:, first:last].sum(axis=2).sum(axis=0)

    parallel.run(add, bias.size, work=out.size)


def _product(window, image, matrix, bias, out):
    """Write matrix (group, M / group, depth) times the columns of the image, plus the bias, to `out`."""
    number, group = image.shape[0], window.group
    outputs = window.outputs // group
    image = image.reshape(number, group, window.channels // group, *window.image3)
    out = out.reshape(number, group, outputs, window.rows, window.width)
    bias = None if bias is None else bias.reshape(group, outputs, 1)
    work = number * window.outputs * window.depth * window.pixels
    blocks = _rows(window, window.depth, image)
    together = min(BLOCK // (window.depth * window.pixels * image.itemsize), number // 8)

    def images(n, end, g):
        """Several small images: one batch of products."""
        columns = _columns_of_images(window, image[n:end, g])
        target = out[n:end, g].reshape(end - n, outputs, window.pixels)
        np.matmul(matrix[g], columns, out=target)
        if bias is not None:
            target += bias[g]

    def rows(n, g, first, last):
        """Some rows of one image."""
        columns = _columns(window, image[n, g], first, last)
        target = out[n, g, :, first:last].reshape(outputs, -1)
        np.matmul(matrix[g], columns, out=target)
        if bias is not None:
            target += bias[g]

    def some(columns, target, g, m):
        """Some outputs of a few pixels: large weights are read once."""
        target = target[m : m + OUTPUTS]
        np.matmul(matrix[g, m : m + OUTPUTS], columns, out=target)
        if bias is not None:
            target += bias[g, m : m + OUTPUTS]

    if together > 1:
        items = [(n, min(n + together, number), g) for n in range(0, number, together) for g in range(group)]
        blas.each(items, images, work)
    elif number * group * len(blocks) != 1 or outputs < 2 * OUTPUTS:
        blas.each([(n, g, *block) for n in range(number) for g in range(group) for block in blocks], rows, work)
    else:
        for first, last in blocks:
            columns = _columns(window, image[0, 0], first, last, shared=True)
            target = out[0, 0, :, first:last].reshape(outputs, -1)
            blas.each([(columns, target, 0, m) for m in range(0, outputs, OUTPUTS)], some, work)


def _scatter(window, out, weight, bias, image):
    """Write weight transposed times `out`, put back from columns, to the image: some channels and lines at a time."""
    number, group = image.shape[0], window.group
    outputs, channels = window.outputs // group, window.channels // group
    depth, height, width = window.image3
    image = image.reshape(number, group, channels, depth, height, width)
    out = out.reshape(number, group, outputs, window.rows, window.width)
    matrix = weight.reshape(group, outputs, window.depth)
    bias = None if bias is None else bias.reshape(group, channels, 1, 1, 1)
    # Columns of all rows for as many channels as fit; where even few do not, only the rows that some lines need.
    wanted = min(channels, -(-64 // window.taps))
    rows = max(1, MOST // (wanted * window.taps * window.width * image.itemsize))
    blocks = [(0, depth * height, 0, window.rows)]
    if depth == 1 and rows < window.rows:
        kernel, stride, pad, dilation = (int(window.numbers[i]) for i in (1, 4, 7, 10))
        reach = dilation * (kernel - 1)
        lines = max(max(1, rows * stride - reach), min(reach, height), 1)
        blocks = []
        for first in range(0, height, lines):
            last = min(first + lines, height)
            low = max(0, -((reach - first - pad) // stride))
            high = min(window.rows, (last - 1 + pad) // stride + 1)
            blocks.append((first, last, min(low, window.rows), max(high, low, 0)))
    most = max(high - low for _, _, low, high in blocks)
    step = _even(channels, MOST // max(1, window.taps * most * window.width * image.itemsize), 2)
    items = [(n, g, c, min(c + step, channels), *block) for n in range(number) for g in range(group)
             for block in blocks for c in range(0, channels, step)]

    def add(n, g, c, end, first, last, low, high):
        lines = image[n, g, c:end].reshape(end - c, depth * height, width)[:, first:last]
        lines[...] = 0 if bias is None else bias[g, c:end, 0]
        if low >= high:
            return
        errors = out[n, g, :, low:high].reshape(outputs, -1)
        columns = blas.scratch(((end - c) * window.taps, errors.shape[1]), image.dtype, "columns")
        np.matmul(matrix[g, :, c * window.taps : end * window.taps].T, errors, out=columns)
        col2im_cpu(0, end - c, window.numbers, columns, low, high, image[n, g, c:end], first, last)

    blas.each(items, add, number * window.outputs * window.depth * window.pixels)


def _rows(window, depth, image):
    """Return blocks (first, last) of output rows, for columns of `depth` values."""
    size = depth * image.itemsize
    pixels = max(PIXELS, min(max(2 * PIXELS, BLOCK // size), MOST // size))
    count = -(-window.rows // max(1, pixels // window.width))
    count = min(count + count % 2 if count > 1 else count, window.rows)
    return [(window.rows * i // count, window.rows * (i + 1) // count) for i in range(count)]


def _even(count, most, least_parts):
    """Return a step that cuts `count` into an even number of nearly equal parts (or one): at most `most` each."""
    parts = max(-(-count // max(1, most)), least_parts)
    parts += parts % 2 if parts > 1 else 0
    return -(-count // parts)


def _columns(window, image, first, last, shared=False):
    """Return the columns (depth, pixels) of one image (C, D, H, W) for output rows [first, last).

    `shared`: all threads make them; otherwise the calling one.
    """
    if window.pointwise:
        return image.reshape(image.shape[0], window.rows, window.width)[:, first:last].reshape(image.shape[0], -1)
    depth = image.shape[0] * window.taps
    columns = blas.scratch((depth, (last - first) * window.width), image.dtype, "columns")
    if shared:
        parallel.run(im2col_cpu, depth, window.numbers, image, first, last, columns, work=columns.size)
    else:
        im2col_cpu(0, depth, window.numbers, image, first, last, columns)
    return columns


def _columns_of_images(window, images):
    if window.pointwise:
        return images.reshape(*images.shape[:2], window.pixels)
    columns = blas.scratch((images.shape[0], window.depth, window.pixels), images.dtype, "columns")
    for image, target in zip(images, columns):
        im2col_cpu(0, window.depth, window.numbers, image, 0, window.rows, target)
    return columns


def turn(window, weight, room):
    """Return the weights as (group * C, M / group, taps) with the taps in reverse, in the memory of the flat array `room`."""
    group, outputs, channels = window.group, window.outputs // window.group, window.channels // window.group
    turned = room.reshape(group * channels, outputs, window.taps)
    parallel.run(turn_cpu, group * channels, weight.reshape(group, outputs, channels, window.taps), turned, work=weight.size)
    return turned


@cached
def turn_cpu(first, last, weight, turned):
    """Write weights (group, M, C, taps) as (group * C, M, taps) with the taps in reverse, rows [first, last)."""
    outputs, channels, taps = weight.shape[1], weight.shape[2], weight.shape[3]
    for row in range(first, last):
        source = weight[row // channels, :, row % channels]
        target = turned[row]
        for m in range(outputs):
            for tap in range(taps):
                target[m, tap] = source[m, taps - 1 - tap]


# --- plain ------------------------------------------------------------------------------------------------------------


@np.errstate(all="ignore")
def plain_forward(window, image, weight, bias, out):
    """As `forward`: one product for each tap of the kernel."""
    image, weight, target = _padded(window, image), _grouped(window, weight), _grouped_blob(window, out)
    target[...] = 0
    for tap, seen in _taps(window):
        target += np.einsum("gmc,ngc...->ngm...", weight[..., tap], image[seen])
    if bias is not None:
        out += bias.reshape(-1, *(1,) * len(window.output))


@np.errstate(all="ignore")
def plain_backward_image(window, out, weight, bias, image):
    """As `backward_image`."""
    padded, weight = np.zeros_like(_padded(window, image)), _grouped(window, weight)
    for tap, seen in _taps(window):
        padded[seen] += np.einsum("gmc,ngm...->ngc...", weight[..., tap], _grouped_blob(window, out))
    inside = tuple(slice(p, p + n) for p, n in zip(window.pad, window.image))
    image[...] = padded[(..., *inside)].reshape(image.shape)
    if bias is not None:
        image += bias.reshape(-1, *(1,) * len(window.image))


@np.errstate(all="ignore")
def plain_backward_weight(window, image, out, weight):
    """As `backward_weight`."""
    image, weight, out = _padded(window, image), _grouped(window, weight), _grouped_blob(window, out)
    for tap, seen in _taps(window):
        weight[..., tap] += np.einsum("ngmo,ngco->gmc", *(_pixels_in_line(blob) for blob in (out, image[seen])))


def _taps(window):
    for tap, offset in enumerate(np.ndindex(*window.kernel)):
        yield tap, (..., *(slice(d * o, d * o + s * (n - 1) + 1, s)
                           for o, d, s, n in zip(offset, window.dilation, window.stride, window.output)))


def _grouped(window, weight):
    return weight.reshape(window.group, window.outputs // window.group, window.channels // window.group, window.taps)


def _grouped_blob(window, blob):
    return blob.reshape(blob.shape[0], window.group, blob.shape[1] // window.group, *blob.shape[2:])


def _pixels_in_line(blob):
    return blob.reshape(*blob.shape[:3], math.prod(blob.shape[3:]))


def _padded(window, image):
    image = np.pad(image, [(0, 0), (0, 0)] + [(p, p) for p in window.pad])
    return _grouped_blob(window, image)
