"""Run a kernel's outer range on all cores.

A kernel is compiled with ``nogil`` and takes ``(first, last, ...)``: a part of the outer range, in which each element
is written by exactly one call. So the result cannot depend on how many threads there are. Plain Python threads are
used and not numba's: they cost about as much (50 microseconds a dispatch), survive a fork and may be called from
several threads at once, where numba's workqueue ends the process.
"""

import concurrent.futures
import os
import threading

_lock = threading.Lock()
_pool = None
_threads = None
SMALL = 1 << 14  # elements of work below which waking a thread costs more than it saves


def threads():
    """Return how many threads kernels use: DEEPJET_THREADS, or as many cores as the process may use."""
    global _threads
    if _threads is None:
        wanted = os.environ.get("DEEPJET_THREADS", "")
        _threads = int(wanted) if wanted.isdigit() and int(wanted) > 0 else len(os.sched_getaffinity(0))
    return _threads


def set_threads(count):
    """Use `count` threads from now on (>= 1)."""
    global _threads, _pool
    with _lock:
        _threads, _pool = max(1, int(count)), None


def _workers():
    global _pool
    with _lock:
        if _pool is None:
            _pool = concurrent.futures.ThreadPoolExecutor(threads() - 1, thread_name_prefix="kernel")
        return _pool


def run(kernel, count, *args, work=None):
    """Call ``kernel(first, last, *args)`` so that the parts cover [0, count).

    `work` is the number of elements the whole call touches (`count` if not given): small work stays on this thread.
    """
    parts = min(threads(), count)
    if parts <= 1 or (count if work is None else work) < SMALL:
        kernel(0, count, *args)
        return
    edges = [count * i // parts for i in range(parts + 1)]
    pool = _workers()
    rest = [(pool.submit(kernel, *part, *args), part) for part in zip(edges[1:], edges[2:])]
    try:
        kernel(edges[0], edges[1], *args)
        for future, part in reversed(rest):
            # What no worker has begun is done here: workers may be late, or wait in turn for work of their own.
            if future.cancel():
                kernel(*part, *args)
    finally:
        # Also after an error: nobody may still write into these arrays when we return.
        begun = [future for future, _ in rest if not future.cancel()]
        concurrent.futures.wait(begun)
    for future in begun:
        future.result()


def _after_fork():
    # Threads do not survive a fork: the child makes its own when it needs them.
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
