"""Log: y = log_base(shift + scale x); base -1 (the default) means e, scale is 1 and shift 0 by default.

dx = dy scale / ((shift + scale x) log(base)). Any shape; works in place (x is kept aside then). Source: Caffe's
LogLayer.
"""

import math

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class Log(Neuron):
    """Logarithm."""

    needs_x = True

    def check(self):
        """Refuse a base that has no logarithm."""
        base = self.param.log_param.base
        if base != -1 and (not base > 0 or base == 1):
            self.fail(f"base is {base:g}; it must be positive and not 1, or -1 for e")

    def arguments(self):
        """Return scale, shift, over."""
        param = self.param.log_param
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        return self.dtype.type(param.scale), self.dtype.type(param.shift), self.dtype.type(1 / log_base)

    def kernels(self):
        """Return the kernels."""
        return log_cpu, log_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return log_cuda, log_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.log_param
        value = export.node("Log", export.affine(source, own.scale, own.shift))
        return [value if own.base == -1 else export.affine(value, 1 / math.log(own.base), 0)]


@cached(error_model="numpy")
def log_at(x, scale, shift, over):
    """Return one value of y."""
    return math.log(scale * x + shift) * over


@cached(error_model="numpy")
def log_slope_at(x, scale, shift, over):
    """Return dy / dx of one value."""
    return over * scale / (scale * x + shift)


@cached(error_model="numpy")
def log_cpu(first, last, x, y, scale, shift, over):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = log_at(x[i], scale, shift, over)


@cached(error_model="numpy")
def log_backward_cpu(first, last, x, y, dy, dx, scale, shift, over):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * log_slope_at(x[i], scale, shift, over)


@kernel("float*, float*, float, float, float, int")
def log_cuda(x, y, scale, shift, over, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = log_at(x[i], scale, shift, over)


@kernel("float*, float*, float*, float*, float, float, float, int")
def log_backward_cuda(x, y, dy, dx, scale, shift, over, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * log_slope_at(x[i], scale, shift, over)
