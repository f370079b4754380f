"""ELU: y = x for x > 0, alpha (exp(x) - 1) otherwise (alpha 1 by default); dx = dy or dy (y + alpha).

Any shape; works in place (x is kept aside then). Source: Caffe's ELULayer.
"""

import math

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class ELU(Neuron):
    """Exponential linear unit."""

    needs_x = True

    def arguments(self):
        """Return alpha."""
        return (self.dtype.type(self.param.elu_param.alpha),)

    def kernels(self):
        """Return the kernels."""
        return elu_cpu, elu_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return elu_cuda, elu_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        return [export.node("Elu", source, alpha=param.elu_param.alpha)]


@cached
def elu_at(x, alpha):
    """Return one value of y."""
    return x if x > 0 else alpha * (math.exp(x) - 1)


@cached
def elu_slope_at(x, y, alpha):
    """Return dy / dx of one value."""
    return x * 0 + 1 if x > 0 else y + alpha


@cached
def elu_cpu(first, last, x, y, alpha):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = elu_at(x[i], alpha)


@cached
def elu_backward_cpu(first, last, x, y, dy, dx, alpha):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * elu_slope_at(x[i], y[i], alpha)


@kernel("float*, float*, float, int")
def elu_cuda(x, y, alpha, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = elu_at(x[i], alpha)


@kernel("float*, float*, float*, float*, float, int")
def elu_backward_cuda(x, y, dy, dx, alpha, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * elu_slope_at(x[i], y[i], alpha)
