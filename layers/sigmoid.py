"""Sigmoid: y = 1 / (1 + exp(-x)); dx = dy y (1 - y).

Any shape; works in place. float32 by vectors, within 1.3e-7 of the value (`layers.core.cpu.exponential`); float64 as
tanh(x / 2) / 2 + 1 / 2, which cannot overflow. Source: Caffe's SigmoidLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached, compiled
from layers.core.cpu.exponential import logistics
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron

ONE = np.float32(1)


class Sigmoid(Neuron):
    """Logistic function."""

    def kernels(self):
        """Return the kernels."""
        return sigmoid_cpu, sigmoid_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return sigmoid_cuda, sigmoid_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        return [export.node("Sigmoid", source)]


@cached
def sigmoid_at(x):
    """Return one value of y, in float64."""
    return 0.5 * math.tanh(0.5 * x) + 0.5


@cached(error_model="numpy")
def logistic_at(x):
    """Return one value of y, in float32 throughout: what cards compute."""
    return ONE / (ONE + math.exp(-x))


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


@kernel("float*, float*, int")
def sigmoid_cuda(x, y, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = logistic_at(x[i])


@kernel("float*, float*, float*, float*, int")
def sigmoid_backward_cuda(x, y, dy, dx, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * sigmoid_slope_at(y[i])
