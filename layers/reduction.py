"""Reduction: all axes from `axis` (default 0) on become one value: SUM, ASUM (of |x|), SUMSQ (of x^2) or MEAN.

The value is multiplied by `coeff` (default 1). Sums are taken in float64. Gradient: coeff dy times 1, sign(x), 2 x or
1 / n. Source: Caffe's ReductionLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer
from netspec import caffe_pb2

SUM, ASUM, SUMSQ, MEAN = (caffe_pb2.ReductionParameter.ReductionOp.Value(name)
                          for name in ("SUM", "ASUM", "SUMSQ", "MEAN"))

KINDS = {SUM: sums.VALUES, MEAN: sums.VALUES, ASUM: sums.MAGNITUDES, SUMSQ: sums.PRODUCTS}


class Reduction(Layer):
    """Sum or mean over the last axes."""

    exact_bottoms = exact_tops = 1

    def _axis(self, shape):
        return self.canonical_axis(self.param.reduction_param.axis, len(shape))

    def top_shapes(self, bottom_shapes):
        """Return the axes that stay."""
        shape = tuple(bottom_shapes[0])
        return [shape[:self._axis(shape)]]

    def _rows(self, blob, values):
        axis = self._axis(blob.shape)
        return values.reshape(math.prod(blob.shape[:axis]), math.prod(blob.shape[axis:]))

    def _factor(self, length):
        param = self.param.reduction_param
        return param.coeff / max(1, length) if param.operation == MEAN else param.coeff

    def forward(self, bottom, top):
        """Sum up."""
        x, operation = self._rows(bottom[0], bottom[0].data), self.param.reduction_param.operation
        if operation == ASUM:
            total = abs(x).sum(1, dtype=np.float64)
        elif operation == SUMSQ:
            total = np.einsum("ij,ij->i", x, x, dtype=np.float64)
        else:
            total = x.sum(1, dtype=np.float64)
        top[0].data.reshape(-1)[...] = total * self._factor(x.shape[1])

    def backward(self, top, propagate_down, bottom):
        """Spread the gradient."""
        if not propagate_down[0]:
            return
        x, dx = self._rows(bottom[0], bottom[0].data), self._rows(bottom[0], bottom[0].diff)
        operation = self.param.reduction_param.operation
        dy = top[0].diff.reshape(-1, 1) * self.dtype.type(self._factor(x.shape[1]))
        if operation == ASUM:
            np.multiply(np.sign(x), dy, out=dx)
        elif operation == SUMSQ:
            np.multiply(x, 2 * dy, out=dx)
        else:
            dx[...] = dy

    def _sizes(self, blob):
        axis = self._axis(blob.shape)
        return math.prod(blob.shape[:axis]), math.prod(blob.shape[axis:])

    def forward_cuda(self, bottom, top):
        """Sum up."""
        x, sizes = bottom[0].on(self.card), self._sizes(bottom[0])
        sums.add_up(self.card, KINDS[self.param.reduction_param.operation], x, x, (1, *sizes), top[0].write_on(self.card),
                    self._factor(sizes[1]))

    def backward_cuda(self, top, propagate_down, bottom):
        """Spread the gradient."""
        if propagate_down[0]:
            x, dy, dx = bottom[0].on(self.card), top[0].on(self.card, diff=True), bottom[0].write_on(self.card, diff=True)
            length = self._sizes(bottom[0])[1]
            self.card.run(reduction_backward_cuda, bottom[0].count, KINDS[self.param.reduction_param.operation], x, dy, dx,
                          self._factor(length), length)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.reduction_param
        axes = list(range(export.axis(own.axis), len(export.bottoms[0])))
        if own.operation == own.SUM:
            value = export.node("ReduceSum", source, export.constant(axes), keepdims=0)
        else:
            kind = {own.MEAN: "ReduceMean", own.ASUM: "ReduceL1", own.SUMSQ: "ReduceSumSquare"}[own.operation]
            value = export.node(kind, source, axes=axes, keepdims=0)
        return [export.affine(value, own.coeff, 0)]


@cached
def reduced_slope_at(kind, x):
    """Return dy / dx of one value, without the factor; NaN where x is NaN, but not for plain sums."""
    if kind == sums.MAGNITUDES:
        return 1.0 if x > 0 else -1.0 if x < 0 else float(x)
    return 2.0 * x if kind == sums.PRODUCTS else 1.0


@kernel("int, float*, float*, float*, float, int, int")
def reduction_backward_cuda(kind, x, dy, dx, factor, length, count):
    """All elements of the bottom's gradient."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = reduced_slope_at(kind, x[i]) * (dy[over(i, length)] * factor)
