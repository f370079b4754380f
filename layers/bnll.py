"""BNLL: y = log(1 + exp(x)), computed without overflow; dx = dy / (1 + exp(-x)).

Any shape; works in place (x is kept aside then). Source: Caffe's BNLLLayer.
"""

import math

from layers.core.cpu.compiled import cached
from layers.core.neuron import Neuron


class BNLL(Neuron):
    """Binomial normal log likelihood (softplus)."""

    needs_x = True

    def kernels(self):
        """Return the kernels."""
        return bnll_cpu, bnll_backward_cpu


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
