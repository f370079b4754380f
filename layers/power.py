"""Power: y = (shift + scale x)^power; power and scale are 1 and shift 0 by default.

dx = dy power scale (shift + scale x)^(power - 1), 0 where power or scale is 0. Any shape; works in place (x is kept
aside then). A negative base with a fractional power is NaN. Source: Caffe's PowerLayer.
"""


import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class Power(Neuron):
    """Affine map and power."""

    needs_x = True

    def arguments(self):
        """Return power, scale, shift."""
        param = self.param.power_param
        return self.dtype.type(param.power), self.dtype.type(param.scale), self.dtype.type(param.shift)

    def kernels(self):
        """Return the kernels."""
        return power_cpu, power_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return power_cuda, power_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.power_param
        base = export.affine(source, own.scale, own.shift)
        return [base if own.power == 1 else export.node("Pow", base, export.number(own.power))]


@cached(error_model="numpy")
def power_cpu(first, last, x, y, power, scale, shift):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    # Most often the power is 1 or 2; any other costs 20 multiplications. Loops of their own are vectorised.
    if power == 1:
        for i in range(x.size):
            y[i] = scale * x[i] + shift
    elif power == 2:
        for i in range(x.size):
            base = scale * x[i] + shift
            y[i] = base * base
    else:
        for i in range(x.size):
            y[i] = (scale * x[i] + shift) ** power


@cached(error_model="numpy")
def power_backward_cpu(first, last, x, y, dy, dx, power, scale, shift):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    factor = power * scale
    if power == 1:
        for i in range(y.size):
            dx[i] = dy[i] * scale
    elif power == 2:
        for i in range(y.size):
            dx[i] = dy[i] * (factor * (scale * x[i] + shift))
    elif factor != 0:
        for i in range(y.size):
            dx[i] = dy[i] * (factor * (scale * x[i] + shift) ** (power - 1))
    else:
        for i in range(y.size):
            dx[i] = dy[i] * (x[i] * 0)


@cached(error_model="numpy")
def power_at(x, power, scale, shift):
    """Return one value of y."""
    base = scale * x + shift
    if power == 1:
        return base
    if power == 2:
        return base * base
    return base ** power


@cached(error_model="numpy")
def power_slope_at(x, power, scale, shift):
    """Return dy / dx of one value."""
    base, factor = scale * x + shift, power * scale
    if power == 1:
        return scale
    if power == 2:
        return factor * base
    if factor != 0:
        return factor * base ** (power - np.float32(1))
    return x * factor


@kernel("float*, float*, float, float, float, int")
def power_cuda(x, y, power, scale, shift, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = power_at(x[i], power, scale, shift)


@kernel("float*, float*, float*, float*, float, float, float, int")
def power_backward_cuda(x, y, dy, dx, power, scale, shift, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * power_slope_at(x[i], power, scale, shift)
