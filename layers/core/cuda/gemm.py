"""Matrix products on a card: C = alpha op(A) op(B) + beta C, all row-major and float32, op transposing or not.

`gemm_cuda` is plain: a thread sums one value of C in float32, in order. Those in GEMMS multiply tiles (`layers.core.cuda.tiles`)
and must equal it up to rounding. With beta 0 whatever C held is not read.
"""

import numpy as np

from layers.core.cuda import tiles
from layers.core.cuda.kernel import cuda, kernel, ptx
from layers.core.cuda.tiles import (
    FLOAT32,
    MARGIN,
    PITCH,
    SHAPES,
    SINGLE,
    STAGES,
    STEP,
    THREADS,
    copy_block,
    multiply_float32,
    multiply_tensor,
    put,
)

LEAST = 1 << 16  # products from which on tiles pay


def gemm(card, a, b, c, m, n, k, transpose_a=False, transpose_b=False, alpha=1, beta=0, bias=None, how=None):
    """Queue C (m, n) = alpha op(A) op(B) + beta C + bias, with op(A) (m, k) and op(B) (k, n).

    Parameters
    ----------
    a, b, c : layers.core.cuda.card.Span
    transpose_a, transpose_b : bool
        Whether A lies as (k, m), and B as (n, k); both at once goes the plain way.
    bias : Span, optional
        (n,), added to every row.
    how : int, optional
        An arithmetic of `layers.core.cuda.tiles`; None is plain.
    """
    if how is None or transpose_a and transpose_b or m * n * k < LEAST:
        gemm_plain(card, a, b, c, m, n, k, transpose_a, transpose_b, alpha, beta, bias)
        return
    row_tiles, blocks, parts, each = _split(card, m, n, k, transpose_a)
    wide_a, wide_b = (m if transpose_a else k) % 4 == 0, (k if transpose_b else n) % 4 == 0
    partial = card.arena.borrow(tiles.bytes_of(parts, m * n)) if parts > 1 else None
    card.launch(GEMMS[how, transpose_a, transpose_b], (blocks, parts), a, b, a if bias is None else bias,
                c if partial is None else partial.span, m, n, k, row_tiles, each * STEP, wide_a, wide_b, alpha, beta,
                bias is not None)
    if partial is not None:
        tiles.finish(card, partial.span, parts, c, m * n, bias, n, 1, alpha, beta)


