"""Run a kernel's outer range on all cores.

A kernel is compiled with ``nogil`` and takes ``(first, last, ...)``: a part of the outer range, in which each element
is written by exactly one call. So the result cannot depend on how many threads there are. Plain Python threads are
used and not numba's: they survive a fork and may be called from several threads at once, where numba's workqueue ends
the process.

A dispatch costs 6 microseconds while workers are awake and 40 when they sleep: no queue, no future, and a worker that has
nothing to do looks out for the next kernel for a moment before it sleeps (`watch`), since waking it costs more than
all the rest. Lists whose single operations are atomic under the interpreter's lock do without locks of their own.
"""

import atexit
import contextlib
import ctypes
import itertools
import os
import threading

import numba
import numpy as np

from layers.core.cpu.watch import HOLDER, watch

_lock = threading.Lock()
_pool = None
_threads = None
SMALL = 1 << 14  # elements of work below which waking a thread costs more than it saves
LOOK_OUT = 200_000  # nanoseconds that a thread watches for another one before it sleeps


# Tells on which core the caller runs; a call that keeps the interpreter's lock. None where the C library has none.
current_core = getattr(ctypes.PyDLL(None), "sched_getcpu", None)


def _cores():
    return len(os.sched_getaffinity(0))


def threads():
    """Return how many threads kernels use: DEEPJET_THREADS, or as many cores as the process may use."""
    global _threads
    if _threads is None:
        wanted = os.environ.get("DEEPJET_THREADS", "")
        _threads = int(wanted) if wanted.isdigit() and int(wanted) > 0 else _cores()
    return _threads


def set_threads(count):
    """Use `count` threads from now on (>= 1)."""
    global _threads, _pool
    with _lock:
        pool, _threads, _pool = _pool, max(1, int(count)), None
    if pool is not None:
        pool.dismiss()


class _Job:
    """One call of `run`: the parts that nobody has begun, and what became of the others."""

    __slots__ = ("args", "begun", "errors", "kernel", "parts", "woken")

    def __init__(self, kernel, args, parts):
        self.kernel, self.args, self.parts = kernel, args, parts
        self.begun = []  # (worker, number) of whoever may have taken a part: its count reaches the number at the end
        self.errors = []  # (part, error)
        self.woken = None  # a lock on which the caller sleeps

    def taken(self, place):
        """Return the first (0) or last (-1) part and have nobody else take it; None if there is none left."""
        try:
            return self.parts.pop(place)
        except IndexError:
            return None


class _Worker:
    """A thread that does parts of its pool's jobs."""

    def __init__(self, pool):
        self.pool = pool
        self.ended = np.zeros(8, np.int64)  # [0]: the turns that are over; the rest keeps others off its cache line
        self.address = self.ended.ctypes.data
        self.cores = None  # that it is held to
        self.asleep, self.woken = False, threading.Lock()
        self.woken.acquire()
        self.thread = threading.Thread(target=self._serve, name="kernel", daemon=True)

    def _serve(self):
        pool = self.pool
        while True:
            # Watch only after work: whoever comes too late each time would just be in the way.
            while self._did_something() and pool.look_out and not pool.dismissed:
                seen = int(pool.posted[0])
                if not any(job.parts for job in list(pool.jobs)):
                    watch(pool.address, seen + 1, pool.look_out, HOLDER)
            if pool.dismissed:
                return
            # Said first and then looked once more: whoever posts does it the other way round.
            self.asleep = True
            if not (pool.dismissed or any(job.parts for job in list(pool.jobs))):
                self.woken.acquire()
            self.asleep = False

    def wake(self):
        """Wake the worker if it sleeps; may be done twice."""
        if self.asleep and self.woken.locked():
            self._stand_aside()
            with contextlib.suppress(RuntimeError):
                self.woken.release()

    def _stand_aside(self):
        """Have the worker begin on another core than the caller's: put on the same one it may wait there for its turn."""
        if self.pool.look_out and current_core is not None:
            wanted = self.pool.cores - {current_core()}
            if wanted and wanted != self.cores:
                with contextlib.suppress(OSError):  # the thread has ended, or the process may use other cores since
                    os.sched_setaffinity(self.thread.native_id, wanted)
                    self.cores = wanted

    def _did_something(self):
        """Do a part of any job, if there is one."""
        for job in list(self.pool.jobs):
            if not job.parts:
                continue
            number = int(self.ended[0]) + 1
            job.begun.append((self, number))  # first, so that the caller misses no part that has been taken
            part = job.taken(0)
            if part is not None:
                try:
                    job.kernel(*part, *job.args)
                except BaseException as error:
                    job.errors.append((part, error))
            self.ended[0] = number
            if job.woken is not None:
                with contextlib.suppress(RuntimeError):
                    job.woken.release()
            if part is not None:
                return True
        return False


