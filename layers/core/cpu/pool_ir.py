"""Pooling windows of blocked pixels as vector code: 16 channels of one window at once.

A window is `rows` x `columns` pixels, rows `row` bytes apart, of which nothing lies outside of the image: callers clip it.
Windows of 2 x 2 and 3 x 3 are written out; others are loops. Places in a window are numbered in scan order, as floats.
"""

from llvmlite import ir
from numba import types

from layers.core.cpu.isa import BLOCK, ISA, PIXEL
from layers.core.cpu.vector_ir import ADDRESS, DOUBLE, FLOAT, INT64, Emitter, emitted

LOWEST = -3.4028234663852886e38  # -FLT_MAX: what Caffe's MAX starts from
ANY = (None, None)


def over_window(e, row, rows, columns, state, visit, start=None):
    """Return `state`, a list of values, after ``visit(offset, place, state)`` of a window's pixels in scan order.

    `offset` is in bytes from the window's first pixel, `place` a vector of the pixel's number. `rows` and `columns` are
    Python's, and the visits written out, or int64 values of at least 1, and the visits are loops. `start` is the number of
    the first pixel (a float), 0 by default.
    """
    builder = e.builder
    if isinstance(rows, int):
        for y in range(rows):
            for x in range(columns):
                offset = builder.add(builder.mul(row, e.number(y)), e.number(x * PIXEL))
                state = visit(offset, e.constant(y * columns + x), state)
        return state
    entry, zero = builder.block, e.number(0)
    outer, inner, latch, end = (builder.append_basic_block(label) for label in ("rows", "columns", "rows_end", "window_end"))
    begin = ir.Constant(FLOAT, 0) if start is None else start
    builder.branch(outer)

    builder.position_at_end(outer)
    kinds = [INT64, INT64, FLOAT, *(value.type for value in state)]
    line = [builder.phi(kind) for kind in kinds]  # row's number, its offset, place, state
    builder.branch(inner)

    builder.position_at_end(inner)
    pixel = [builder.phi(kind) for kind in kinds]
    place = pixel[2] if e.real is FLOAT else builder.fpext(pixel[2], DOUBLE)
    after = visit(pixel[1], e.spread(place), pixel[3:])
    next_column = builder.add(pixel[0], e.number(1))
    following = [next_column, builder.add(pixel[1], e.number(PIXEL)), builder.fadd(pixel[2], ir.Constant(FLOAT, 1)), *after]
    builder.cbranch(builder.icmp_signed("<", next_column, columns), inner, latch)

    builder.position_at_end(latch)
    next_row, next_line = builder.add(line[0], e.number(1)), builder.add(line[1], row)
    builder.cbranch(builder.icmp_signed("<", next_row, rows), outer, end)

    for node, first, again in zip(line, (zero, zero, begin, *state), (next_row, next_line, *following[2:])):
        node.add_incoming(first, entry)
        node.add_incoming(again, latch)
    for node, first, again in zip(pixel, (zero, *line[1:]), following):
        node.add_incoming(first, outer)
        node.add_incoming(again, inner)
    builder.position_at_end(end)
    return after


def at(e, address, offset):
    """The pointer for `offset` bytes behind an address."""
    return e.pointer(e.builder.add(address, offset))


def some(e, masks):
    """An int64: whether any value of the masks is set."""
    builder, either = e.builder, masks[0]
    for mask in masks[1:]:
        either = builder.or_(either, mask)
    bits = ir.IntType(e.width)
    return builder.zext(builder.icmp_unsigned("!=", builder.bitcast(either, bits), ir.Constant(bits, 0)), INT64)


def largest(name, shape=ANY):
    """Return the intrinsic ``(target, source, row, rows, columns)``: MAX; whether a channel found nothing above -FLT_MAX."""

    def emit(builder, target, source, row, rows, columns):
        e, masks = Emitter(builder), []
        for part in range(0, BLOCK, e.width):
            def visit(offset, place, state, part=part):
                return [e.larger(state[0], e.load(at(e, source, offset), part))]

            most, = over_window(e, row, shape[0] or rows, shape[1] or columns, [e.constant(LOWEST)], visit)
            e.store(most, e.pointer(target), part)
            masks.append(builder.fcmp_ordered("==", most, e.constant(LOWEST)))
        return some(e, masks)

    return emitted(name, [types.intp] + [ADDRESS] * 5, emit)


