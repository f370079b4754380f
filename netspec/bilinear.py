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
