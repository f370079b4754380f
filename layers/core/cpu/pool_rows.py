"""MAX pooling of rows of NCHW: vectors over neighbouring windows, for the kernels and strides that nets have.

Every second value of a row, for stride 2, comes from two loaded vectors by one shuffle. Only values of the windows are
read. The windows' values are compared in scan order, as in `layers.pooling`, so the results are the same bits: which of 0
and -0 comes first shows.
"""

from llvmlite import ir
from numba import types

from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.pool_ir import LOWEST
from layers.core.cpu.vector_ir import ADDRESS, INT32, Emitter, emitted

WIDE, NARROW = ISA.width, 4  # windows in a vector; the narrow one is for rows shorter than the wide one


def taps(e, pointer, kernel, stride):
    """Return `kernel` vectors: value x of each of e.width windows that begin `stride` floats apart."""
    if stride == 1:
        return [e.load(pointer, x) for x in range(kernel)]
    indices, half = ir.VectorType(INT32, e.width), e.width // 2
    first, second = e.load(pointer), e.load(pointer, e.width)
    values = []
    for x in range(kernel):
        if x < 2:
            low, high, places = first, second, [2 * i + x for i in range(e.width)]
        else:  # the second vector ends with the last window's last value: nothing behind the row is read
            low, high = e.load(pointer, x), e.load(pointer, x + e.width - 1)
            places = [2 * i if i < half else 2 * i + 1 for i in range(e.width)]
        values.append(e.builder.shuffle_vector(low, high, ir.Constant(indices, places)))
    return values


def row_of_windows(name, width, kernel, stride, keeps):
    """Return the intrinsic ``(target, source, row)`` for `width` windows that lie inside of the image.

    With `keeps` it is ``(target, source, row, winners, place, length)``: the winners' places, int32, are written too; `place`
    is that of the first window's first value and `length` is the image's width.
    """

    def emit(builder, target, source, row, *more):
        e = Emitter(builder, width)
        integers = ir.VectorType(INT32, width)
        best = e.constant(LOWEST)
        if keeps:
            winners, place, length = more
            winner = ir.Constant(integers, [-1] * width)
            steps = ir.Constant(integers, [i * stride for i in range(width)])
            nothing, zeros = ir.Constant(integers, ir.Undefined), ir.Constant(integers, [0] * width)
        for y in range(kernel):
            for x, value in enumerate(taps(e, e.after(source, y, row), kernel, stride)):
                larger = builder.fcmp_ordered(">", value, best)
                best = builder.select(larger, value, best)
                if keeps:
                    first = builder.add(place, builder.add(builder.mul(length, e.number(y)), e.number(x)))
                    first = builder.insert_element(nothing, builder.trunc(first, INT32), ir.Constant(INT32, 0))
                    here = builder.add(builder.shuffle_vector(first, nothing, zeros), steps)
                    winner = builder.select(larger, here, winner)
        e.store(best, e.pointer(target))
        for y in range(stride):  # the next row of windows: rows are too short for the processor to foresee much
            for x in range(0, width * stride, BLOCK):
                e.prefetch(e.moved(e.after(source, kernel + y, row), x))
        if keeps:
            builder.store(winner, builder.inttoptr(winners, integers.as_pointer())).align = 4

    return emitted(name, [types.void] + [ADDRESS] * (6 if keeps else 3), emit)


wide22, wide32, wide31 = (row_of_windows(f"wide{k}{s}", WIDE, k, s, False) for k, s in ((2, 2), (3, 2), (3, 1)))
narrow22, narrow32, narrow31 = (row_of_windows(f"narrow{k}{s}", NARROW, k, s, False) for k, s in ((2, 2), (3, 2), (3, 1)))
keep22, keep32, keep31 = (row_of_windows(f"keep{k}{s}", NARROW, k, s, True) for k, s in ((2, 2), (3, 2), (3, 1)))
wide_keep22, wide_keep32, wide_keep31 = (row_of_windows(f"wide_keep{k}{s}", WIDE, k, s, True)
                                         for k, s in ((2, 2), (3, 2), (3, 1)))


@compiled
def max_row(kernel, stride, count, target, source, row, winners, place, length):
    """MAX of `count` windows side by side that lie inside of the image; whether it was done.

    It is not where kernel and stride are others than 2 and 2, 3 and 2, 3 and 1, or the windows are too few for a vector.
    Addresses of float32, `row` in bytes; `winners` is that of int32, or 0, `place` the first window's first index in an image
    of width `length`.
    """
    known = stride == 2 and (kernel == 2 or kernel == 3) or stride == 1 and kernel == 3
    if not known or count < NARROW:
        return False
    width = WIDE if count >= WIDE else NARROW
    i = 0
    while i < count:
        i = min(i, count - width)  # the last ones are partly done twice
        into, start, kept, first = target + i * 4, source + i * stride * 4, winners + i * 4, place + i * stride
        if width == WIDE and winners == 0:
            if kernel == 2:
                wide22(into, start, row)
            elif stride == 2:
                wide32(into, start, row)
            else:
                wide31(into, start, row)
        elif width == WIDE:
            if kernel == 2:
                wide_keep22(into, start, row, kept, first, length)
            elif stride == 2:
                wide_keep32(into, start, row, kept, first, length)
            else:
                wide_keep31(into, start, row, kept, first, length)
        elif winners == 0:
            if kernel == 2:
                narrow22(into, start, row)
            elif stride == 2:
                narrow32(into, start, row)
            else:
                narrow31(into, start, row)
        else:
            if kernel == 2:
                keep22(into, start, row, kept, first, length)
            elif stride == 2:
                keep32(into, start, row, kept, first, length)
            else:
                keep31(into, start, row, kept, first, length)
        i += width
    return True
