"""The micro-kernel of depthwise convolutions: taps of 16 lanes that do not see each other, some vectors side by side.

In blocked pictures the lanes are channels, in planes (NCHW) pixels of a row.
"""

from llvmlite import ir
from numba import types

from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.vector_ir import ADDRESS, INT32, INT64, Emitter, emitted

# Vectors of 16 that are summed side by side: enough chains to hide an addition's latency. Pictures are often multiples of 7 wide.
RUN = {"avx512": 7, "avx2": 4}.get(ISA.name, 2)


def lanes_tile(name, run):
    """Return the intrinsic that sums all taps of `run` vectors of 16 lanes.

    ``tile(taps, table, a, step, weights, weights_step, c, c_step, bias, low)``: the taps' number, at least 1, and their offsets
    (int64, bytes) from the address `a` of the first vector's first tap; the next vector's is `step` bytes on. 16 weights for
    each tap, `weights_step` bytes apart. To the sums 16 biases are added, then they are clamped from below and stored to c,
    `c_step` bytes apart.
    """
    parts = BLOCK // ISA.width

    def emit(builder, taps, table, a, step, weights, weights_step, c, c_step, bias, low):
        e = Emitter(builder)
        begin = builder.block
        loop, done = builder.append_basic_block("taps"), builder.append_basic_block("store")
        offsets = builder.inttoptr(table, INT64.as_pointer())
        starts = [builder.add(a, builder.mul(step, e.number(m))) for m in range(run)]
        zero = e.constant(0)
        builder.branch(loop)

        builder.position_at_end(loop)
        index, here = builder.phi(INT64), builder.phi(INT64)
        sums = [builder.phi(e.vector) for _ in range(run * parts)]
        for node, start in zip((index, here, *sums), (e.number(0), weights, *[zero] * len(sums))):
            node.add_incoming(start, begin)
        offset = builder.load(builder.gep(offsets, [index]))
        factors = [e.load(e.pointer(here), n * ISA.width) for n in range(parts)]
        new = []
        for m in range(run):
            pointer = e.pointer(builder.add(starts[m], offset))
            new += [e.add_product(e.load(pointer, n * ISA.width), factors[n], sums[m * parts + n]) for n in range(parts)]
        following = builder.add(index, e.number(1))
        for node, value in zip((index, here, *sums), (following, builder.add(here, weights_step), *new)):
            node.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, taps), loop, done)

        builder.position_at_end(done)
        shift = [e.load(e.pointer(bias), n * ISA.width) for n in range(parts)]
        least = e.spread(low)
        for m in range(run):
            target = e.after(c, m, c_step)
            for n in range(parts):
                e.store(e.clamp(builder.fadd(new[m * parts + n], shift[n]), least), target, n * ISA.width)

    return emitted(name, [types.void, *[ADDRESS] * 9, types.float32], emit)


def _spread16(builder, target, value):
    e = Emitter(builder)
    vector = e.spread(value)
    for part in range(0, BLOCK, ISA.width):
        e.store(vector, e.pointer(target), part)


def _twice16(builder, target, source):
    e = Emitter(builder)
    for part in range(0, BLOCK, ISA.width):
        values = e.load(e.pointer(source), part)
        for half in range(2):
            mask = [(half * ISA.width + lane) // 2 for lane in range(ISA.width)]
            doubled = builder.shuffle_vector(values, values, ir.Constant(ir.VectorType(INT32, ISA.width), mask))
            e.store(doubled, e.pointer(target), 2 * part + half * ISA.width)


run_tile = lanes_tile("run_tile", RUN)
one_tile = lanes_tile("one_tile", 1)
spread16 = emitted("spread16", [types.void, ADDRESS, types.float32], _spread16)  # (target, value): 16 times
twice16 = emitted("twice16", [types.void, ADDRESS, ADDRESS], _twice16)  # (target, source): each of 16 values twice
