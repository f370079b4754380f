"""Im2col: the patches that a convolution would see, as channels.

x (..., C, *spatial) -> y (..., C * taps, *output): channel c * taps + k holds for every output pixel what the kernel's tap k sees
of channel c, 0 in the padding. The channels lie along `axis` (default 1) of convolution_param, whose kernel, stride, pad and
dilation are a convolution's, for any number of spatial axes, at least one; `force_nd_im2col` says nothing to us. The gradient of
a pixel is the sum over all places that show it, in the order of the taps, in float32. Source: Caffe's Im2colLayer.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.im2col import col2im, im2col
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.small import uploaded
from layers.core.layer import Layer
from netspec import geometry


class Im2col(Layer):
    """Patches of images."""

    exact_bottoms = exact_tops = 1

    def _windows(self, shape):
        """Return (axis of the channels, (kernel, stride, pad, dilation), output sizes)."""
        axis = self.canonical_axis(self.param.convolution_param.axis, len(shape))
        spatial = shape[axis + 1:]
        if not spatial:
            self.fail(f"needs at least one axis behind the channels, axis {axis}, but {self.called(0)} has {list(shape)}")
        each = geometry.kernel_stride_pad_dilation(self.param.convolution_param, len(spatial), self.fail)
        return axis, each, tuple(geometry.conv_out(*lengths, fail=self.fail) for lengths in zip(spatial, *each))

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape with the kernel's taps as channels."""
        shape = tuple(bottom_shapes[0])
        axis, (taps, *_), output = self._windows(shape)
        return [(*shape[:axis], shape[axis] * math.prod(taps), *output)]

    def setup(self, bottom, top):
        """Have no table on a card yet."""
        super().setup(bottom, top)
        self._table = self._on_card = None

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self._axis, self._each, self._output = self._windows(bottom[0].shape)
        self._count = math.prod(bottom[0].shape[:self._axis])

    def _images(self, bottom, top):
        """Return the two arrays as (images, channels, *spatial)."""
        return (array.reshape(self._count, *array.shape[self._axis:]) for array in (bottom, top))

    def forward(self, bottom, top):
        """Copy patches."""
        images, columns = self._images(bottom[0].data, top[0].data)

        def some(first, last):
            for n in range(first, last):
                columns[n] = im2col(images[n], *self._each, self._output).reshape(columns[n].shape)

        parallel.run(some, self._count, work=top[0].count)

    def backward(self, top, propagate_down, bottom):
        """Add up patches."""
        if not propagate_down[0]:
            return
        images, columns = self._images(bottom[0].diff, top[0].diff)

        def some(first, last):
            for n in range(first, last):
                images[n] = col2im(columns[n], images.shape[2:], *self._each, self._output)

        parallel.run(some, self._count, work=top[0].count)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: lengths."""
        return 24 * len(self._output), 0

    def _numbers(self, shape):
        """Return (span of kernel, stride, pad, dilation, input and output length of each spatial axis, their number, taps)."""
        table = np.array([*self._each, shape[self._axis + 1:], self._output], np.int32)
        if self._table is None or not np.array_equal(self._table, table):
            self._table, self._on_card = table, uploaded(self.card, table)
        return self._on_card.span, len(self._output), math.prod(self._each[0])

    def forward_cuda(self, bottom, top):
        """Copy patches."""
        self.card.run(im2col_cuda, top[0].count, bottom[0].on(self.card), *self._numbers(bottom[0].shape),
                      math.prod(bottom[0].shape[self._axis + 1:]), math.prod(self._output), top[0].write_on(self.card))

    def backward_cuda(self, top, propagate_down, bottom):
        """Add up patches."""
        if propagate_down[0]:
            self.card.run(col2im_cuda, bottom[0].count, top[0].on(self.card, diff=True), *self._numbers(bottom[0].shape),
                          math.prod(bottom[0].shape[self._axis + 1:]), math.prod(self._output),
                          bottom[0].write_on(self.card, diff=True))


@kernel("float*, int*, int, int, int, int, float*, int")
def im2col_cuda(x, numbers, axes, taps, size, pixels, y, count):
    """All elements of the top; `numbers` as in `Im2col._numbers`, (6, axes)."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, pixels)
        channel = over(row, taps)
        pixel, tap, place, step, inside = i - row * pixels, row - channel * taps, channel * size, np.int64(1), True
        for axis in range(axes - 1, -1, -1):
            out, kernel = numbers[5 * axes + axis], numbers[axis]
            above, high = over(pixel, out), over(tap, kernel)
            at = ((pixel - above * out) * numbers[axes + axis] - numbers[2 * axes + axis]
                  + (tap - high * kernel) * numbers[3 * axes + axis])
            length = numbers[4 * axes + axis]
            inside = inside and 0 <= at < length
            place += at * step
            step *= length
            pixel, tap = above, high
        y[i] = x[place] if inside else np.float32(0)


@kernel("float*, int*, int, int, int, int, float*, int")
def col2im_cuda(dy, numbers, axes, taps, size, pixels, dx, count):
    """All elements of the bottom's gradient, taps in order."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        channel = over(i, size)
        total = np.float32(0)
        for number in range(taps):
            rest, tap, place, step, inside = i - channel * size, np.int64(number), np.int64(0), np.int64(1), True
            for axis in range(axes - 1, -1, -1):
                length, kernel, stride = numbers[4 * axes + axis], numbers[axis], numbers[axes + axis]
                above, high = over(rest, length), over(tap, kernel)
                at = rest - above * length + numbers[2 * axes + axis] - (tap - high * kernel) * numbers[3 * axes + axis]
                out = numbers[5 * axes + axis]
                inside = inside and at >= 0 and at % stride == 0 and at // stride < out
                place += at // stride * step
                step *= out
                rest, tap = above, high
            if inside:
                total += dy[(channel * taps + number) * pixels + place]
        dx[i] = total
