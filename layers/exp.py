"""Exp: y = base^(shift + scale x); base -1 (the default) means e, scale is 1 and shift 0 by default.

dx = dy y scale log(base). Any shape; works in place. Source: Caffe's ExpLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class Exp(Neuron):
    """Exponential."""

    def check(self):
        """Refuse a base that has no real powers."""
        base = self.param.exp_param.base
        if base != -1 and not base > 0:
            self.fail(f"base is {base:g}; it must be positive, or -1 for e")

    def arguments(self):
        """Return inner, outer."""
        param = self.param.exp_param
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        with np.errstate(over="ignore"):
            return self.dtype.type(log_base * param.scale), np.exp(self.dtype.type(log_base * param.shift))

    def kernels(self):
        """Return the kernels."""
        return exp_cpu, exp_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return exp_cuda, exp_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.exp_param
        log = 1.0 if own.base == -1 else math.log(own.base)
        return [export.node("Exp", export.affine(source, own.scale * log, own.shift * log))]


@cached
def exp_at(x, inner, outer):
    """Return one value of y."""
    return outer * math.exp(inner * x)


@cached
def exp_slope_at(y, inner, outer):
    """Return dy / dx of one value."""
    return y * inner


@cached
def exp_cpu(first, last, x, y, inner, outer):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = exp_at(x[i], inner, outer)


@cached
def exp_backward_cpu(first, last, x, y, dy, dx, inner, outer):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * exp_slope_at(y[i], inner, outer)


@kernel("float*, float*, float, float, int")
def exp_cuda(x, y, inner, outer, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = exp_at(x[i], inner, outer)


@kernel("float*, float*, float*, float*, float, float, int")
def exp_backward_cuda(x, y, dy, dx, inner, outer, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * exp_slope_at(y[i], inner, outer)