class _Pool:
    """The workers, and the jobs that are open to them."""

    def __init__(self, count):
        self.look_out = LOOK_OUT if count < _cores() else 0
        self.cores = os.sched_getaffinity(0)
        self.jobs, self.dismissed = [], False
        self.numbers = itertools.count(1)
        self.posted = np.zeros(8, np.int64)  # [0]: rises with each job
        self.address = self.posted.ctypes.data
        watch(self.address, 0, 0, HOLDER)  # compiled before anybody waits for it
        self.workers = [_Worker(self) for _ in range(count)]
        with contextlib.suppress(RuntimeError):  # no more threads to be had: then callers do more themselves
            for worker in self.workers:
                worker.thread.start()

    def post(self, job):
        """Offer a job to the workers."""
        self.jobs.append(job)
        for worker in self.workers:
            if worker.asleep:
                worker.wake()
        self.posted[0] = next(self.numbers)

    def end(self, job):
        """Return when no worker is at work on a job, nor will be: an interrupt has to wait for that."""
        interrupt = None
        while True:
            try:
                job.parts.clear()
                for worker, number in job.begun:
                    if worker.ended[0] < number:
                        self._wait(worker, number, job)
                if job in self.jobs:
                    self.jobs.remove(job)
                break
            except BaseException as error:  # of a signal's handler
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def _wait(self, worker, number, job):
        if self.look_out:
            watch(worker.address, number, self.look_out, HOLDER)
        if worker.ended[0] < number:
            job.woken = threading.Lock()
            job.woken.acquire()
            while worker.ended[0] < number:  # looked at after there is a lock to release
                job.woken.acquire()

    def dismiss(self):
        """Let the workers end when they have nothing more to do."""
        self.dismissed = True
        for worker in self.workers:
            worker.wake()
        self.posted[0] = next(self.numbers)


def _workers():
    global _pool
    with _lock:
        if _pool is None:
            _pool = _Pool(threads() - 1)
        return _pool


def run(kernel, count, *args, work=None):
    """Call ``kernel(first, last, *args)`` so that the parts cover [0, count).

    `work` is the number of elements the whole call touches (`count` if not given): small work stays on this thread.
    """
    _run(kernel, count, args, count if work is None else work)


class Call:
    """A kernel with its arguments, made once and run many times, one run after the other.

    `run` from the second time on calls the kernel's machine code itself: to find it by the types of some twenty arguments takes
    numba 5 to 9 microseconds in every thread, each with the interpreter's lock.

    Attributes
    ----------
    args : list
        What the kernel gets behind (first, last). Each may be replaced by another value of its type.
    """

    __slots__ = ("args", "_count", "_kernel", "_native", "_work")

    def __init__(self, kernel, count, args, work=None):
        """As `run` of this module; `args` is a list."""
        self.args, self._kernel, self._count = args, kernel, count
        self._work = count if work is None else work
        self._native = None

    def run(self):
        """Run the kernel."""
        if self._native is None:
            _run(self._kernel, self._count, self.args, self._work)  # which compiles it, if nobody has
            self._native = False
            return
        if self._native is False:  # not for a call that is made once
            self._native = self._kernel.compile(tuple(numba.typeof(value) for value in (0, self._count, *self.args)))
        _run(self._native, self._count, self.args, self._work)


def _run(kernel, count, args, work):
    parts = min(threads(), count)
    if parts <= 1 or work < SMALL:
        kernel(0, count, *args)
        return
    pool = _pool or _workers()
    job = _Job(kernel, args, [(count * i // parts, count * (i + 1) // parts) for i in range(1, parts)])
    try:
        pool.post(job)
        kernel(0, count // parts, *args)
        while (part := job.taken(-1)) is not None:
            # What no worker has begun is done here: workers may be late, or at work for others.
            kernel(*part, *args)
    finally:
        # Also after an error: nobody may still write into these arrays when we return.
        pool.end(job)
    if job.errors:
        raise min(job.errors, key=lambda error: error[0])[1]


def _after_fork():
    # Threads do not survive a fork: the child makes its own when it needs them.
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


def _at_exit():
    # No worker may come out of a kernel when there is no interpreter any more.
    pool = _pool
    set_threads(1)
    for worker in pool.workers if pool is not None else ():
        if worker.thread.is_alive():
            worker.thread.join(1)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
