"""Matrix products on all threads: many products, each by BLAS on one thread.

The work is cut into items by its shape alone and every element of a result belongs to one item, so the bits do not
depend on the number of threads; BLAS's own threads would cut each product by their number, and would stand in the way
of ours while these prepare the next operands.
"""

import contextlib
import ctypes
import functools
import os
import threading

import numpy as np

from layers.core.cpu import parallel

KEEP = 1 << 24  # bytes; scratch up to this size stays with its thread, larger is given back after use
_local = threading.local()
_lock = threading.Lock()
_inside = 0
_before = 1


def each(items, function, work):
    """Call ``function(*item)`` for all `items`, on all threads; each item is claimed by the next free thread.

    `items` is a list, `work` the number of multiply-accumulates of all (small work stays on this thread). The items
    must write to disjoint places.
    """
    claimed = iter(items)

    def worker(first, last):
        with np.errstate(all="ignore"):  # infinity and NaN are the net's to report, with the blob's name
            for item in claimed:
                function(*item)

    with one_thread():
        parallel.run(worker, min(len(items), parallel.threads()), work=work // 64)  # 64: products are quick


def scratch(shape, dtype, slot=""):
    """Return an uninitialised array that is this thread's own until its next call with the same `slot`."""
    count = int(np.prod(shape))
    dtype = np.dtype(dtype)
    if count * dtype.itemsize > KEEP:
        return np.empty(shape, dtype)
    kept = getattr(_local, "kept", None)
    if kept is None:
        kept = _local.kept = {}
    flat = kept.get((slot, dtype.char))
    if flat is None or flat.size < count:
        flat = kept[slot, dtype.char] = np.empty(count, dtype)
    return flat[:count].reshape(shape)


@contextlib.contextmanager
def one_thread():
    """Let BLAS use one thread per call inside (counted, so it may be entered from several threads and nested)."""
    global _inside, _before
    get, put = _openblas()
    with _lock:
        if _inside == 0:
            _before = get()
            put(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                put(_before)


@functools.cache
def _openblas():
    """Return the functions that read and set the number of threads of the OpenBLAS inside numpy.

    Another BLAS keeps its own threads: the results are right, only not tuned.
    """
    try:
        with open("/proc/self/maps") as maps:
            paths = sorted({line.split(maxsplit=5)[5].strip() for line in maps if "openblas" in line})
    except OSError:
        paths = []
    paths.sort(key=lambda path: "numpy" not in path)  # scipy carries another one, which numpy does not call
    for path in paths:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for name in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads64_",
                     "openblas_{}_num_threads"):
            try:
                get, put = getattr(library, name.format("get")), getattr(library, name.format("set"))
            except AttributeError:
                continue
            get.restype, get.argtypes = ctypes.c_int, []
            put.restype, put.argtypes = None, [ctypes.c_int]
            return get, put
    return (lambda: 1), (lambda count: None)


def _after_fork():
    global _lock, _inside
    _lock, _inside = threading.Lock(), 0


os.register_at_fork(after_in_child=_after_fork)