def winners(name, shape=ANY):
    """Return the intrinsic ``(places, source, row, rows, columns)``: where each channel's largest value is, -1 if nowhere.

    The result says whether there is a -1.
    """

    def emit(builder, places, source, row, rows, columns):
        e, masks = Emitter(builder), []
        for part in range(0, BLOCK, e.width):
            def visit(offset, place, state, part=part):
                value = e.load(at(e, source, offset), part)
                larger = builder.fcmp_ordered(">", value, state[0])
                return [builder.select(larger, value, state[0]), builder.select(larger, place, state[1])]

            start = [e.constant(LOWEST), e.constant(-1)]
            _, winner = over_window(e, row, shape[0] or rows, shape[1] or columns, start, visit)
            e.store(winner, e.pointer(places), part)
            masks.append(builder.fcmp_ordered("<", winner, e.constant(0)))
        return some(e, masks)

    return emitted(name, [types.intp] + [ADDRESS] * 5, emit)


def to_winners(name, adds, shape=ANY):
    """Return the intrinsic ``(target, error, places, first, row, rows, columns)``: each channel's error to its winner.

    `first` is the number of the first pixel (a float), not 0 if only lower rows of a window are meant. If `adds`, errors are
    added to what the pixels hold; otherwise they are written, and 0 to the other pixels.
    """

    def emit(builder, target, error, places, first, row, rows, columns):
        e = Emitter(builder)
        for part in range(0, BLOCK, e.width):
            winner, value, zero = e.load(e.pointer(places), part), e.load(e.pointer(error), part), e.constant(0)
            value = value if adds else builder.fadd(value, zero)  # the sum begins with 0: -0 becomes 0

            def visit(offset, place, state, part=part, winner=winner, value=value, zero=zero):
                pixel = at(e, target, offset)
                mine = builder.select(builder.fcmp_ordered("==", winner, place), value, zero)
                e.store(builder.fadd(e.load(pixel, part), mine) if adds else mine, pixel, part)
                return state

            over_window(e, row, shape[0] or rows, shape[1] or columns, [], visit, first)

    return emitted(name, [types.void, ADDRESS, ADDRESS, ADDRESS, types.float32] + [ADDRESS] * 3, emit)


def _average(builder, target, source, row, area, rows, columns):
    e = Emitter(builder, max(ISA.width // 2, 2), DOUBLE)
    for part in range(0, BLOCK, e.width):
        def visit(offset, place, state, part=part):
            return [builder.fadd(state[0], e.load(at(e, source, offset), part))]

        total, = over_window(e, row, rows, columns, [e.constant(0)], visit)
        e.store(builder.fdiv(total, e.spread(area)), e.pointer(target), part)


def _add_shares(builder, target, error, area, row, rows, columns):
    e = Emitter(builder)
    for part in range(0, BLOCK, e.width):
        share = builder.fdiv(e.load(e.pointer(error), part), e.spread(area))

        def visit(offset, place, state, part=part, share=share):
            pixel = at(e, target, offset)
            e.store(builder.fadd(e.load(pixel, part), share), pixel, part)
            return state

        over_window(e, row, rows, columns, [], visit)


largest2, largest3, largest_any = (largest(f"largest{n or '_any'}", (n, n)) for n in (2, 3, None))
winners2, winners3, winners_any = (winners(f"winners{n or '_any'}", (n, n)) for n in (2, 3, None))
write_winners2 = to_winners("write_winners2", False, (2, 2))
write_winners_any = to_winners("write_winners_any", False)
add_winners3 = to_winners("add_winners3", True, (3, 3))
add_winners_any = to_winners("add_winners_any", True)
# (target, source, row, area: float64, rows, columns): the sum in float64, divided
average = emitted("average", [types.void, ADDRESS, ADDRESS, ADDRESS, types.float64, ADDRESS, ADDRESS], _average)
# (target, error, area: float32, row, rows, columns): error / area added to all pixels of the window
add_shares = emitted("add_shares", [types.void, ADDRESS, ADDRESS, types.float32] + [ADDRESS] * 3, _add_shares)
