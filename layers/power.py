"""Power: y = (shift + scale x)^power; power and scale are 1 and shift 0 by default.

dx = dy power scale (shift + scale x)^(power - 1), 0 where power or scale is 0. Any shape; works in place (x is kept
aside then). A negative base with a fractional power is NaN. Source: Caffe's PowerLayer.
"""

import numba

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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def power_at(x, power, scale, shift):
    """Return one value of y."""
    base = scale * x + shift
    return base if power == 1 else base**power  # most often it is 1, and a power costs 20 multiplications


@numba.njit(cache=True, nogil=True, error_model="numpy")
def power_slope_at(x, power, scale, shift):
    """Return dy / dx of one value."""
    if power == 1:
        return scale
    return power * scale * (scale * x + shift) ** (power - 1) if power * scale != 0 else x * 0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def power_cpu(first, last, x, y, power, scale, shift):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = power_at(x[i], power, scale, shift)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def power_backward_cpu(first, last, x, y, dy, dx, power, scale, shift):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * power_slope_at(x[i], power, scale, shift)
