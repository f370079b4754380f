"""BNLL: y = log(1 + exp(x)), computed without overflow; dx = dy / (1 + exp(-x)).

Any shape; works in place (x is kept aside then). Source: Caffe's BNLLLayer.
"""

import math

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class BNLL(Neuron):
    """Binomial normal log likelihood (softplus)."""

    needs_x = True

    def kernels(self):
        """Return the kernels."""
        return bnll_cpu, bnll_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return bnll_cuda, bnll_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        return [export.node("Softplus", source)]


@cached(error_model="numpy")
def bnll_at(x):
    """Return one value of y."""
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


@cached(error_model="numpy")
def bnll_slope_at(x):
    """Return dy / dx of one value."""
    return 1 / (1 + math.exp(-x))


@cached(error_model="numpy")
def bnll_cpu(first, last, x, y):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = bnll_at(x[i])


@cached(error_model="numpy")
def bnll_backward_cpu(first, last, x, y, dy, dx):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * bnll_slope_at(x[i])


@kernel("float*, float*, int")
def bnll_cuda(x, y, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = bnll_at(x[i])


@kernel("float*, float*, float*, float*, int")
def bnll_backward_cuda(x, y, dy, dx, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * bnll_slope_at(x[i])
