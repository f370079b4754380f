"""Bilinear interpolation as the kernel of a Deconvolution (the paper's section 3.3)."""

import numpy as np

from netspec.errors import Error


def bilinear_kernel(size):
    """Return the `size` x `size` kernel that upsamples by f = (size + 1) // 2 when used with stride f, float64.

    With c = f - 1 for an odd size and f - 0.5 for an even one, the centre, the value at (y, x) is
    ``(1 - |y - c| / f) (1 - |x - c| / f)``. Away from the border the copies laid down by the stride sum to 1 and a
    linear ramp comes out as a linear ramp. 2f - f % 2 is the size for a factor f (64 and 63 for 32, as published).
    """
    if size < 1:
        raise Error(f"a bilinear kernel has size 1 or more, got {size}")
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    ramp = 1 - np.abs(np.arange(size) - centre) / factor
    return np.outer(ramp, ramp)


def why_no_upsampling(shape):
    """Return why a Deconvolution's weights of this shape cannot hold upsampling kernels; "" when they can."""
    if len(shape) != 4:
        return f"its weights are {list(shape)}; upsampling kernels have 4 axes"
    if shape[2] != shape[3]:
        return f"its kernel is {shape[2]} x {shape[3]}; a bilinear one has equal sides"
    if shape[1] not in (1, shape[0]):
        return f"it has {shape[0]} inputs and {shape[1]} outputs; upsampling needs as many, or one a group"
    return ""


def fill_upsampling(weights, layer):
    """Write bilinear kernels into the array `weights`, so that each channel is interpolated from itself.

    The shape is (channels, channels, k, k), of which the diagonal is filled and the rest set to zero, or (channels, 1,
    k, k); another one is refused with the name `layer`.
    """
    why = why_no_upsampling(weights.shape)
    if why:
        raise Error(f"layer '{layer}': {why}")
    channels = np.arange(weights.shape[0])
    weights[...] = 0
    weights[channels, channels if weights.shape[1] > 1 else 0] = bilinear_kernel(weights.shape[2])
