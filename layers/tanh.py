"""TanH: y = tanh(x); dx = dy (1 - y^2).

Any shape; works in place. float32 by vectors, within 1.3e-7 of the value (`layers.core.cpu.exponential`). Source:
Caffe's TanHLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached, compiled
from layers.core.cpu.exponential import tanhs
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class TanH(Neuron):
    """Hyperbolic tangent."""

    def kernels(self):
        """Return the kernels."""
        return tanh_cpu, tanh_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return tanh_cuda, tanh_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        return [export.node("Tanh", source)]


@cached
def tanh_slope_at(y):
    """Return dy / dx of one value."""
    return 1 - y * y


@compiled
def tanh_cpu(first, last, x, y):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    if x.itemsize == 4:
        tanhs(np.intp(y.ctypes.data), np.intp(x.ctypes.data), x.size)
    else:
        for i in range(x.size):
            y[i] = math.tanh(x[i])


@cached
def tanh_backward_cpu(first, last, x, y, dy, dx):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * tanh_slope_at(y[i])


@kernel("float*, float*, int")
def tanh_cuda(x, y, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = math.tanh(x[i])


@kernel("float*, float*, float*, float*, int")
def tanh_backward_cuda(x, y, dy, dx, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * tanh_slope_at(y[i])
