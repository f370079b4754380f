"""Aligned arrays, and scratch memory that calls share."""

import math
import threading

import numpy as np

LINE = 64  # bytes of a cache line, and of the widest vector
KEEP = 1 << 28  # bytes of scratch kept between calls for each slot of each thread; more is given back after use
_local = threading.local()


def aligned(shape, dtype=np.float32, zero=False, slack=0):
    """Return an array that starts on a cache line; `slack` bytes behind it may be read.

    numpy gives 16 bytes: vectors across two lines cost 3 % of a matrix product.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * dtype.itemsize
    raw = (np.zeros if zero else np.empty)(size + LINE + slack, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def scratch(size, slot=""):
    """Return uninitialised memory of at least `size` bytes (uint8), `aligned`: the calling thread's own until it asks again.

    Keep the array as long as its address is in use.
    """
    return scratch_at(size, slot)[0]


def scratch_at(size, slot=""):
    """Return (`scratch`, its address)."""
    kept = getattr(_local, "kept", None)
    if kept is None:
        kept = _local.kept = {}
    found = kept.get(slot)
    if found is not None and size <= found[0].size:
        return found
    if size <= KEEP:
        kept.pop(slot, None)
    found = aligned(size, np.uint8, slack=4096)
    found = found, address(found)
    if size <= KEEP:
        kept[slot] = found
    return found


def shared(shape, slack=0):
    """As `aligned`, float32, in scratch memory: an array that lasts until the calling thread asks for another one.

    For weights as a kernel needs them, which are made for one call.
    """
    size = math.prod(shape) * 4
    return scratch(size + slack, "weights")[:size].view(np.float32).reshape(shape)


def counters(count=8):
    """Return zeroed int64 counters, each at the start of a cache line of its own: [count, 8]."""
    return aligned((count, LINE // 8), np.int64, zero=True)


def address(array):
    """Return where an array's first element is."""
    return array.__array_interface__["data"][0]
