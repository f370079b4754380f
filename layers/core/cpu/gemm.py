"""Matrix product in single precision, row-major, of any shapes: out = a @ b, plus bias, clamped, accumulated.

The left operand is packed whole (as much as stays in the last-level cache); then threads claim chunks of the result's
columns, pack the chunk of the right operand, 256 k at a time, into their own second-level cache, and run the micro-kernel
over it panel by panel. Where one chunk holds all columns, the left operand is used once only: each thread takes some of
its rows and packs each panel just before it multiplies it.

Every element of the result is summed by one thread: over 256 k in registers, k rising, and these sums are added to the
result one after the other. So the bits do not depend on the number of threads, and the error is that of short sums:
1.4e-7 (k = 27) to 6e-7 (k = 256) of the largest value against float64, and not more for larger k.

The right operand may be the columns of images (`patches`): a convolution without im2col in memory; see `Product`.

Source: K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008).
"""

import functools
from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.memory import LINE, address, scratch
from layers.core.cpu.microkernel import AHEAD, rows_tile, rows_tile_few, rows_tile_more
from layers.core.cpu.moves import claim, copy, finished, tuple_at, wait
from layers.core.cpu.packing import APART, COLUMNS, DEPTH, LINES, ROWS, TURNED, pack_left, pack_right

