"""Axpy: y = a * x + b, with one factor a for each channel of each image.

Bottoms: a (N, C) or (N, C, 1, ...), x (N, C, ...) and b, of x's shape. It is what a squeeze-and-excitation block ends with: a
Scale and an Eltwise in one. da = sum of x * dy over a channel's pixels, in float64 and in order; dx = a * dy; db = dy.
Source: SENet's AxpyLayer.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer


class Axpy(Layer):
    """Factors for channels times a blob, plus another."""

    exact_bottoms, exact_tops = 3, 1

    def top_shapes(self, bottom_shapes):
        """Return x's shape."""
        factors, shape, added = map(tuple, bottom_shapes)
        if len(shape) < 2 or math.prod(factors) != math.prod(shape[:2]) or factors[:2] != shape[:2]:
            self.fail(f"the factors {self.called(0)} {list(factors)} do not fit {self.called(1)} {list(shape)}: it takes one for "
                      f"each image and channel, {list(shape[:2])}")
        if added != shape:
            self.fail(f"{self.called(2)} {list(added)} and {self.called(1)} {list(shape)} must have the same shape")
        return [shape]

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self.rows = math.prod(bottom[1].shape[:2])
        self.inner = math.prod(bottom[1].shape[2:])

    def forward(self, bottom, top):
        """Multiply and add."""
        a, x, b = (blob.peek().reshape(-1) for blob in bottom)
        parallel.run(axpy_cpu, self.rows, a, x, b, top[0].data.reshape(-1), self.inner, work=x.size)

    def backward(self, top, propagate_down, bottom):
        """Write the gradients of all three."""
        dy = top[0].peek(diff=True).reshape(-1)
        if propagate_down[0]:
            parallel.run(axpy_factors_cpu, self.rows, bottom[1].peek().reshape(-1), dy, bottom[0].diff.reshape(-1), self.inner,
                         work=dy.size)
        if propagate_down[1]:
            parallel.run(axpy_scaled_cpu, self.rows, bottom[0].peek().reshape(-1), dy, bottom[1].diff.reshape(-1), self.inner,
                         work=dy.size)
        if propagate_down[2]:
            np.copyto(bottom[2].diff.reshape(-1), dy)

    def forward_cuda(self, bottom, top):
        """Multiply and add."""
        a, x, b = (blob.on(self.card) for blob in bottom)
        self.card.run(axpy_cuda, top[0].count, a, x, b, top[0].write_on(self.card), self.inner)

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the gradients of all three."""
        card, dy = self.card, top[0].on(self.card, diff=True)
        if propagate_down[0]:
            da = bottom[0].write_on(card, diff=True)
            sums.add_up(card, sums.PRODUCTS, bottom[1].on(card), dy, (1, self.rows, self.inner), da)
        if propagate_down[1]:
            dx = bottom[1].write_on(card, diff=True)
            card.run(axpy_scaled_cuda, top[0].count, bottom[0].on(card), dy, dx, self.inner)
        if propagate_down[2]:
            card.copy(bottom[2].write_on(card, diff=True), dy, 4 * top[0].count)

    @staticmethod
    def onnx(export, param, factors, source, added):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        shape = [*export.bottoms[1][:2], *[1] * (len(export.bottoms[1]) - 2)]
        factors = export.node("Reshape", factors, export.constant(shape))
        return [export.node("Add", export.node("Mul", factors, source), added)]


@cached
def axpy_cpu(first, last, a, x, b, y, inner):
    """Rows [first, last), a channel of an image each."""
    for row in range(first, last):
        start, factor = row * inner, a[row]
        source, added, target = x[start:start + inner], b[start:start + inner], y[start:start + inner]
        for i in range(inner):
            target[i] = source[i] * factor + added[i]


@cached
def axpy_scaled_cpu(first, last, a, dy, dx, inner):
    """Rows [first, last) of x's gradient."""
    for row in range(first, last):
        start, factor = row * inner, a[row]
        source, target = dy[start:start + inner], dx[start:start + inner]
        for i in range(inner):
            target[i] = source[i] * factor


@cached
def axpy_factors_cpu(first, last, x, dy, da, inner):
    """The gradients of factors [first, last): sums in float64, in order."""
    for row in range(first, last):
        start, total = row * inner, 0.0
        source, error = x[start:start + inner], dy[start:start + inner]
        for i in range(inner):
            total += float(source[i]) * float(error[i])
        da[row] = total


@kernel("float*, float*, float*, float*, int, int")
def axpy_cuda(a, x, b, y, inner, count):
    """All elements."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = x[i] * a[over(i, inner)] + b[i]


@kernel("float*, float*, float*, int, int")
def axpy_scaled_cuda(a, dy, dx, inner, count):
    """All elements of x's gradient."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * a[over(i, inner)]
