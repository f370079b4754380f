"""LRN: local response normalisation (Krizhevsky et al. 2012).

    y = x scale^-beta,  scale = k + alpha / n sum x^2 over n = local_size channels around      ACROSS_CHANNELS
                        scale = 1 + alpha / n^2 sum x^2 over n x n pixels around               WITHIN_CHANNEL

    dx = dy scale^-beta - 2 alpha beta / n x sum (dy y / scale) over the same neighbours       (n^2 within a channel)

x (N, C, H, W); n is odd; what lies outside counts as 0. As in Caffe, `k` is not used within a channel. Neighbours are
summed in order, in the blobs' precision. Source: Caffe's LRNLayer.
"""

import math

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cpu.lrn_blocked import across_backward_pictures, across_pictures
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel, part
from layers.core.layer import Layer

PIXELS = 256  # of all channels at a time: their values stay in the cache for the neighbours' sums


class LRN(Layer):
    """Each value is divided by what its neighbours' squares sum to; see the file's head."""

    exact_bottoms = exact_tops = 1

    def check(self):
        param = self.param.lrn_param
        if param.local_size % 2 == 0:
            self.fail(f"local_size is {param.local_size}; it must be odd, so that a value is in the middle")
        self._across = param.norm_region == param.ACROSS_CHANNELS

    def top_shapes(self, bottom_shapes):
        if len(bottom_shapes[0]) != 4:
            self.fail("normalises blobs of 4 axes (num, channels, height, width), the bottom has "
                      f"{list(bottom_shapes[0])}")
        return [bottom_shapes[0]]

    def setup(self, bottom, top):
        super().setup(bottom, top)
        # scale.data is the denominator before its power; scale.diff holds dy y / scale within a channel.
        self.scale = Blob((), f"{self.name} scale", self.dtype)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.scale.reshape(bottom[0].shape)

    def _numbers(self):
        """Return (half the neighbourhood, alpha / n, beta, k) in the blobs' precision."""
        param, real = self.param.lrn_param, self.dtype.type
        size = param.local_size if self._across else param.local_size**2
        return param.local_size // 2, real(param.alpha / size), real(param.beta), real(param.k if self._across else 1)

    def reads_blocks(self):
        return self._across and self.dtype == np.float32

    writes_blocks = backward_in_blocks = reads_blocks

    def forward(self, bottom, top):
        self._scale_known = True
        if self.reads_blocks() and bottom[0].memory().in_blocks(bottom[0].shape):
            target = top[0].write()
            if target.picture.blocked:
                self._scale_known = False
                across_pictures(*self._numbers(), *bottom[0].place(), *target)
                return
        self._normalise(bottom[0].peek(), top[0].data)

    def _normalise(self, x, y):
        """Write y, and the denominators before their power, all NCHW."""
        scale = self.scale.data
        if self._across:
            x, y, scale = _flat(x), _flat(y), _flat(scale)
            parallel.run(across_cpu, _pieces(x), *self._numbers(), x, scale, y, work=4 * x.size)
        else:
            x, y, scale = _planes(x), _planes(y), _planes(scale)
            parallel.run(within_cpu, x.shape[0] * x.shape[1], *self._numbers(), x, scale, y, work=4 * x.size)

    def backward(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        shape = bottom[0].shape
        if self.reads_blocks() and all(memory.in_blocks(shape) for memory in (bottom[0].memory(), top[0].memory(),
                                                                              top[0].memory(diff=True))):
            target = bottom[0].write(diff=True)
            if target.picture.blocked:
                across_backward_pictures(*self._numbers(), *bottom[0].place(), *top[0].place(), *top[0].place(diff=True), *target)
                return
        if not self._scale_known:
            self._normalise(bottom[0].peek(), np.empty(shape, self.dtype))
            self._scale_known = True
        arrays = bottom[0].peek(), self.scale.data, top[0].peek(), top[0].peek(diff=True), bottom[0].diff
        half, alpha, beta, _ = self._numbers()
        if self._across:
            x, scale, y, dy, dx = (_flat(a) for a in arrays)
            parallel.run(across_backward_cpu, _pieces(x), half, alpha, beta, x, scale, y, dy, dx, work=8 * x.size)
        else:
            x, scale, y, dy, dx = (_planes(a) for a in arrays)
            ratio = _planes(self.scale.diff)
            parallel.run(ratio_cpu, dy.size, *(a.reshape(-1) for a in (dy, y, scale, ratio)))
            parallel.run(within_backward_cpu, x.shape[0] * x.shape[1], half, alpha, beta, x, scale, ratio, dy, dx,
                         work=8 * x.size)

    def bytes_cuda(self):
        return 0, 8 * self.scale.count  # in backward: denominators, and dy y / denominator

    def forward_cuda(self, bottom, top):
        """The denominators are not kept: backward computes them again."""
        x, y = bottom[0].on(self.card), top[0].write_on(self.card)
        self.card.run(lrn_cuda, bottom[0].count, x, y, self._across, *self._numbers(), *bottom[0].shape[1:])

    def backward_cuda(self, top, propagate_down, bottom):
        if not propagate_down[0]:
            return
        card, blob, (half, alpha, beta, k) = self.card, bottom[0], self._numbers()
        x, y, dy = blob.on(card), top[0].on(card), top[0].on(card, diff=True)
        scale, ratio = card.arena.borrow(blob.count * 4), card.arena.borrow(blob.count * 4)
        card.run(lrn_ratio_cuda, blob.count, x, y, dy, scale.span, ratio.span, self._across, half, alpha, k, *blob.shape[1:])
        card.run(lrn_backward_cuda, blob.count, x, dy, scale.span, ratio.span, blob.write_on(card, diff=True), self._across, half,
                 2 * alpha * beta, beta, *blob.shape[1:])

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.lrn_param
        if own.norm_region == own.ACROSS_CHANNELS:
            return [export.node("LRN", source, size=own.local_size, alpha=own.alpha, beta=own.beta, bias=own.k)]
        size, half = own.local_size, own.local_size // 2
        squares = export.node("Mul", source, source)
        mean = export.node("AveragePool", squares, kernel_shape=(size, size), pads=(half,) * 4, count_include_pad=1)
        base = export.node("Add", export.node("Mul", mean, export.number(own.alpha)), export.number(1))
        return [export.node("Div", source, export.node("Pow", base, export.number(own.beta)))]


def _flat(array):
    return array.reshape(*array.shape[:2], -1)


def _planes(array):
    return array.reshape(-1, *array.shape[2:])


def _pieces(x):
    return x.shape[0] * -(-x.shape[2] // PIXELS)


@cached
def damp_cpu(source, scale, beta, target):
    """target = source scale^-beta, of rows."""
    if beta == 0.75:
        for i in range(target.size):
            root = np.sqrt(scale[i])
            target[i] = source[i] / (root * np.sqrt(root))
    else:
        for i in range(target.size):
            target[i] = source[i] * scale[i] ** -beta


@cached
def ratio_cpu(first, last, dy, y, scale, ratio):
    """ratio = dy y / scale, of flat elements [first, last)."""
    for i in range(first, last):
        ratio[i] = dy[i] * y[i] / scale[i]


@cached
def across_cpu(first, last, half, alpha, beta, k, x, scale, y):
    """Pieces [first, last) of `PIXELS` pixels of one image with all its channels; x (N, C, pixels)."""
    channels, pixels = x.shape[1], x.shape[2]
    pieces = (pixels + PIXELS - 1) // PIXELS
    for index in range(first, last):
        n, start = index // pieces, index % pieces * PIXELS
        end = min(start + PIXELS, pixels)
        for c in range(channels):
            sums = scale[n, c, start:end]
            for i in range(sums.size):
                sums[i] = 0
            for other in range(max(c - half, 0), min(c + half + 1, channels)):
                source = x[n, other, start:end]
                for i in range(sums.size):
                    sums[i] += source[i] * source[i]
            for i in range(sums.size):
                sums[i] = k + alpha * sums[i]
            damp_cpu(x[n, c, start:end], sums, beta, y[n, c, start:end])


@cached
def across_backward_cpu(first, last, half, alpha, beta, x, scale, y, dy, dx):
    """Backward for the same pieces as `across_cpu`."""
    channels, pixels = x.shape[1], x.shape[2]
    pieces = (pixels + PIXELS - 1) // PIXELS
    factor = x.dtype.type(2) * alpha * beta
    ratio = np.empty((channels, PIXELS), x.dtype)
    total = np.empty(PIXELS, x.dtype)
    for index in range(first, last):
        n, start = index // pieces, index % pieces * PIXELS
        end = min(start + PIXELS, pixels)
        for c in range(channels):
            above, error, below, row = y[n, c, start:end], dy[n, c, start:end], scale[n, c, start:end], ratio[c]
            for i in range(above.size):
                row[i] = error[i] * above[i] / below[i]
        for c in range(channels):
            target, source = dx[n, c, start:end], x[n, c, start:end]
            for i in range(target.size):
                total[i] = 0
            for other in range(max(c - half, 0), min(c + half + 1, channels)):
                row = ratio[other]
                for i in range(target.size):
                    total[i] += row[i]
            damp_cpu(dy[n, c, start:end], scale[n, c, start:end], beta, target)
            for i in range(target.size):
                target[i] -= factor * source[i] * total[i]


@cached
def within_cpu(first, last, half, alpha, beta, k, x, scale, y):
    """Rows [first, last), counted over all planes; x (N * C, H, W)."""
    height, width = x.shape[1], x.shape[2]
    column = np.empty(width, x.dtype)
    for index in range(first, last):
        plane, row = index // height, index % height
        column[:] = 0
        for other in range(max(row - half, 0), min(row + half + 1, height)):
            source = x[plane, other]
            for i in range(width):
                column[i] += source[i] * source[i]
        below = scale[plane, row]
        for i in range(width):
            total = x.dtype.type(0)
            for j in range(max(i - half, 0), min(i + half + 1, width)):
                total += column[j]
            below[i] = k + alpha * total
        damp_cpu(x[plane, row], below, beta, y[plane, row])


@cached
def within_backward_cpu(first, last, half, alpha, beta, x, scale, ratio, dy, dx):
    """Backward for the same rows as `within_cpu`."""
    height, width = x.shape[1], x.shape[2]
    factor = x.dtype.type(2) * alpha * beta
    column = np.empty(width, x.dtype)
    for index in range(first, last):
        plane, row = index // height, index % height
        column[:] = 0
        for other in range(max(row - half, 0), min(row + half + 1, height)):
            source = ratio[plane, other]
            for i in range(width):
                column[i] += source[i]
        target, source = dx[plane, row], x[plane, row]
        damp_cpu(dy[plane, row], scale[plane, row], beta, target)
        for i in range(width):
            total = x.dtype.type(0)
            for j in range(max(i - half, 0), min(i + half + 1, width)):
                total += column[j]
            target[i] -= factor * source[i] * total


@cached(error_model="numpy")
def damp_at(source, scale, beta):
    """Return source scale^-beta."""
    if beta == np.float32(0.75):
        root = math.sqrt(scale)
        return source / (root * math.sqrt(root))
    return source * scale ** -beta


@cached(error_model="numpy")
def ratio_at(dy, y, scale):
    """Return dy y / scale."""
    return dy * y / scale


@part
def around(values, squares, i, across, half, channels, height, width):
    """Return the sum of the values around element i, or of their squares: in order; within a plane columns first."""
    total = np.float32(0)
    row = over(i, width)
    plane = over(row, height)
    if across:
        channel, pixels = plane - over(plane, channels) * channels, height * width
        for other in range(max(channel - half, 0), min(channel + half + 1, channels)):
            value = values[i + (other - channel) * pixels]
            total += value * value if squares else value
    else:
        column = i - row * width
        row -= plane * height
        for x in range(max(column - half, 0), min(column + half + 1, width)):
            down = np.float32(0)
            for y in range(max(row - half, 0), min(row + half + 1, height)):
                value = values[i + (y - row) * width + x - column]
                down += value * value if squares else value
            total += down
    return total


@kernel("float*, float*, bool, int, float, float, float, int, int, int, int")
def lrn_cuda(x, y, across, half, alpha, beta, k, channels, height, width, count):
    """All elements of forward."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        scale = k + alpha * around(x, True, i, across, half, channels, height, width)
        y[i] = damp_at(x[i], scale, beta)


@kernel("float*, float*, float*, float*, float*, bool, int, float, float, int, int, int, int")
def lrn_ratio_cuda(x, y, dy, scale, ratio, across, half, alpha, k, channels, height, width, count):
    """All elements of the denominators before their power, and of dy y / denominator."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        scale[i] = k + alpha * around(x, True, i, across, half, channels, height, width)
        ratio[i] = ratio_at(dy[i], y[i], scale[i])


@kernel("float*, float*, float*, float*, float*, bool, int, float, float, int, int, int, int")
def lrn_backward_cuda(x, dy, scale, ratio, dx, across, half, factor, beta, channels, height, width, count):
    """All elements of backward."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        total = around(ratio, False, i, across, half, channels, height, width)
        dx[i] = damp_at(dy[i], scale[i], beta) - factor * x[i] * total
