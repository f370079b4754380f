"""The bilinear kernel: the paper's interpolation, exact on constants and ramps."""

import numpy as np
import pytest

from netspec.bilinear import bilinear_kernel
from netspec.errors import Error


def upsampled(values, size, factor):
    """Deconvolve a 2-d array with the kernel by plain loops."""
    kernel = bilinear_kernel(size)
    out = np.zeros([factor * (side - 1) + size for side in values.shape])
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            out[y * factor:y * factor + size, x * factor:x * factor + size] += values[y, x] * kernel
    return out


@pytest.mark.parametrize("size, factor", [(4, 2), (3, 2), (16, 8), (32, 16), (64, 32), (63, 32), (7, 4), (1, 1)])
def test_constants_and_ramps_come_out_exact(size, factor):
    ramp = np.add.outer(3.0 * np.arange(6), np.arange(7) - 2.0)
    inside = np.s_[size:-size, size:-size]
    assert np.allclose(upsampled(np.ones((6, 7)), size, factor)[inside], 1, rtol=0, atol=1e-12)
    out = upsampled(ramp, size, factor)[inside]
    assert np.allclose(np.diff(out, axis=0), 3 / factor) and np.allclose(np.diff(out, axis=1), 1 / factor)


def test_sizes_below_one_are_refused():
    with pytest.raises(Error, match="got 0"):
        bilinear_kernel(0)