def _split(card, m, n, k, transpose_a):
    """Return tiles along the rows, tiles in all, parts, steps of a part."""
    rows, columns = SHAPES[_shape(transpose_a)]
    row_tiles = -(-m // rows)
    blocks = row_tiles * -(-n // columns)
    return row_tiles, blocks, *tiles.parts_for(card, blocks, -(-k // STEP), m * n)


def gemm_bytes(card, m, n, k, transpose_a=False):
    """Return the bytes that `gemm` borrows for tiles."""
    return tiles.bytes_of(_split(card, m, n, k, transpose_a)[2], m * n) if m * n * k >= LEAST else 0


def gemm_plain(card, a, b, c, m, n, k, transpose_a=False, transpose_b=False, alpha=1, beta=0, bias=None):
    """As `gemm`, a thread for each value."""
    a_row, a_step = (1, m) if transpose_a else (k, 1)
    b_step, b_column = (1, k) if transpose_b else (n, 1)
    card.run(gemm_cuda, m * n, a, b, a if bias is None else bias, c, n, k, a_row, a_step, b_step, b_column, alpha, beta,
             bias is not None)


@kernel("float*, float*, float*, float*, int, int, long, long, long, long, float, float, bool, int")
def gemm_cuda(a, b, bias, c, n, k, a_row, a_step, b_step, b_column, alpha, beta, biased, count):
    """All values of C; A[i, l] is a[i * a_row + l * a_step], B[l, j] is b[l * b_step + j * b_column]."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row, column = i // n, i % n
        total = np.float32(0)
        for step in range(k):
            total += a[row * a_row + step * a_step] * b[step * b_step + column * b_column]
        total *= alpha
        if beta != 0:
            total += beta * c[i]
        if biased:
            total += bias[column]
        c[i] = total


def _shape(transpose_a):
    """Return the number in SHAPES of the tile: (batch, outputs) are few rows, a gradient of weights is square."""
    return 0 if transpose_a else 1


def _make(how, transpose_a, transpose_b):
    rows, columns = SHAPES[_shape(transpose_a)]
    tensor, warps = how != FLOAT32, rows // 64
    # A step's A lies in shared memory as its rows of 16, or as it is if it is transposed; B likewise.
    a_row, a_step, a_size = (1, rows + MARGIN, STEP * (rows + MARGIN)) if transpose_a else (PITCH, 1, rows * PITCH)
    b_step, b_column, b_size = (1, PITCH, columns * PITCH) if transpose_b else (columns + MARGIN, 1, STEP * (columns + MARGIN))
    stage, ahead, left = a_size + b_size, STAGES[how] - 1, STAGES[how] - 2
    pitch, lines = columns + MARGIN, THREADS // columns

    @kernel("float*, float*, float*, float*, int, int, int, int, int, bool, bool, float, float, bool", THREADS,
            4 * STAGES[how] * stage, tiles.since(how), f"gemm_{tiles.NAMES[how]}_{'nt'[transpose_a]}{'nt'[transpose_b]}_cuda")
    def gemm_tiles_cuda(a, b, bias, c, m, n, k, row_tiles, each, wide_a, wide_b, alpha, beta, biased):
        """One tile of C a block, or of part blockIdx.y of the sum, which takes steps [each * part, each * part + each)."""
        tile = cuda.shared.array(0, SINGLE)
        sums = cuda.local.array(64, np.float32)
        for i in range(64):
            sums[i] = 0
        thread = cuda.threadIdx.x
        lane, warp = thread & 31, thread >> 5
        row, column = cuda.blockIdx.x % row_tiles * rows, cuda.blockIdx.x // row_tiles * columns
        warp_row, warp_column = warp % warps * 64, warp // warps * 32
        first = cuda.blockIdx.y * each
        end = min(first + each, k)
        here, there = 0, 0
        for step in range(first - ahead * STEP, end, STEP):
            if step >= first:
                ptx.wait_copies(left)
                cuda.syncthreads()
            at, coming = there * stage, step + ahead * STEP
            if transpose_a:
                copy_block(tile, at, rows + MARGIN, STEP, rows, a, 0, m, coming, row, end, m, wide_a, thread)
            else:
                copy_block(tile, at, PITCH, rows, STEP, a, 0, k, row, coming, m, end, wide_a, thread)
            if transpose_b:
                copy_block(tile, at + a_size, PITCH, columns, STEP, b, 0, k, column, coming, n, end, wide_b, thread)
            else:
                copy_block(tile, at + a_size, columns + MARGIN, STEP, columns, b, 0, n, coming, column, end, n, wide_b, thread)
            ptx.end_copies()
            there = there + 1 if there < ahead else 0
            if step >= first:
                at = here * stage
                if tensor:
                    multiply_tensor(tile, at + warp_row * a_row, at + a_size + warp_column * b_column, a_row, a_step,
                                    b_step, b_column, lane, how, sums)
                else:
                    multiply_float32(tile, at + warp_row * a_row, at + a_size + warp_column * b_column, a_row, a_step,
                                     b_step, b_column, lane, sums)
                here = here + 1 if here < ahead else 0
        ptx.wait_copies(0)
        whole = cuda.gridDim.y == 1
        first = cuda.blockIdx.y * m * n
        x = column + thread % columns
        for half in range(2):
            cuda.syncthreads()
            put(tile, pitch, warp_row // 2, warp_column, lane, how, sums, half)
            cuda.syncthreads()
            for line in range(thread // columns, rows // 2, lines):
                y = row + line // 32 * 64 + half * 32 + line % 32
                if y < m and x < n:
                    total = ptx.load(tile, line * pitch + thread % columns, 0)
                    if whole:
                        total *= alpha
                        if beta != 0:
                            total += beta * c[y * n + x]
                        if biased:
                            total += bias[x]
                    c[first + y * n + x] = total

    return gemm_tiles_cuda


GEMMS = {(how, transpose_a, transpose_b): _make(how, transpose_a, transpose_b) for how in range(3)
         for transpose_a, transpose_b in ((False, False), (False, True), (True, False))}
