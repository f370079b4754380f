"""The GEMM micro-kernel: a block of the product of two packed panels, summed in registers.

    C[m, n] = sum over k of A[m, k] B[k, n],    m < rows, n < groups * 16

A comes in blocks of 16 k: element (m, k) of a block is `row_step` m + `k_step` k floats from its start, the next block
`block_step` floats on. B is [k][groups * 16]. For each k one row of B is loaded and each A[m, k] is spread over a
vector and multiplied into the accumulators. All offsets are constants of the code: the loop has two running pointers.

Sums start at zero and what C held (or the bias) is added at the end: a product cut into parts along k is then a
short sum of sums, with 2 to 12 times less error than one long chain.

Source: K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008).
"""

from numba import types

from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.vector_ir import ADDRESS, FLOAT, INT64, Emitter, emitted

UNROLL = 4  # k's in the body of the loop; the last block of k may be any multiple of it


def product_tile(name, rows, blocked, finish, row_step=BLOCK, k_step=1, block_step=None, prefetch=0, isa=ISA):
    """Return the intrinsic for blocks of `rows`.

    ``tile(blocks, last, a, b, c, stride, ...)``: `blocks` of k, of which the last has only `last` values (a multiple of
    4 up to 16); addresses of A, B and C. If `blocked`, C's rows are 64 bytes apart and its groups of 16 columns `stride`
    bytes; otherwise its rows are `stride` bytes apart and its columns together.

    Further arguments: with `finish` "nothing" none, with "add" `accumulate` (whether to add what C holds), with "all"
    `accumulate`, the addresses `row_bias` (rows floats) and `column_bias` (groups * 16 floats), added if not
    accumulating, and `low`, below which results are clamped (-inf, or 0 for ReLU). With `prefetch`, one more: an address
    of which so many cache lines for each block of k are asked for.
    """
    vectors = isa.groups * BLOCK // isa.width  # of a row
    parts = BLOCK // isa.width  # of a group
    columns = isa.groups * BLOCK
    block_step = rows * BLOCK if block_step is None else block_step

    def emit(builder, blocks, last, a, b, c, stride, *more):
        more = list(more)
        e = Emitter(builder, isa.width)
        accumulate = more.pop(0) if finish != "nothing" else None
        row_bias, column_bias, low = (more.pop(0), more.pop(0), more.pop(0)) if finish == "all" else (None,) * 3
        ahead = more.pop(0) if prefetch else None

        entry = builder.block
        outer, inner, latch = (builder.append_basic_block(label) for label in ("k_blocks", "k", "k_blocks_end"))
        zero, first_a, first_b = e.constant(0), e.pointer(a), e.pointer(b)
        if not blocked:
            for m in range(rows):  # C's rows are far apart; their lines come while the sums are made
                for line in range(isa.groups):
                    e.prefetch(e.moved(e.after(c, m, stride), line * BLOCK))
        builder.branch(outer)

        builder.position_at_end(outer)
        block, block_a, block_b = builder.phi(INT64), builder.phi(FLOAT.as_pointer()), builder.phi(FLOAT.as_pointer())
        sums = [builder.phi(e.vector) for _ in range(rows * vectors)]
        for node, start in zip((block, block_a, block_b, *sums), (e.number(0), first_a, first_b, *[zero] * len(sums))):
            node.add_incoming(start, entry)
        next_block = builder.add(block, e.number(1))
        is_last = builder.icmp_signed(">=", next_block, blocks)
        length = builder.select(is_last, last, e.number(BLOCK))
        for line in range(prefetch):
            there = builder.add(ahead, builder.mul(block, e.number(64 * prefetch)))
            e.prefetch(e.moved(e.pointer(there), 16 * line))
        builder.branch(inner)

        builder.position_at_end(inner)
        k, now_a, now_b = builder.phi(INT64), builder.phi(FLOAT.as_pointer()), builder.phi(FLOAT.as_pointer())
        running = [builder.phi(e.vector) for _ in sums]
        for node, start in zip((k, now_a, now_b, *running), (e.number(0), block_a, block_b, *sums)):
            node.add_incoming(start, outer)
        new = list(running)
        for step in range(UNROLL):
            row_of_b = [e.load(now_b, step * columns + n * isa.width) for n in range(vectors)]
            for m in range(rows):
                factor = e.spread(builder.load(e.moved(now_a, m * row_step + step * k_step)))
                for n in range(vectors):
                    new[m * vectors + n] = e.add_product(factor, row_of_b[n], new[m * vectors + n])
        next_k = builder.add(k, e.number(UNROLL))
        next_b = e.moved(now_b, UNROLL * columns)
        for node, value in zip((k, now_a, now_b, *running), (next_k, e.moved(now_a, UNROLL * k_step), next_b, *new)):
            node.add_incoming(value, inner)
        builder.cbranch(builder.icmp_signed("<", next_k, length), inner, latch)

        builder.position_at_end(latch)
        done = builder.append_basic_block("store")
        for node, value in zip((block, block_a, block_b, *sums), (next_block, e.moved(block_a, block_step), next_b, *new)):
            node.add_incoming(value, latch)
        builder.cbranch(is_last, done, outer)

        builder.position_at_end(done)
        if blocked:
            starts = [e.after(c, group, stride) for group in range(isa.groups)]
        else:
            starts = [e.after(c, m, stride) for m in range(rows)]

        def place(m, n):
            return (starts[n // parts], m * BLOCK + n % parts * isa.width) if blocked else (starts[m], n * isa.width)

        each = [(m, n) for m in range(rows) for n in range(vectors)]
        if finish != "nothing":
            held, fresh, end = (builder.append_basic_block(label) for label in ("held", "fresh", "end"))
            builder.cbranch(builder.icmp_signed("!=", accumulate, e.number(0)), held, fresh)
            builder.position_at_end(held)
            added = [builder.fadd(new[m * vectors + n], e.load(*place(m, n))) for m, n in each]
            builder.branch(end)
            builder.position_at_end(fresh)
            begun = new
            if finish == "all":
                across = [e.load(e.pointer(column_bias), n * isa.width) for n in range(vectors)]
                down = [e.spread(builder.load(e.moved(e.pointer(row_bias), m))) for m in range(rows)]
                begun = [builder.fadd(new[m * vectors + n], builder.fadd(down[m], across[n])) for m, n in each]
            builder.branch(end)
            builder.position_at_end(end)
            new = []
            for one, other in zip(added, begun):
                node = builder.phi(e.vector)
                node.add_incoming(one, held)
                node.add_incoming(other, fresh)
                new.append(node)
        if finish == "all":
            least = e.spread(low)
            new = [e.clamp(value, least) for value in new]
        for m, n in each:
            e.store(new[m * vectors + n], *place(m, n))

    arguments = [ADDRESS] * 6
    if finish != "nothing":
        arguments += [ADDRESS]
    if finish == "all":
        arguments += [ADDRESS, ADDRESS, types.float32]
    if prefetch:
        arguments += [ADDRESS]
    assert finish in ("nothing", "add", "all")
    return emitted(name, [types.void, *arguments], emit)


AHEAD = 4  # cache lines of the next panel of A asked for in each block of k; otherwise each panel begins with a stall
POINTS_AHEAD = 16  # the same for `points_tile`, which meets as few as two panels of V for each of U
# Row-major results of `gemm`: whole panels of A and the two kinds of short ones at the end of a matrix.
rows_tile = product_tile("rows_tile", ISA.rows, blocked=False, finish="all", prefetch=AHEAD)
rows_tile_more = product_tile("rows_tile_more", ISA.few[1], blocked=False, finish="all", prefetch=AHEAD)
rows_tile_few = product_tile("rows_tile_few", ISA.few[0], blocked=False, finish="all", prefetch=AHEAD)
# Blocked results of `winograd`: 16 columns of a group side by side, for the transform that follows. Panels of few rows are
# as far apart as whole ones.
HEIGHTS = (4, 8, 12, 14) if ISA.name == "avx512" else (*ISA.few, ISA.rows)


def _points_tile(name, rows):
    return product_tile(name, rows, blocked=True, finish="nothing", block_step=ISA.rows * BLOCK, prefetch=POINTS_AHEAD)


points_tile = _points_tile("points_tile", ISA.rows)
points_tile_most = _points_tile("points_tile_most", HEIGHTS[-2])
points_tile_more = _points_tile("points_tile_more", HEIGHTS[-3])
points_tile_few = _points_tile("points_tile_few", HEIGHTS[0])
# Sums over tiles for the weights' gradient: A is [tile][16 channels], so that a row is one channel.
CHANNELS = {"avx512": 8, "plain": 2}.get(ISA.name, 4)  # of the 16 at a time: the most that divides it and fits
channels_tile = product_tile("channels_tile", CHANNELS, blocked=False, finish="add", row_step=1, k_step=BLOCK,
                             block_step=BLOCK * BLOCK)
