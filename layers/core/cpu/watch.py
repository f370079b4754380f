"""Watch a counter that another thread will raise, without sleeping: waking a thread that sleeps takes 30-50 microseconds.

The interpreter's lock is not held meanwhile, and is needed right after. Whoever asks for it while it is held goes to
sleep too. So the watcher also waits until it is free: CPython before 3.12 tells every thread who holds it.
"""

import ctypes
import platform
import sys
import time

from llvmlite import ir
from numba import types
from numba.core import cgutils

from layers.core.cpu.compiled import compiled
from layers.core.cpu.moves import let_others_run, look
from layers.core.cpu.vector_ir import ADDRESS, INT32, INT64, emitted

CLOCK = time.CLOCK_MONOTONIC
LOOKS = 64  # looks, 1-3 microseconds, before the clock is read and the processor offered to others
BUSY = 20_000  # nanoseconds away after which others do need the processor
# Returns the thread state that holds the interpreter's lock, or NULL; from 3.12 on only the calling thread's own.
HOLDER = (ctypes.cast(ctypes.pythonapi._PyThreadState_UncheckedGet, ctypes.c_void_p).value or 0
          if sys.implementation.name == "cpython" and sys.version_info < (3, 12) else 0)


def _pause(builder):
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
    elif machine in ("aarch64", "arm64"):
        kind = ir.FunctionType(ir.VoidType(), [INT32])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint")
        builder.call(hint, [ir.Constant(INT32, 1)])  # YIELD


def _now(builder):
    pair = ir.ArrayType(INT64, 2)
    moment = cgutils.alloca_once(builder, pair)
    kind = ir.FunctionType(INT32, [INT32, pair.as_pointer()])
    read = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
    builder.call(read, [ir.Constant(INT32, CLOCK), moment])
    seconds, rest = (builder.extract_value(builder.load(moment), i) for i in range(2))
    return builder.add(builder.mul(seconds, ir.Constant(INT64, 10**9)), rest)


def _asked(builder, function):
    kind = ir.FunctionType(INT64, [])
    return builder.call(builder.inttoptr(function, kind.as_pointer()), [])


pause = emitted("pause", [types.void], _pause)  # tells the processor that this is a loop that waits
now = emitted("now", [types.intp], _now)  # nanoseconds
asked = emitted("asked", [types.intp, ADDRESS], _asked)  # what the function at an address returns


@compiled
def watch(address, count, nanoseconds, holder):
    """Return when the counter at `address` has reached `count` and nobody holds the interpreter's lock, or time is up.

    Time is up early on a busy machine, where watching would keep others, and maybe the watched thread, from their work.
    `holder` is `HOLDER`, where that is 0 the lock is not asked for.
    """
    end = now() + nanoseconds
    while True:
        for _ in range(LOOKS):
            if look(address) >= count and (holder == 0 or asked(holder) == 0):
                return
            pause()
        before = now()
        let_others_run()
        after = now()
        if after > end or after - before > BUSY:
            return
