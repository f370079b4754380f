"""The micro-kernels of weight gradients by direct summation: products whose k runs over pixels, straight from pictures.

    C[m, n] += sum over lines and columns of A[m, pixel] B[pixel, n],    m < rows, n < groups * 16

B is the error, blocked: its groups are planes of 16 outputs. A's rows are channels of a blocked image, side by side, or
places in planes (NCHW) that a table gives. Neither is packed: both are walked line by line with steps of their own.
"""

from numba import types

from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.vector_ir import ADDRESS, FLOAT, INT8, INT64, Emitter, emitted


def sums_tile(name, rows, groups, tabled=False, isa=ISA):
    """Return the intrinsic that adds the sums over a rectangle of pixels to C.

    ``tile(lines, columns, a, a_line, a_pixel, b, b_line, b_plane, c, c_row)``, and `table` if `tabled`: the rectangle's
    size (>= 1); addresses of its first pixel in A and B, with the bytes to the next line and pixel of A, and to the next
    line and group of B, where pixels are 64 bytes apart; C, [rows][groups * 16], with rows `c_row` bytes apart. Row m of A
    is m floats on, or `tabled` the m'th entry of the table (int64, bytes).
    """
    parts = BLOCK // isa.width
    vectors = groups * parts

    def emit(builder, lines, columns, a, a_line, a_pixel, b, b_line, b_plane, c, c_row, table=None):
        e = Emitter(builder, isa.width)
        begin = builder.block
        outer, inner, latch, done = (builder.append_basic_block(label) for label in ("lines", "pixels", "lines_end", "add"))
        bytes_at, zero, one = INT8.as_pointer(), e.constant(0), e.number(1)
        if tabled:
            offsets = builder.inttoptr(table, INT64.as_pointer())
            starts = [builder.inttoptr(builder.add(a, builder.load(builder.gep(offsets, [e.number(m)]))), bytes_at)
                      for m in range(rows)]
        else:
            starts = [builder.inttoptr(a, bytes_at)]
        planes = [builder.inttoptr(builder.add(b, builder.mul(b_plane, e.number(g))), bytes_at) for g in range(groups)]
        builder.branch(outer)

        builder.position_at_end(outer)
        line, line_a, line_b = builder.phi(INT64), builder.phi(INT64), builder.phi(INT64)  # how far A and B have come
        sums = [builder.phi(e.vector) for _ in range(rows * vectors)]
        for node, start in zip((line, line_a, line_b, *sums), (*[e.number(0)] * 3, *[zero] * len(sums))):
            node.add_incoming(start, begin)
        builder.branch(inner)

        builder.position_at_end(inner)
        left, now_a, now_b = builder.phi(INT64), builder.phi(INT64), builder.phi(INT64)
        running = [builder.phi(e.vector) for _ in sums]
        for node, start in zip((left, now_a, now_b, *running), (columns, line_a, line_b, *sums)):
            node.add_incoming(start, outer)

        def at(pointer, offset):
            return builder.bitcast(builder.gep(pointer, [offset]), FLOAT.as_pointer())

        row_of_b = [e.load(at(plane, now_b), n * isa.width) for plane in planes for n in range(parts)]
        here = None if tabled else at(starts[0], now_a)
        new = []
        for m in range(rows):
            factor = e.spread(builder.load(at(starts[m], now_a) if tabled else e.moved(here, m)))
            new += [e.add_product(factor, row_of_b[n], running[m * vectors + n]) for n in range(vectors)]
        following = builder.sub(left, one)
        for node, value in zip((left, now_a, now_b, *running),
                               (following, builder.add(now_a, a_pixel), builder.add(now_b, e.number(4 * BLOCK)), *new)):
            node.add_incoming(value, inner)
        builder.cbranch(builder.icmp_signed(">", following, e.number(0)), inner, latch)

        builder.position_at_end(latch)
        next_line = builder.add(line, one)
        for node, value in zip((line, line_a, line_b, *sums),
                               (next_line, builder.add(line_a, a_line), builder.add(line_b, b_line), *new)):
            node.add_incoming(value, latch)
        builder.cbranch(builder.icmp_signed("<", next_line, lines), outer, done)

        builder.position_at_end(done)
        for m in range(rows):
            row = e.after(c, m, c_row)
            for n in range(vectors):
                e.store(builder.fadd(e.load(row, n * isa.width), new[m * vectors + n]), row, n * isa.width)

    return emitted(name, [types.void, *[ADDRESS] * (11 if tabled else 10)], emit)


def _ask(builder, address):
    emitter = Emitter(builder)
    emitter.prefetch(emitter.pointer(address))


ask = emitted("ask", [types.void, ADDRESS], _ask)  # prefetch a cache line that is soon needed
CHANNELS = 8 if ISA.name == "avx512" else ISA.rows  # of the 16 of a block at a time
REST = BLOCK % CHANNELS or CHANNELS  # and at last
HALF_CHANNELS = BLOCK if ISA.groups > 1 else CHANNELS  # where panels have 16 outputs only
channels_sums = sums_tile("channels_sums", CHANNELS, ISA.groups)
channels_sums_rest = sums_tile("channels_sums_rest", REST, ISA.groups) if REST < CHANNELS else channels_sums
planes_sums = sums_tile("planes_sums", ISA.rows, ISA.groups, tabled=True)
if ISA.groups > 1:
    channels_sums_half = sums_tile("channels_sums_half", HALF_CHANNELS, 1)
    planes_sums_half = sums_tile("planes_sums_half", ISA.rows, 1, tabled=True)
else:
    channels_sums_half, planes_sums_half = channels_sums, planes_sums
