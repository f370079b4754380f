"""`@compiled`: numba.njit whose cache on disk knows every source that went into the machine code.

numba's own cache=True asks only whether the file of the function itself has changed. Our kernels are emitted by
generators in other files (`vector_ir`, `microkernel`, `winograd_ir`), so it would go on serving code that an old
generator made. Here the question is whether any file of this folder has changed: 20 small files are hashed in a
millisecond, and an edit costs one compilation of the kernels, a minute at most.

Two more rules make the cache work. Intrinsics must be globals of their modules: numba pickles what a closure holds, an
intrinsic pickles to something new in every process, and the lookup always misses. And all that shapes the code beside
the sources (`isa.ISA`) must follow from the processor's name and features, by which numba keeps entries apart.

Who waits for the compiler is told so by a line of the log (`Teller`), and the compiler is asked for LLVM's O2: O3 takes a
third longer over our kernels and makes none of them faster. NUMBA_OPT in the environment says otherwise.
"""

import contextlib
import functools
import hashlib
import logging
import os
import pathlib
import threading
import time

import numba
from numba.core import config, event
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

log = logging.getLogger("deepjet")
FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[2]
NOTICEABLE = 1  # seconds of compiling before somebody who waits is told
QUIET = 5  # seconds without compiling after which it is over

if "NUMBA_OPT" not in os.environ:
    os.environ["NUMBA_OPT"] = "2"
    config.reload_config()


@functools.cache
def version():
    """Return a hash of all sources in this folder."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class _Cache(FunctionCache):
    """numba's cache of one function, with `version` in the stamp that it compares."""

    def __init__(self, function):
        super().__init__(function)
        index = self._cache_file
        index._source_stamp = (version(), index._source_stamp)


def compiled(function):
    """Compile a function for arguments as they come, without the interpreter's lock, cached on disk by `version`."""
    return _kept(numba.njit(nogil=True)(function), _Cache)


def cached(function=None, **options):
    """Compile as numba.njit(cache=True, nogil=True) would, also where there is no folder to keep machine code in.

    For loops without emitted code: only an edit of their own file has them compiled again. `options`: more for numba.njit.
    """
    if function is None:
        return functools.partial(cached, **options)
    return _kept(numba.njit(nogil=True, **options)(function), FunctionCache)


def _kept(dispatcher, cache):
    # With another numba or no folder to write to: compile in every process, which is slow and right.
    with contextlib.suppress(AttributeError, RuntimeError, TypeError):
        dispatcher._cache = cache(dispatcher.py_func)
    return dispatcher


def part_of_kernel(function):
    """Compile a function as a part of each kernel that calls it, and never alone: each is then optimised once only.

    For the large pieces of kernels. numba optimises a called function once by itself and again in every caller.
    """
    return numba.njit(nogil=True, inline="always")(function)


class Teller(event.Listener):
    """Tells the log when machine code is being made and when it is done, if that takes noticeable time.

    numba calls it as it begins and ends to compile a function that no cache has, also inside another, with its lock held.
    """

    def __init__(self):
        self.depth, self.since, self.took, self.told = 0, 0.0, 0.0, False
        self.timer = threading.Timer(0, self.ended)

    def on_start(self, event):
        """Have it told when this lasts; functions of others are not ours to tell of."""
        dispatcher = event.data["dispatcher"]
        if self.depth == 0 and dispatcher.py_func.__code__.co_filename.startswith(f"{ROOT}{os.sep}"):
            self.since = time.perf_counter()
            self._later(NOTICEABLE - self.took, self.begun, getattr(dispatcher._cache, "cache_path", None))
        self.depth += 1

    def on_end(self, event):
        """Add up; it is over when nothing more comes for a while."""
        self.depth -= 1
        if self.depth == 0 and self.since:
            self.took, self.since = self.took + time.perf_counter() - self.since, 0.0
            self._later(QUIET, self.ended)

    def begun(self, folder):
        """Tell once that somebody is waiting for the compiler."""
        if not self.told:
            self.told = True
            processor = cpu_target.target_context.codegen().magic_tuple()[1]
            log.warning("compiling kernels for %s (%s) ...", processor,
                        f"once, half a minute at most; kept in '{folder}'" if folder else
                        "in every process, since no folder can be written to: NUMBA_CACHE_DIR may name one")

    def ended(self):
        """Tell that it is over, if it was told to have begun."""
        if self.told:
            log.warning("compiled kernels in %.0f s", self.took)
        self.took, self.told = 0.0, False

    def _later(self, seconds, function, *arguments):
        self.timer.cancel()
        self.timer = threading.Timer(max(0, seconds), function, arguments)
        self.timer.daemon = True  # nobody waits for it at the end
        self.timer.start()


event.register("numba:compile", Teller())
