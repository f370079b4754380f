"""Normalize: each vector of channels divided by its length, times a learned factor.

    y = s x / sqrt(sum of x^2 + eps)

The sum goes over the channels of one pixel, or over all values of an image with `across_spatial` (default). s is one factor for
all with `channel_shared` (default) or one for each channel, the layer's parameter, of shape () or (C,); filled with 1 unless
`scale_filler` says otherwise. Bottom: (N, C, ...). With r = sqrt(sum + eps): dx = (s dy - x * sum(x s dy) / r^2) / r,
ds = sum of x dy / r. Sums are float64, in order. Source: SSD's NormalizeLayer (ParseNet's L2 normalisation).
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer
from netspec import caffe_pb2


class Normalize(Layer):
    """L2 normalisation with a scale."""

    exact_bottoms = exact_tops = 1

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape."""
        shape = tuple(bottom_shapes[0])
        if len(shape) < 2:
            self.fail(f"takes blobs of at least 2 axes (num, channels, ...), {self.called(0)} has {list(shape)}")
        return [shape]

    def param_shapes(self, bottom_shapes):
        """Return the factor's shape."""
        self.top_shapes(bottom_shapes)
        return [() if self.param.norm_param.channel_shared else tuple(bottom_shapes[0][1:2])]

    def param_fillers(self):
        """Return the factor's filler."""
        param = self.param.norm_param
        return [param.scale_filler if param.HasField("scale_filler") else caffe_pb2.FillerParameter(type="constant", value=1)]

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        shape = bottom[0].shape
        if self.blobs[0].count not in (1, shape[1]):
            self.fail(f"has factors for {self.blobs[0].count} channels, {self.called(0)} {list(shape)} has {shape[1]}")
        self.images, self.channels, self.pixels = shape[0], shape[1], math.prod(shape[2:])
        self.across = self.param.norm_param.across_spatial
        # Vectors: images x positions; each is made of `length` values.
        self.positions = 1 if self.across else self.pixels
        self.length = self.channels * (self.pixels if self.across else 1)
        self._scratch = 4 * bottom[0].count

    def _each(self, *arrays):
        """Return arrays as (images, length, positions)."""
        return [array.reshape(self.images, self.length, self.positions) for array in arrays]

    def forward(self, bottom, top):
        """Find the lengths, and divide."""
        x, y = self._each(bottom[0].peek(), top[0].data)
        self.squares = np.empty((self.images, self.positions))  # sums + eps
        self._run(normalize_squares_cpu, x, x, self.squares)
        self.squares += self.param.norm_param.eps
        self._run(normalize_cpu, x, self.blobs[0].peek().reshape(-1), self.squares, y, self.channels)

    def _run(self, kernel, x, *rest):
        """Run a kernel over the positions, or over the images if each is one vector."""
        parallel.run(kernel, self.images if self.across else self.positions, x, *rest, self.across, work=x.size)

    def backward(self, top, propagate_down, bottom):
        """Add to the factor's gradient, write the bottom's."""
        x, dy = self._each(bottom[0].peek(), top[0].peek(diff=True))
        scale = self.blobs[0].peek().reshape(-1)
        if self.param_propagate_down[0]:
            shape, total = (self.images, self.channels, self.pixels), np.empty(self.channels)
            parallel.run(normalize_scale_cpu, self.channels, x.reshape(shape), dy.reshape(shape), self.squares, total,
                         work=x.size)
            self.blobs[0].diff.reshape(-1)[...] += total if scale.size > 1 or self.channels == 1 else total.sum()
        if propagate_down[0]:
            dx, = self._each(bottom[0].diff)
            dots = np.empty_like(self.squares)
            self._run(normalize_dots_cpu, x, dy, scale, dots, self.channels)
            self._run(normalize_backward_cpu, x, dy, scale, self.squares, dots, dx, self.channels)

    # --- on a card ----------------------------------------------------------------------------------------------------

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the sums of squares; within backward the dot products and x / r."""
        vectors = 4 * self.images * self.positions
        return vectors, vectors + self._scratch

    def _add_up(self, a, b, target):
        """Write the sum of a * b over each vector to the span `target`."""
        if self.across:
            sums.add_up(self.card, sums.PRODUCTS, a, b, (1, self.images, self.length), target)
        else:
            self.card.run(normalize_sums_cuda, self.images * self.positions, a, b, target, self.length, self.positions)

    def forward_cuda(self, bottom, top):
        """Find the lengths, and divide."""
        vectors = 4 * self.images * self.positions
        if getattr(self, "_squares", None) is None or self._squares.span.nbytes < vectors:
            self._squares = None  # first it goes back
            self._squares = self.card.arena.take(vectors)
        x = bottom[0].on(self.card)
        self._add_up(x, x, self._squares.span)
        self._divide(x, self.blobs[0].on(self.card), top[0].write_on(self.card), bottom[0].count, self.blobs[0].count)

    def _divide(self, x, scale, y, count, factors):
        self.card.run(normalize_cuda, count, x, scale, self._squares.span, y, self.param.norm_param.eps, factors, self.channels,
                      self.pixels, self.across)

    def backward_cuda(self, top, propagate_down, bottom):
        """Add to the factor's gradient, write the bottom's."""
        card, count = self.card, bottom[0].count
        x, dy, scale = bottom[0].on(card), top[0].on(card, diff=True), self.blobs[0].on(card)
        factors = self.blobs[0].count
        if self.param_propagate_down[0]:
            unit = card.arena.take(4 * count)
            self._divide(x, scale, unit.span, count, 0)
            sizes = (self.images, self.channels, self.pixels) if factors > 1 or self.channels == 1 else (1, 1, count)
            sums.add_up(card, sums.PRODUCTS, unit.span, dy, sizes, self.blobs[0].change_on(card, diff=True), adds=True)
        if propagate_down[0]:
            dx = bottom[0].write_on(card, diff=True)
            card.run(normalize_scaled_cuda, count, dy, scale, dx, factors, self.channels, self.pixels)
            dots = card.arena.take(4 * self.images * self.positions)
            self._add_up(x, dx, dots.span)
            card.run(normalize_backward_cuda, count, x, self._squares.span, dots.span, dx, self.param.norm_param.eps,
                     self.channels * self.pixels, self.pixels, self.across)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own, shape = param.norm_param, export.bottoms[0]
        axes = list(range(1, len(shape))) if own.across_spatial else [1]
        total = export.node("ReduceSum", export.node("Mul", source, source), export.constant(axes))
        length = export.node("Sqrt", export.node("Add", total, export.number(own.eps)))
        factors = [1] * len(shape) if own.channel_shared else [1, shape[1], *[1] * (len(shape) - 2)]
        return [export.node("Mul", export.node("Div", source, length), export.parameter(0, *factors))]


@cached
def normalize_squares_cpu(first, last, x, y, total, across):
    """Sums of x * y over vectors [first, last): positions of all images, or whole images."""
    for image in range(first if across else 0, last if across else x.shape[0]):
        low, high = (0, 1) if across else (first, last)
        line = total[image, low:high]
        line[:] = 0
        for c in range(x.shape[1]):
            a, b = x[image, c, low:high], y[image, c, low:high]
            for i in range(line.size):
                line[i] += float(a[i]) * float(b[i])


@cached
def normalize_dots_cpu(first, last, x, dy, scale, total, channels, across):
    """The same of x * s * dy."""
    pixels = x.shape[1] // channels  # of a channel, where the vector is a whole image; else 1
    for image in range(first if across else 0, last if across else x.shape[0]):
        low, high = (0, 1) if across else (first, last)
        line = total[image, low:high]
        line[:] = 0
        for c in range(x.shape[1]):
            factor = float(scale[c // pixels if scale.size > 1 else 0])
            a, b = x[image, c, low:high], dy[image, c, low:high]
            for i in range(line.size):
                line[i] += float(a[i]) * factor * float(b[i])


@cached
def normalize_cpu(first, last, x, scale, squares, y, channels, across):
    """Vectors [first, last) of the top."""
    pixels = x.shape[1] // channels
    for image in range(first if across else 0, last if across else x.shape[0]):
        low, high = (0, 1) if across else (first, last)
        lengths = np.sqrt(squares[image, low:high])
        for c in range(x.shape[1]):
            factor = scale[c // pixels if scale.size > 1 else 0]
            source, target = x[image, c, low:high], y[image, c, low:high]
            for i in range(lengths.size):
                target[i] = source[i] / lengths[i] * factor


@cached
def normalize_backward_cpu(first, last, x, dy, scale, squares, dots, dx, channels, across):
    """Vectors [first, last) of the bottom's gradient."""
    pixels = x.shape[1] // channels
    for image in range(first if across else 0, last if across else x.shape[0]):
        low, high = (0, 1) if across else (first, last)
        square = squares[image, low:high]
        share, lengths = dots[image, low:high] / square, np.sqrt(square)
        for c in range(x.shape[1]):
            factor = scale[c // pixels if scale.size > 1 else 0]
            source, error, target = x[image, c, low:high], dy[image, c, low:high], dx[image, c, low:high]
            for i in range(lengths.size):
                target[i] = (error[i] * factor - source[i] * share[i]) / lengths[i]


@cached
def normalize_scale_cpu(first, last, x, dy, squares, total):
    """For channels [first, last): the sum of x dy / r over images and pixels."""
    for c in range(first, last):
        value = 0.0
        for image in range(x.shape[0]):
            a, b = x[image, c], dy[image, c]
            for i in range(a.size):
                value += float(a[i]) * float(b[i]) / math.sqrt(squares[image, i if squares.shape[1] > 1 else 0])
        total[c] = value


@kernel("float*, float*, float*, int, int, int")
def normalize_sums_cuda(a, b, target, channels, pixels, count):
    """Sums of a * b over the channels of each pixel, in float64."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        image = over(i, pixels)
        at, total = image * channels * pixels + i - image * pixels, 0.0
        for c in range(channels):
            total += np.float64(a[at + c * pixels]) * b[at + c * pixels]
        target[i] = total


@kernel("float*, float*, float*, float*, double, int, int, int, bool, int")
def normalize_cuda(x, scale, squares, y, eps, factors, channels, pixels, across, count):
    """All elements of the top: with 1 factor, one for each channel, or none (0)."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, pixels)
        image = over(row, channels)
        length = math.sqrt(squares[image if across else image * pixels + i - row * pixels] + eps)
        value = x[i] / length
        if factors > 0:
            value *= scale[row - image * channels if factors > 1 else 0]
        y[i] = value


@kernel("float*, float*, float*, int, int, int, int")
def normalize_scaled_cuda(dy, scale, dx, factors, channels, pixels, count):
    """All elements of s * dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, pixels)
        dx[i] = dy[i] * scale[row - over(row, channels) * channels if factors > 1 else 0]


@kernel("float*, float*, float*, float*, double, int, int, bool, int")
def normalize_backward_cuda(x, squares, dots, dx, eps, image_length, pixels, across, count):
    """All elements of the bottom's gradient, which holds s * dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        image = over(i, image_length)
        vector = image
        if not across:
            rest = i - image * image_length
            vector = image * pixels + rest - over(rest, pixels) * pixels
        square = squares[vector] + eps
        dx[i] = (dx[i] - x[i] * (dots[vector] / square)) / math.sqrt(square)
