"""Swish: y = x / (1 + exp(-beta x)), beta 1 by default; dx = dy (beta y + s (1 - beta y)), s = 1 / (1 + exp(-beta x)).

Any shape; works in place (x is kept aside then). float32 by vectors (`layers.core.cpu.exponential`). Source: Caffe's SwishLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached, compiled
from layers.core.cpu.exponential import logistics
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron

RUN = 1024  # values at a time
ONE = np.float32(1)


class Swish(Neuron):
    """Self-gated unit (Ramachandran et al. 2017)."""

    needs_x = True

    def arguments(self):
        """Return beta."""
        return (self.dtype.type(self.param.swish_param.beta),)

    def kernels(self):
        """Return the kernels."""
        return swish_cpu, swish_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return swish_cuda, swish_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        return [export.node("Mul", source, export.node("Sigmoid", export.affine(source, param.swish_param.beta, 0)))]


@cached
def gate_at(x, beta):
    """Return 1 / (1 + exp(-beta x)) of one value, in a form that cannot overflow."""
    return 0.5 * math.tanh(0.5 * beta * x) + 0.5


@cached(error_model="numpy")
def logistic_at(x, beta):
    """Return 1 / (1 + exp(-beta x)) of one value, in float32 throughout: what cards compute."""
    return ONE / (ONE + math.exp(-beta * x))


@cached
def swish_slope_at(y, gate, beta):
    """Return dy / dx of one value."""
    gated = beta * y
    return gated + gate * (1 - gated)


@compiled
def gates(x, beta, gate):
    """Write 1 / (1 + exp(-beta x))."""
    if x.itemsize == 4:
        logistics(np.intp(gate.ctypes.data), np.intp(x.ctypes.data), beta, x.size)
    else:
        for i in range(x.size):
            gate[i] = gate_at(x[i], beta)


@compiled
def swish_cpu(first, last, x, y, beta):
    """Elements [first, last) of forward; y may be x."""
    gate = np.empty(RUN, x.dtype)
    for start in range(first, last, RUN):
        source, target = x[start:min(start + RUN, last)], y[start:min(start + RUN, last)]
        gates(source, beta, gate)
        for i in range(source.size):
            target[i] = source[i] * gate[i]


@compiled
def swish_backward_cpu(first, last, x, y, dy, dx, beta):
    """Elements [first, last) of backward; dx may be dy."""
    gate = np.empty(RUN, x.dtype)
    for start in range(first, last, RUN):
        end = min(start + RUN, last)
        gates(x[start:end], beta, gate)
        result, error, target = y[start:end], dy[start:end], dx[start:end]
        for i in range(result.size):
            target[i] = error[i] * swish_slope_at(result[i], gate[i], beta)


@kernel("float*, float*, float, int")
def swish_cuda(x, y, beta, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = x[i] * logistic_at(x[i], beta)


@kernel("float*, float*, float*, float*, float, int")
def swish_backward_cuda(x, y, dy, dx, beta, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * swish_slope_at(y[i], logistic_at(x[i], beta), beta)
