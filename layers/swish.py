"""Swish: y = x / (1 + exp(-beta x)), beta 1 by default; dx = dy (beta y + s (1 - beta y)), s = 1 / (1 + exp(-beta x)).

Any shape; works in place (x is kept aside then). Source: Caffe's SwishLayer.
"""

import math

import numba

from layers.core.neuron import Neuron


class Swish(Neuron):
    """Self-gated unit (Ramachandran et al. 2017)."""

    needs_x = True

    def arguments(self):
        """Return beta."""
        return (self.dtype.type(self.param.swish_param.beta),)

    def kernels(self):
        """Return the kernels."""
        return swish_cpu, swish_backward_cpu


@numba.njit(cache=True, nogil=True)
def swish_at(x, beta):
    """Return one value of y."""
    return x * (0.5 * math.tanh(0.5 * beta * x) + 0.5)


@numba.njit(cache=True, nogil=True)
def swish_slope_at(x, y, beta):
    """Return dy / dx of one value."""
    gated = beta * y
    return gated + (0.5 * math.tanh(0.5 * beta * x) + 0.5) * (1 - gated)


@numba.njit(cache=True, nogil=True)
def swish_cpu(first, last, x, y, beta):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = swish_at(x[i], beta)


@numba.njit(cache=True, nogil=True)
def swish_backward_cpu(first, last, x, y, dy, dx, beta):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * swish_slope_at(x[i], y[i], beta)
