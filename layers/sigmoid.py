"""Sigmoid: y = 1 / (1 + exp(-x)); dx = dy y (1 - y).

Any shape; works in place. float32 by vectors, within 1.3e-7 of the value (`layers.core.cpu.exponential`); float64 as
tanh(x / 2) / 2 + 1 / 2, which cannot overflow. Source: Caffe's SigmoidLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached, compiled
from layers.core.cpu.exponential import logistics
from layers.core.neuron import Neuron


class Sigmoid(Neuron):
    """Logistic function."""

    def kernels(self):
        """Return the kernels."""
        return sigmoid_cpu, sigmoid_backward_cpu


@cached
def sigmoid_at(x):
    """Return one value of y, in float64."""
    return 0.5 * math.tanh(0.5 * x) + 0.5


@cached
def sigmoid_slope_at(y):
    """Return dy / dx of one value."""
    return y * (1 - y)


@compiled
def sigmoid_cpu(first, last, x, y):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    if x.itemsize == 4:
        logistics(np.intp(y.ctypes.data), np.intp(x.ctypes.data), np.float32(1), x.size)
    else:
        for i in range(x.size):
            y[i] = sigmoid_at(x[i])


@cached
def sigmoid_backward_cpu(first, last, x, y, dy, dx):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * sigmoid_slope_at(y[i])
