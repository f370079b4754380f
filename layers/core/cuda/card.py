"""Card: one NVIDIA card, its memory and its queue of work; and one that numba's simulator plays where there is none.

Everything is queued on one stream, in order, while Python goes on; only what brings values to the host waits. With
NUMBA_ENABLE_CUDASIM=1 in the environment each card is simulated: kernels run in Python, thread by thread, for tests.
"""

import contextlib
import functools
import os
import threading
import time
from typing import NamedTuple

import numpy as np

from layers.core.cuda import driver
from layers.core.cuda.arena import Arena
from layers.core.cuda.kernel import OLDEST, bound
from layers.core.cuda.recording import NotRecorded
from layers.core.cuda.staging import Staging
from netspec.errors import Error, UnknownName

_thread = threading.local()  # `card`: whose context a thread has
BLOCKS = 32  # of a `run`, per multiprocessor: more only wait


class Span(NamedTuple):
    """Memory on a card: a number for a real one, an array of bytes for a simulated one."""

    address: object
    nbytes: int


def simulated():
    """Whether kernels run in numba's simulator."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "") not in ("", "0")


@functools.cache
def card(number):
    """Return card `number` (counted from 0, as `nvidia-smi -L` does); raises `Error` where there is none or it is too old."""
    return SimulatedCard(number) if simulated() else Card(number)


def find(device):
    """Return the `Card` that somebody means by None or "cpu" (no card), a number, "gpu" (the first) or "gpu:1"."""
    if device in (None, "", "cpu"):
        return None
    if isinstance(device, (Card, SimulatedCard)):
        return device
    name, _, number = str(device).rpartition(":")
    name, number = ("gpu", "0") if number in ("gpu", "cuda") else (name or "gpu", number)
    if name in ("gpu", "cuda") and number.removeprefix("-").isdecimal():
        if int(number) < 0:
            raise Error(f"device {device}: cards are counted from 0")
        return card(int(number))
    if name in ("gpu", "cuda") and (number == "all" or "," in number):
        raise Error(f"device '{device}': deepjet runs a net on one card so far; name one, such as 'gpu:0'")
    raise UnknownName(f"device '{device}'; it is 'cpu', 'gpu' or 'gpu:NUMBER'")


def cards():
    """Return (name, capability, bytes of memory) of each card; an empty list where there is no driver."""
    if simulated():
        return [(SimulatedCard.name, SimulatedCard.capability, card(0).most)]
    try:
        driver.call("Init", 0)
        count = driver.call("DeviceGetCount")
    except Error:
        return []
    found = []
    for number in range(count):
        handle = driver.call("DeviceGet", number)
        found.append((_name(handle), _capability(handle), driver.call("DeviceTotalMem", handle)))
    return found


def _name(handle):
    return driver.call("DeviceGetName", 100, handle).split(b"\0")[0].decode()


def _capability(handle):
    return (driver.attribute(handle, "COMPUTE_CAPABILITY_MAJOR"), driver.attribute(handle, "COMPUTE_CAPABILITY_MINOR"))


class Card:
    """A real card.

    Attributes
    ----------
    number, name, capability : int, str, (int, int)
    processors : int
        Multiprocessors.
    threads : int
        That a block should have at most, where its number is free.
    arena : Arena
        Where blobs get their memory.
    recording : layers.core.cuda.recording.Recording or None
        Where work is written down at the moment.
    accesses : list or None
        Where blobs then write down that they were asked for.
    """

    threads = 1024
    recording = accesses = None

    def __init__(self, number):
        driver.call("Init", 0)
        count = driver.call("DeviceGetCount")
        if not number < count:
            raise Error(f"no card {number}: the driver sees {count}{f', numbers 0 to {count - 1}' if count else ''}; "
                        "nvidia-smi -L lists them, and CUDA_VISIBLE_DEVICES may hide some")
        self.number = number
        self.handle = driver.call("DeviceGet", number)
        self.name, self.capability = _name(self.handle), _capability(self.handle)
        if self.capability < OLDEST:
            raise Error(f"card {number} ({self.name}) is of capability {_dotted(self.capability)}; deepjet needs "
                        f"{_dotted(OLDEST)} (Turing) or newer: compute on the CPU")
        self.processors = driver.attribute(self.handle, "MULTIPROCESSOR_COUNT")
        self._context = driver.call("DevicePrimaryCtxRetain", self.handle)
        self.enter()
        self.stream = driver.call("StreamCreate", 1)  # CU_STREAM_NON_BLOCKING
        self.arena, self._staging = Arena(self), Staging(self)
        self._functions = {}

    def __repr__(self):
        return f"<card {self.number}: {self.name}, capability {_dotted(self.capability)}>"

    def enter(self):
        """Make the card the calling thread's, as all its calls need."""
        if getattr(_thread, "card", None) is not self:
            driver.call("CtxSetCurrent", self._context)
            _thread.card = self

    def memory(self):
        """Return (bytes in all, bytes free)."""
        self.enter()
        free, total = driver.call("MemGetInfo")
        return total, free

    def take(self, nbytes):
        """Return a new `Span`, not cleared; `Arena` is who asks."""
        self.enter()
        self._do("memory is taken")
        try:
            return Span(int(driver.call("MemAlloc", nbytes)), nbytes)
        except driver.DriverError as error:
            raise driver.CardError(f"card {self.number} ({self.name}) has no {nbytes / 2**30:.2f} GiB more: {error}") from error

    def give_back(self, span):
        """Free a span of `take`, when what was queued is done."""
        self.synchronize()
        driver.call("MemFree", span.address)

    @staticmethod
    def within(span, offset, nbytes):
        """Return `nbytes` of a span, from `offset` on."""
        return Span(span.address + offset, nbytes)

    def upload(self, span, array):
        """Copy a contiguous array to the card; it may be changed at once. The host goes on unless it is large (`Staging`)."""
        self.enter()
        self._do("values go to the card")
        if not self._staging.send(span, array):
            driver.call("MemcpyHtoDAsync", span.address, array.ctypes.data, array.nbytes, self.stream)

    def download(self, array, span):
        """Copy from the card to a contiguous array, and wait for it."""
        self.enter()
        self._do("values come from the card")
        driver.call("MemcpyDtoHAsync", array.ctypes.data, span.address, array.nbytes, self.stream)
        self.synchronize()

    def copy(self, to, span, nbytes):
        """Copy bytes within the card."""
        self.enter()
        driver.call("MemcpyDtoDAsync", to.address, span.address, nbytes, self.stream)

    def clear(self, span, nbytes=None):
        """Set the bytes of a span, or the first `nbytes`, to zero."""
        self.enter()
        driver.call("MemsetD8Async", span.address, 0, span.nbytes if nbytes is None else nbytes, self.stream)

    def launch(self, kernel, grid, *arguments, threads=None):
        """Queue a kernel: `grid` blocks (a number, or up to 3) of `threads`; arguments are spans and numbers."""
        self.enter()
        function = self._functions.get(kernel)
        if function is None:
            self._do("a kernel is loaded")
            function = self._functions[kernel] = driver.Function(kernel, self.capability)
        function.launch(_triple(grid), _triple(threads or kernel.threads), self.stream,
                        [one.address if isinstance(one, Span) else one for one in arguments])

    def run(self, kernel, count, *arguments):
        """Queue a kernel that does elements grid(1), grid(1) + gridsize(1), ... below `count`, its last argument."""
        if count:
            self.launch(kernel, min(-(-count // kernel.threads), BLOCKS * self.processors), *arguments, count)

    def synchronize(self):
        """Wait until all that was queued is done; an error of a kernel comes out here."""
        self.enter()
        self._do("the host waits")
        driver.call("StreamSynchronize", self.stream)

    def mark(self):
        """Note the time at which the card gets to this point of its queue; return what `seconds` takes."""
        self.enter()
        self._do("time is taken")
        event = driver.call("EventCreate", 0)
        driver.call("EventRecord", event, self.stream)
        return event

    def seconds(self, begin, end):
        """Wait for the later of two marks; return the seconds between them on the card, to about 1e-6. Both are used up."""
        self.enter()
        driver.call("EventSynchronize", end)
        elapsed = driver.call("EventElapsedTime", begin, end) / 1e3
        for event in (begin, end):
            driver.call("EventDestroy", event)
        return elapsed

    # --- see layers.core.cuda.recording -------------------------------------------------------------------------------

    def _do(self, what):
        """Refuse what cannot be written down, if that is what is going on."""
        if self.recording is not None:
            raise NotRecorded(f"{what} in work that is to be recorded")

    def begin_recording(self):
        """Write down what is queued from now on, instead of doing it."""
        self.enter()
        driver.call("StreamBeginCapture", self.stream, driver.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def end_recording(self):
        """Return what was written down, for `replay`."""
        graph = driver.call("StreamEndCapture", self.stream)
        try:
            return driver.call("GraphInstantiate", graph, 0)
        finally:
            driver.call("GraphDestroy", graph)

    def replay(self, work):
        """Queue what was written down."""
        self.enter()
        driver.call("GraphLaunch", work, self.stream)

    def forget(self, work):
        """Let go what was written down."""
        with contextlib.suppress(driver.CardError):
            self.synchronize()
            driver.call("GraphExecDestroy", work)


class SimulatedCard:
    """Stands for a card in tests; as `Card`, but spans hold arrays of bytes and nothing is ever under way."""

    processors = 2
    threads = 8
    capability = OLDEST
    name = "simulated"
    stream = 0
    recording = accesses = None

    def __init__(self, number):
        self.number = number
        self.taken, self.most = 0, int(os.environ.get("DEEPJET_SIMULATED_MEMORY", 1 << 30))
        self.arena = Arena(self)
        self._functions, self._parts = {}, {}

    def __repr__(self):
        return f"<card {self.number}: simulated>"

    def enter(self):
        """Nothing to do."""

    def memory(self):
        """Return (bytes in all, bytes free)."""
        return self.most, self.most - self.taken

    def take(self, nbytes):
        """Return a new `Span`, full of NaN: nobody may count on zeros."""
        self._do("memory is taken")
        if nbytes > self.most - self.taken:
            raise driver.CardError(f"card {self.number} ({self.name}) has no {nbytes / 2**30:.2f} GiB more")
        self.taken += nbytes
        return Span(np.full(nbytes, 0xFF, np.uint8), nbytes)

    def give_back(self, span):
        """Free a span of `take`."""
        self.taken -= span.nbytes

    @staticmethod
    def within(span, offset, nbytes):
        """Return `nbytes` of a span, from `offset` on."""
        return Span(span.address[offset:offset + nbytes], nbytes)

    def upload(self, span, array):
        """Copy a contiguous array to the card."""
        self._do("values go to the card")
        span.address[: array.nbytes] = array.reshape(-1).view(np.uint8)

    def download(self, array, span):
        """Copy from the card to a contiguous array."""
        self._do("values come from the card")
        array.reshape(-1).view(np.uint8)[...] = span.address[: array.nbytes]

    def copy(self, to, span, nbytes):
        """Copy bytes within the card."""
        self._now_or_then(lambda: np.copyto(to.address[:nbytes], span.address[:nbytes].copy()))

    def clear(self, span, nbytes=None):
        """Set the bytes of a span, or the first `nbytes`, to zero."""
        self._now_or_then(lambda: span.address[:nbytes].fill(0))

    def launch(self, kernel, grid, *arguments, threads=None):
        """Run a kernel, thread by thread."""
        from numba import cuda
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        function = self._functions.get(kernel)
        if function is None:
            from layers.core.cuda import ptx_simulated

            # Numba puts its module into a part's globals at each call, for all threads at once: they would disturb each other.
            function = cuda.jit(bound(kernel.function, ptx_simulated.Running(), ptx_simulated, lambda part: part, self._parts))
            self._functions[kernel] = function
        given = []
        for (name, pointer), one in zip(kernel.arguments, arguments, strict=True):
            if pointer:
                kind = np.dtype(name)
                one = FakeCUDAArray(one.address[: one.nbytes // kind.itemsize * kind.itemsize].view(kind))
            elif name.startswith("float"):
                one = np.dtype(name).type(one)
            given.append(one)

        def run():
            # Numba's simulator keeps one grid for each kernel, so it is told when the kernel runs.
            with np.errstate(all="ignore"):
                function[_triple(grid), _triple(threads or kernel.threads), 0, kernel.shared](*given)

        self._now_or_then(run)

    def run(self, kernel, count, *arguments):
        """Run a kernel over `count` elements, in a few small blocks: each thread costs a thread of Python."""
        if count:
            threads = min(kernel.threads, 32)
            self.launch(kernel, min(-(-count // threads), 2), *arguments, count, threads=threads)

    def synchronize(self):
        """Nothing is under way."""
        self._do("the host waits")

    def mark(self):
        """Return the time."""
        self._do("time is taken")
        return time.perf_counter()

    @staticmethod
    def seconds(begin, end):
        """Return the seconds between two marks."""
        return end - begin

    # --- see layers.core.cuda.recording -------------------------------------------------------------------------------

    _do = Card._do

    def _now_or_then(self, work):
        if self.recording is None:
            work()
        else:
            self._written.append(work)

    def begin_recording(self):
        """Write down what is queued from now on, instead of doing it."""
        self._written = []

    def end_recording(self):
        """Return what was written down, for `replay`."""
        return self._written

    def replay(self, work):
        """Do what was written down."""
        for one in work:
            one()

    def forget(self, work):
        """Let go what was written down."""


def _dotted(capability):
    return ".".join(map(str, capability))


def _triple(numbers):
    numbers = (numbers,) if isinstance(numbers, (int, np.integer)) else tuple(numbers)
    return (*numbers, *(1,) * (3 - len(numbers)))
