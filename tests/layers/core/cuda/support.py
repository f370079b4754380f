"""What tests on a simulated card need: spans from arrays and back."""

import os

import numpy as np
import pytest

simulated = pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM", "0") in ("", "0"),
                               reason="runs in numba's simulator: NUMBA_ENABLE_CUDASIM=1")


def card():
    """Return the card."""
    from layers.core.cuda.card import find

    return find("gpu:0")


def put(array):
    """Return (part, span) of float32 values on the card; the memory is the span's as long as the part lives."""
    array = np.ascontiguousarray(array, np.float32)
    part = card().arena.take(array.nbytes)
    card().upload(part.span, array)
    return part, part.span


def get(span, shape):
    """Return the float32 values of a span."""
    array = np.empty(shape, np.float32)
    card().download(array, span)
    return array
