"""Small moves at addresses: 16 floats at a time, transposes, and counters that threads share.

numba guards computed array indices against negative ones, which costs packing loops a factor; these do not.

`claim` hands out items to whatever thread comes next. In a job with stages all items are numbered in one row, stage
after stage, claimed in order, and `wait` only ever waits for items with smaller numbers: those are in work, so the job
ends even if all threads but one never run. Who computes an item does not show in its bits.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.vector_ir import ADDRESS, FLOAT, INT64, Emitter, emitted, transposed16


def _copy16(builder, target, source):
    emitter = Emitter(builder)
    for part in range(0, BLOCK, ISA.width):
        emitter.store(emitter.load(emitter.pointer(source), part), emitter.pointer(target), part)


def _zero16(builder, target):
    emitter = Emitter(builder)
    for part in range(0, BLOCK, ISA.width):
        emitter.store(emitter.constant(0), emitter.pointer(target), part)


def _add16(builder, target, source):
    emitter = Emitter(builder)
    onto, added = emitter.pointer(target), emitter.pointer(source)
    for part in range(0, BLOCK, ISA.width):
        emitter.store(builder.fadd(emitter.load(onto, part), emitter.load(added, part)), onto, part)


def _copy_first(builder, target, source, count):
    emitter = Emitter(builder)
    for part in range(0, BLOCK, ISA.width):
        mask = emitter.first(builder.sub(count, emitter.number(part)))
        value = emitter.load_first(emitter.moved(emitter.pointer(source), part), mask)
        emitter.store_first(value, emitter.moved(emitter.pointer(target), part), mask)


def _transpose16(builder, source, source_row, target, target_row):
    emitter = Emitter(builder, BLOCK)
    rows = transposed16(emitter, [emitter.load(emitter.after(source, i, source_row)) for i in range(BLOCK)])
    for i in range(BLOCK):
        emitter.store(rows[i], emitter.after(target, i, target_row))


def _get(builder, source):
    return builder.load(builder.inttoptr(source, FLOAT.as_pointer()))


def _put(builder, target, value):
    builder.store(value, builder.inttoptr(target, FLOAT.as_pointer()))


def tuple_at(name, kind):
    """Return the intrinsic ``name(address)``: the NamedTuple `kind` of numbers that lie there as int64, side by side.

    A call of a kernel takes 50 ns for each number of a tuple that it is given, in every thread with the interpreter's lock.
    """
    count = len(kind._fields)

    def emit(builder, address):
        first = builder.inttoptr(address, INT64.as_pointer())
        return cgutils.pack_array(builder, [builder.load(builder.gep(first, [ir.Constant(INT64, i)])) for i in range(count)])

    return emitted(name, [types.NamedUniTuple(types.intp, count, kind), ADDRESS], emit)


def _counter(builder, address):
    return builder.inttoptr(address, INT64.as_pointer())


def _claim(builder, address):
    return builder.atomic_rmw("add", _counter(builder, address), ir.Constant(INT64, 1), "monotonic")


def _finished(builder, address):
    builder.atomic_rmw("add", _counter(builder, address), ir.Constant(INT64, 1), "seq_cst")


def _look(builder, address):
    return builder.load_atomic(_counter(builder, address), "seq_cst", 8)


def _let_others_run(builder):
    kind = ir.FunctionType(ir.IntType(32), [])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])


copy16 = emitted("copy16", [types.void, ADDRESS, ADDRESS], _copy16)  # (target, source)
zero16 = emitted("zero16", [types.void, ADDRESS], _zero16)
add16 = emitted("add16", [types.void, ADDRESS, ADDRESS], _add16)  # (target, source): target += source
copy_first = emitted("copy_first", [types.void] + [ADDRESS] * 3, _copy_first)  # (target, source, how many of 16)
_transposed = emitted("_transposed", [types.void] + [ADDRESS] * 4, _transpose16)
get = emitted("get", [types.float32, ADDRESS], _get)
put = emitted("put", [types.void, ADDRESS, types.float32], _put)
claim = emitted("claim", [types.intp, ADDRESS], _claim)  # the next item's number; the counter goes up by one
finished = emitted("finished", [types.void, ADDRESS], _finished)  # one more item is done
look = emitted("look", [types.intp, ADDRESS], _look)
let_others_run = emitted("let_others_run", [types.void], _let_others_run)  # POSIX's sched_yield
SPINS = 1000  # looks at a counter, some microseconds, before the processor is offered to others


@compiled
def wait(address, count):
    """Return when the counter at `address` has reached `count`.

    On a busy machine the thread that is waited for may not be running at all: it is then given this one's turn.
    """
    looks = 0
    while look(address) < count:
        looks += 1
        if looks > SPINS:
            let_others_run()


@compiled
def own_part(memory, own, first, count, threads):
    """Return where a part of a kernel has its own of some scratch memory, which is `own` bytes for each of `threads`.

    The part begins at item `first` of the `count` that `parallel.run` shares out.
    """
    return memory + (first * threads + count - 1) // count * own


@compiled
def transpose16(source, source_row, target, target_row):
    """Transpose 16 x 16 floats; rows are so many bytes apart. The two may be the same."""
    # A function of its own: emitted in place everywhere it takes half of the compilation's time.
    _transposed(source, source_row, target, target_row)


@compiled
def copy(target, source, count):
    """Copy `count` floats."""
    i = 0
    while i + 16 <= count:
        copy16(target + 4 * i, source + 4 * i)
        i += 16
    if i < count:
        copy_first(target + 4 * i, source + 4 * i, count - i)


@compiled
def zero(target, count):
    """Write `count` zeros."""
    i = 0
    while i + 16 <= count:
        zero16(target + 4 * i)
        i += 16
    while i < count:
        put(target + 4 * i, np.float32(0))
        i += 1
