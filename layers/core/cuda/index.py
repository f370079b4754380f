"""Arithmetic of indices in kernels."""

import numpy as np

from layers.core.cuda.kernel import part


@part
def over(i, by):
    """Return i // by of numbers from 0 to 2^32: in 32 bits, which takes a fifth of the time that it takes in 64."""
    return np.int64(np.uint32(i) // np.uint32(by))