HEIGHT, MORE, FEW = ISA.rows, ISA.few[1], ISA.few[0]
CHUNK = 384  # columns of the right operand that a thread packs at a time: with DEPTH, 384 KiB
RIGHT = (DEPTH + APART // 4) * (CHUNK + COLUMNS)  # floats that such a chunk takes at most
PACKED = 1 << 22  # floats of the left operand packed at a time: 16 MiB
OWN = (RIGHT + LINES + BLOCK * BLOCK + HEIGHT * (COLUMNS + DEPTH)) * 4  # bytes of a thread's scratch
TOGETHER = 8  # panels of the left operand in one item of packing
NO_LIMIT = np.float32(-np.inf)


class Product(NamedTuple):
    """The sizes of `images` x `groups` products of one shape; steps and rows are in bytes.

    Product (i, g) has A at a + g * a_group, B at b + i * b_image + g * b_group, C likewise, and a bias for each of the
    g's rows. `a_turned`: A is stored transposed. `b_kind`: how B is stored (`packing.ROWS`, ...).
    """

    rows: int
    columns: int
    depth: int
    a_row: int
    a_turned: int
    b_row: int
    b_kind: int
    c_row: int
    images: int = 1
    groups: int = 1
    a_group: int = 0
    b_image: int = 0
    b_group: int = 0
    c_image: int = 0
    c_group: int = 0


class Part(NamedTuple):
    """What one run of the threads does: a range of rows and of k, and how columns are cut."""

    row_first: int
    row_last: int
    k_first: int
    k_last: int
    accumulate: int  # add to what C holds, for the first k
    chunk: int  # columns of a chunk
    shares: int  # parts into which the panels of rows are cut, where there are few chunks
    once: int  # whether panels of A are packed just before they are used, once


product_at, part_at = tuple_at("product_at", Product), tuple_at("part_at", Part)
PRODUCT = len(Product._fields) * 8  # bytes of a Product where it is written down for `product_at`


def gemm(a, b, out, row_bias=None, column_bias=None, accumulate=False, relu=False, threads=None):
    """Write ``a @ b`` to `out`, or add it.

    Parameters
    ----------
    a : ndarray (M, K) float32
    b : ndarray (K, N) float32
        Transposed views cost no copy; other views with gaps inside rows are copied.
    out : ndarray (M, N) float32
        Its rows must be contiguous. May not overlap `a` and `b`.
    row_bias, column_bias : ndarray (M,) and (N,) float32, optional
        Added (not with `accumulate`).
    relu : bool
        Clamp the result at 0; NaN stays NaN.
    threads : int, optional
        1 for callers that are threads themselves.
    """
    (rows, depth), columns = a.shape, b.shape[1]
    if b.shape[0] != depth or out.shape != (rows, columns):
        raise ValueError(f"cannot multiply {a.shape} by {b.shape} into {out.shape}")
    if out.strides[1] != 4 and columns > 1:
        raise ValueError(f"the result's rows must be contiguous, but its strides are {out.strides}")
    if depth == 0:
        if not accumulate:
            out[...] = 0 if row_bias is None else row_bias[:, None]
            out += 0 if column_bias is None else column_bias
        if relu:
            np.maximum(out, 0, out=out)
        return
    a, a_row, a_turned = _stored(a)
    b, b_row, b_turned = _stored(b)
    product = Product(rows, columns, depth, a_row, a_turned, b_row, TURNED if b_turned else ROWS,
                      out.strides[0] if rows > 1 else columns * 4)
    run(product, a, b, out, row_bias, column_bias, accumulate, relu, threads=threads)


def run(product, a, b, out, row_bias=None, column_bias=None, accumulate=False, relu=False, geometry=None, k_first=0,
        threads=None):
    """Compute a `Product` of arrays; `geometry` as in `patches` where b is an image.

    Only the terms from `k_first` on are summed; `threads` as in `gemm`.
    """
    rows, columns, groups = product.rows, product.columns, product.groups
    if rows * columns * product.depth * product.images * groups == 0:
        return
    if geometry is None:
        geometry = _NO_GEOMETRY
    threads = threads or parallel.threads()
    parts, size, work = _parts(product, int(accumulate), k_first, threads)
    # The micro-kernel reads whole panels of bias, also at the edges.
    down = groups * rows + HEIGHT
    shift = np.zeros(down + columns + COLUMNS, np.float32)
    if row_bias is not None:
        shift[: groups * rows] = row_bias
    if column_bias is not None:
        shift[down : down + columns] = column_bias
    packed = scratch(size, "left")
    mine = scratch(2 * LINE + threads * OWN, "right")
    a, b, out = address(a), address(b), address(out)
    for numbers, last in parts:
        mine[: 2 * LINE] = 0  # counters of items: claimed, and packed
        parallel.run(gemm_cpu, threads, numbers, a, b, out, shift, 0.0 if relu and last else -np.inf, packed, mine, geometry,
                     work=work)


@functools.lru_cache(maxsize=512)
def _parts(product, accumulate, k_first, threads):
    """Return what calls of one shape have in common.

    The parts, as (int64 numbers of the product and the `Part`, whether the part has the last k); the bytes for A; the work.
    """
    rows, columns, depth, groups = product.rows, product.columns, product.depth, product.groups
    products = product.images * groups
    once = columns <= CHUNK and not product.a_turned
    # As many rows and k of A as may be packed at a time; at least a panel by DEPTH.
    most_depth = max(DEPTH, min(depth, PACKED // (groups * min(rows, 4096)) // DEPTH * DEPTH))
    most_rows = max(HEIGHT, min(rows + HEIGHT - 1, PACKED // (groups * most_depth)) // HEIGHT * HEIGHT)
    if once:
        most_depth, most_rows = depth, rows
    size = 0 if once else groups * (min(rows, most_rows) + HEIGHT) * (min(depth, most_depth) + BLOCK) * 4
    chunk, shares = _cut(rows, columns, products, threads, once)
    parts = []
    for row in range(0, rows, most_rows):
        for k in range(k_first, depth, most_depth):
            part = Part(row, min(rows, row + most_rows), k, min(depth, k + most_depth), int(accumulate or k > k_first), chunk,
                        shares, int(once))
            parts.append((np.array([*product, *part], np.int64), part.k_last == depth))
    return parts, size, rows * columns * (depth - k_first) * products // 32


_NO_GEOMETRY = np.ones(18, np.int64)


def _stored(matrix):
    """Return (matrix, bytes between its stored rows, whether it is stored transposed), copied if it must be."""
    rows, columns = matrix.shape
    if matrix.strides[1] == 4 or columns <= 1:
        if matrix.strides[0] >= 0 or rows <= 1:
            return matrix, matrix.strides[0], 0
    elif matrix.strides[0] == 4 and matrix.strides[1] >= 0 or rows <= 1 and matrix.strides[1] >= 0:
        return matrix, matrix.strides[1], 1
    matrix = np.ascontiguousarray(matrix)
    return matrix, matrix.strides[0], 0


def _cut(rows, columns, products, threads, once):
    """Return (columns of a chunk, shares of the rows): enough items for the threads, the chunks as wide as they may be."""
    if once:
        # Each share packs all of B, each chunk all of A: what is smaller is packed more than once.
        wanted = max(-(-threads // products), min(4 * threads // products, rows // 256))
        if products * wanted > threads:
            wanted = -(-wanted // threads) * threads
        if rows < columns:
            return -(-columns // (wanted * COLUMNS)) * COLUMNS, 1
        return -(-columns // COLUMNS) * COLUMNS, max(1, min(wanted, -(-rows // HEIGHT)))
    chunks = -(-columns // CHUNK)
    if chunks * products < 4 * threads:
        chunks = min(-(-chunks * products // threads) * threads, -(-columns // COLUMNS))
    chunk = -(-columns // (chunks * COLUMNS)) * COLUMNS
    items = -(-columns // chunk) * products
    return chunk, max(1, min(-(-threads // items), -(-rows // HEIGHT)))


@part_of_kernel
def panel_height(panel, rows):
    """Return the height of the panel that starts at row panel * HEIGHT of `rows`: less at the matrix's end."""
    left = rows - panel * HEIGHT
    return FEW if left <= FEW else MORE if left <= MORE else HEIGHT


@part_of_kernel
def tile(height, blocks, last, a, b, c, stride, accumulate, row_bias, column_bias, low, ahead):
    """The micro-kernel for panels of `height` rows."""
    if height == HEIGHT:
        rows_tile(blocks, last, a, b, c, stride, accumulate, row_bias, column_bias, low, ahead)
    elif height == MORE:
        rows_tile_more(blocks, last, a, b, c, stride, accumulate, row_bias, column_bias, low, ahead)
    else:
        rows_tile_few(blocks, last, a, b, c, stride, accumulate, row_bias, column_bias, low, ahead)


@compiled
def gemm_cpu(first, last, numbers, a, b, c, shift, low, packed, mine, geometry):
    """Thread `first`'s part: it claims items of packing A, and then chunks of C, until none are left; arguments as in `run`."""
    product, part = product_at(numbers.ctypes.data), part_at(numbers.ctypes.data + PRODUCT)
    row_bias = shift.ctypes.data
    column_bias = row_bias + (product.groups * product.rows + HEIGHT) * 4
    packed, counter, low = packed.ctypes.data, mine.ctypes.data, np.float32(low)
    rows, depth = part.row_last - part.row_first, part.k_last - part.k_first
    blocks = (depth + BLOCK - 1) // BLOCK
    panels = (rows + HEIGHT - 1) // HEIGHT
    panel_bytes = blocks * BLOCK * HEIGHT * 4
    group_bytes = panels * panel_bytes
    block = counter + 2 * LINE + first * OWN
    lines = block + RIGHT * 4
    spare = lines + (LINES + BLOCK * BLOCK) * 4
    panel_block = spare + HEIGHT * COLUMNS * 4
    a_row_step, a_k_step = (4, product.a_row) if product.a_turned else (product.a_row, 4)
    a += part.row_first * a_row_step

    bundles = (panels + TOGETHER - 1) // TOGETHER
    items = 0 if part.once else product.groups * bundles
    item = claim(counter)
    while item < items:
        group, bundle = item // bundles, item % bundles
        # With A stored by k, neighbouring panels are packed side by side: each k's row is read once from far memory.
        step = BLOCK if product.a_turned else depth
        for k in range(0, depth, step):
            for panel in range(bundle * TOGETHER, min(panels, (bundle + 1) * TOGETHER)):
                height = panel_height(panel, rows)
                left = product.rows - part.row_first - panel * HEIGHT
                pack_left(a + group * product.a_group + panel * HEIGHT * a_row_step + part.k_first * a_k_step,
                          product.a_row, product.a_turned, height, min(height, rows - panel * HEIGHT), left, k,
                          min(k + step, depth), packed + group * group_bytes + panel * panel_bytes + k * height * 4, spare)
        finished(counter + LINE)
        item = claim(counter)

    chunks = (product.columns + part.chunk - 1) // part.chunk
    while item < items + product.images * product.groups * chunks * part.shares:
        wait(counter + LINE, items)
        at = item - items
        share = at % part.shares
        column = at // part.shares % chunks * part.chunk
        group = at // (part.shares * chunks) % product.groups
        image = at // (part.shares * chunks * product.groups)
        columns = min(part.chunk, product.columns - column)
        from_b = b + image * product.b_image + group * product.b_group
        to_c = c + image * product.c_image + group * product.c_group + part.row_first * product.c_row + column * 4
        for k in range(0, depth, DEPTH):
            count = min(DEPTH, depth - k)
            pack_right(from_b, product.b_row, product.b_kind, geometry, part.k_first + k, count, column, columns, block,
                       lines)
            deep = (count + 3) // 4 * 4
            steps = (deep + BLOCK - 1) // BLOCK
            rest = deep - (steps - 1) * BLOCK
            add = 1 if part.accumulate or k > 0 else 0
            limit = low if k + DEPTH >= depth else NO_LIMIT
            for panel in range(panels * share // part.shares, panels * (share + 1) // part.shares):
                height = panel_height(panel, rows)
                there = min(height, rows - panel * HEIGHT)
                left = packed + group * group_bytes + panel * panel_bytes + k * height * 4
                if part.once:
                    left = panel_block
                    pack_left(a + group * product.a_group + panel * HEIGHT * a_row_step + part.k_first * a_k_step,
                              product.a_row, 0, height, there, there, k, k + count, left, spare)
                following = left + panel_bytes if panel + 1 < panels and not part.once else left
                down = row_bias + (group * product.rows + part.row_first + panel * HEIGHT) * 4
                for j in range(0, columns, COLUMNS):
                    right = block + j * deep * 4 + j // COLUMNS * APART
                    onto = to_c + panel * HEIGHT * product.c_row + j * 4
                    across = column_bias + (column + j) * 4
                    wide = min(COLUMNS, columns - j)
                    ahead = following + j // COLUMNS * steps * (AHEAD * LINE)
                    inside = there == height and wide == COLUMNS
                    if add and not inside:
                        for m in range(there):
                            copy(spare + m * COLUMNS * 4, onto + m * product.c_row, wide)
                    tile(height, steps, rest, left, right, onto if inside else spare, product.c_row if inside else COLUMNS * 4,
                         add, down, across, limit, ahead)
                    if not inside:
                        for m in range(there):
                            copy(onto + m * product.c_row, spare + m * COLUMNS * 4, wide)
        item = claim(counter)
