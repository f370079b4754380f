"""`@compiled`: numba.njit whose cache on disk knows every source that went into the machine code.

numba's own cache=True asks only whether the file of the function itself has changed. Our kernels are emitted by
generators in other files (`vector_ir`, `microkernel`, `winograd_ir`), so it would go on serving code that an old
generator made. Here the question is whether any file of this folder has changed: 20 small files are hashed in a
millisecond, and an edit costs one compilation of the kernels, a minute at most.

Two more rules make the cache work. Intrinsics must be globals of their modules: numba pickles what a closure holds, an
intrinsic pickles to something new in every process, and the lookup always misses. And all that shapes the code beside
the sources (`isa.ISA`) must follow from the processor's name and features, by which numba keeps entries apart.
"""

import contextlib
import functools
import hashlib
import pathlib

import numba
from numba.core.caching import FunctionCache

FOLDER = pathlib.Path(__file__).resolve().parent


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
    dispatcher = numba.njit(nogil=True)(function)
    # With another numba or no folder to write to: compile in every process, which is slow and right.
    with contextlib.suppress(AttributeError, RuntimeError, TypeError):
        dispatcher._cache = _Cache(function)
    return dispatcher


def part_of_kernel(function):
    """Compile a function as a part of each kernel that calls it, and never alone: each is then optimised once only.

    For the large pieces of kernels. numba optimises a called function once by itself and again in every caller.
    """
    return numba.njit(nogil=True, inline="always")(function)
