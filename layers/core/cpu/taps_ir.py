"""The micro-kernels of direct convolutions: products whose left operand is the picture itself.

A is not packed. Its rows are neighbouring pixels, `row_step` floats apart, and k runs over entries of a table: entry e
stands for `run` values of k side by side at a + table[e] bytes. In a blocked picture an entry is a tap of one block, 16
channels; in planes (NCHW) it is a tap of one channel, and `run` is 1. B is [k][groups * 16], packed.

Results are blocked: row m of group g at c + g * stride + 64 m bytes. To the sums are added what an earlier part along k
held, and the bias; then they are clamped.
"""

from numba import types

from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.microkernel import UNROLL
from layers.core.cpu.vector_ir import ADDRESS, FLOAT, INT64, Emitter, emitted

AHEAD = 4  # cache lines of the next panel of B asked for in each entry
HALF = 1 if ISA.groups > 1 else 0  # whether panels may have 16 outputs only
MOST = 24  # outputs of a whole panel for which the second vector need be half as wide: a quarter less to multiply


def _copy16_past(builder, target, source):
    emitter = Emitter(builder)
    for part in range(0, BLOCK, ISA.width):
        emitter.store(emitter.load(emitter.pointer(source), part), emitter.pointer(target), part, past=True)


def taps_tile(name, rows, groups, run, row_step, held_rows=ISA.rows, past=False, narrow=False, isa=ISA):
    """Return the intrinsic for `rows` pixels and groups * 16 outputs.

    ``tile(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)``: the table's entries (int64,
    bytes), of which each has `length` values of k, a multiple of 4 (without effect where `run` is 1); addresses; whether
    to add what is at `held`, [groups][held_rows][16]; the address of groups * 16 biases; the limit of the clamp; where to
    prefetch. `past`: results, which must be aligned to 64 bytes, are written past the caches:
    the processor may delay them until the next locked instruction, such as `moves.claim`. `narrow`: of the last vector only the
    first half is computed and written.
    """
    parts = BLOCK // isa.width
    vectors = groups * parts
    columns = groups * BLOCK
    widths = [isa.width] * (vectors - narrow) + [isa.width // 2] * narrow
    unroll = UNROLL if run > 1 else 1

    def emit(builder, entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead):
        each_vector = [Emitter(builder, width) for width in widths]
        e = each_vector[0]
        pointer = FLOAT.as_pointer()
        entry_block = builder.block
        outer, latch = builder.append_basic_block("entries"), builder.append_basic_block("entries_end")
        offsets = builder.inttoptr(table, INT64.as_pointer())
        first_b = e.pointer(b)
        builder.branch(outer)

        builder.position_at_end(outer)
        index, begin_b = builder.phi(INT64), builder.phi(pointer)
        zeros = [vector.constant(0) for vector in each_vector] * rows
        sums = [builder.phi(zero.type) for zero in zeros]
        for node, start in zip((index, begin_b, *sums), (e.number(0), first_b, *zeros)):
            node.add_incoming(start, entry_block)
        begin_a = e.pointer(builder.add(a, builder.load(builder.gep(offsets, [index]))))
        next_index = builder.add(index, e.number(1))
        if run > 1:
            there = builder.add(ahead, builder.mul(index, e.number(64 * AHEAD)))
            for line in range(AHEAD):
                e.prefetch(e.moved(e.pointer(there), 16 * line))
            inner = builder.append_basic_block("k")
            builder.branch(inner)
            builder.position_at_end(inner)
            k, now_a, now_b = builder.phi(INT64), builder.phi(pointer), builder.phi(pointer)
            running = [builder.phi(zero.type) for zero in zeros]
            for node, start in zip((k, now_a, now_b, *running), (e.number(0), begin_a, begin_b, *sums)):
                node.add_incoming(start, outer)
        else:
            now_a, now_b, running = begin_a, begin_b, sums
        new = list(running)
        for step in range(unroll):
            row_of_b = [vector.load(now_b, step * columns + n * isa.width) for n, vector in enumerate(each_vector)]
            for m in range(rows):
                factor = builder.load(e.moved(now_a, m * row_step + step))
                for n, vector in enumerate(each_vector):
                    new[m * vectors + n] = vector.add_product(vector.spread(factor), row_of_b[n], new[m * vectors + n])
        next_b = e.moved(now_b, unroll * columns)
        if run > 1:
            next_k = builder.add(k, e.number(unroll))
            for node, value in zip((k, now_a, now_b, *running), (next_k, e.moved(now_a, unroll), next_b, *new)):
                node.add_incoming(value, inner)
            builder.cbranch(builder.icmp_signed("<", next_k, length), inner, latch)
        else:
            builder.branch(latch)

        builder.position_at_end(latch)
        done = builder.append_basic_block("results")
        for node, value in zip((index, begin_b, *sums), (next_index, next_b, *new)):
            node.add_incoming(value, latch)
        builder.cbranch(builder.icmp_signed("<", next_index, entries), outer, done)

        builder.position_at_end(done)
        each = [(m, n) for m in range(rows) for n in range(vectors)]
        more, end = builder.append_basic_block("held"), builder.append_basic_block("store")
        builder.cbranch(builder.icmp_signed("!=", accumulate, e.number(0)), more, end)
        builder.position_at_end(more)
        kept = e.pointer(held)
        held_at = [(n // parts * held_rows + m) * BLOCK + n % parts * isa.width for m, n in each]
        added = [builder.fadd(new[m * vectors + n], each_vector[n].load(kept, at)) for (m, n), at in zip(each, held_at)]
        builder.branch(end)
        builder.position_at_end(end)
        values = []
        for one, other in zip(new, added):
            node = builder.phi(one.type)
            node.add_incoming(one, done)
            node.add_incoming(other, more)
            values.append(node)
        shift = [vector.load(e.pointer(bias), n * isa.width) for n, vector in enumerate(each_vector)]
        least = [vector.spread(low) for vector in each_vector]
        starts = [e.after(c, group, stride) for group in range(groups)]
        for m, n in each:
            value = each_vector[n].clamp(builder.fadd(values[m * vectors + n], shift[n]), least[n])
            each_vector[n].store(value, starts[n // parts], m * BLOCK + n % parts * isa.width, past)

    return emitted(name, [types.void, *[ADDRESS] * 10, types.float32, ADDRESS], emit)


copy16_past = emitted("copy16_past", [types.void, ADDRESS, ADDRESS], _copy16_past)  # (target, source)
# Pixels of a blocked picture, or of panels that were packed so.
blocks_tile = taps_tile("blocks_tile", ISA.rows, ISA.groups, BLOCK, BLOCK)
blocks_tile_more = taps_tile("blocks_tile_more", ISA.few[1], ISA.groups, BLOCK, BLOCK)
blocks_tile_few = taps_tile("blocks_tile_few", ISA.few[0], ISA.groups, BLOCK, BLOCK)
# Pixels of planes.
planes_tile = taps_tile("planes_tile", ISA.rows, ISA.groups, 1, 1)
planes_tile_past = taps_tile("planes_tile_past", ISA.rows, ISA.groups, 1, 1, past=True)
# For the last 16 outputs, where panels are wider.
if HALF:
    blocks_half = taps_tile("blocks_half", ISA.rows, 1, BLOCK, BLOCK)
    blocks_half_more = taps_tile("blocks_half_more", ISA.few[1], 1, BLOCK, BLOCK)
    blocks_half_few = taps_tile("blocks_half_few", ISA.few[0], 1, BLOCK, BLOCK)
    planes_half = taps_tile("planes_half", ISA.rows, 1, 1, 1)
    # For whole panels of at most MOST outputs.
    blocks_narrow = taps_tile("blocks_narrow", ISA.rows, ISA.groups, BLOCK, BLOCK, narrow=True)
    blocks_narrow_more = taps_tile("blocks_narrow_more", ISA.few[1], ISA.groups, BLOCK, BLOCK, narrow=True)
    blocks_narrow_few = taps_tile("blocks_narrow_few", ISA.few[0], ISA.groups, BLOCK, BLOCK, narrow=True)
else:
    blocks_half, blocks_half_more, blocks_half_few, planes_half = blocks_tile, blocks_tile_more, blocks_tile_few, planes_tile
    blocks_narrow, blocks_narrow_more, blocks_narrow_few = blocks_tile, blocks_tile_more, blocks_tile_few
