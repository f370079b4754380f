"""Products of tiles: what matrix products and convolutions have in common once both factors lie in shared memory.

A block of 256 threads makes a tile of C = A B, rows x columns as in SHAPES, in steps of 16 along the sum. Both factors of a
step are brought to shared memory while the steps before are multiplied: two or three steps have places there. Each warp has
64 x 32 values of the tile, each thread 64 sums in registers: sum 8 i + j is that of row lane // 4 + 8 i, its column is in
`put_half`. What is made goes through shared memory, 32 of each warp's 64 rows at a time, so that threads side by side write
side by side.

Three arithmetics:

    FLOAT32  multiply-add of float32, in the order of the sum; for every card
    TF32     tensor cores, factors rounded to 10 bits of fraction, sums in float32 as the hardware adds
    SPLIT    "3xTF32": each factor is the sum of two such, x = big + small, and of the four products small * small is left
             away; the small ones are added first. 8 steps of the sum at a time are added in float32 outside the tensor
             cores, which would cut off what does not fit instead of rounding. An infinite factor makes NaN.

Source of the splitting: Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores", 2022.
"""

import numpy as np

from layers.core.cuda.kernel import OLDEST, cuda, kernel, part, ptx

SINGLE = np.dtype(np.float32)  # the simulator wants this of dynamic shared memory
FLOAT32, TF32, SPLIT = 0, 1, 2
NAMES = ("float32", "tf32", "3xtf32")
TENSOR = (8, 0)  # capability from which on tensor cores take tf32
STRONG = ((8, 0), (9, 0), (10, 0), (10, 3))  # cards that do three products of tf32 sooner than one of float32
SHAPES = ((128, 128), (64, 256))  # rows and columns of a block's tile
THREADS, STEP = 256, 16
STAGES = (2, 3, 3)  # steps in shared memory, for each arithmetic: Turing has 64 KiB of it
PITCH = STEP + 4  # floats between rows of 16 in shared memory: a warp's reads then meet different banks
MARGIN = 8  # floats behind a row of a whole tile's length: likewise
OVERHEAD = 8  # steps that beginning and ending a tile takes as long as
ADDING = 3e-6  # steps that one value of one part takes when parts are added


def arithmetic(card, math):
    """Return which arithmetic products on `card` have: `math` is that of the net."""
    if math == "tf32":
        return TF32
    return SPLIT if card.capability in STRONG else FLOAT32


def since(how):
    """Return the oldest capability that has an arithmetic."""
    return OLDEST if how == FLOAT32 else TENSOR


def shape_for(rows):
    """Return the number in SHAPES of the tile that makes fewest rows in vain, the squarer one if both do."""
    return min(range(len(SHAPES)), key=lambda number: -(-rows // SHAPES[number][0]) * SHAPES[number][0])


def parts_for(card, tiles, steps, count):
    """Return (parts, steps of a part): how often the sum is cut, so that there are blocks for all of the card.

    The parts are added in order, so the bits depend on the sizes and the card's number of multiprocessors alone.
    """
    def cost(parts):
        waves = -(-tiles * parts // card.processors)
        return waves * (-(-steps // parts) + OVERHEAD) + (OVERHEAD + parts * count * ADDING) * (parts > 1)

    parts = min(range(1, max(1, min(steps // OVERHEAD, 128)) + 1), key=cost)
    each = -(-steps // parts)
    return -(-steps // each), each


def bytes_of(parts, count):
    """Return the bytes that the parts of `count` sums take until they are added."""
    return 4 * parts * count if parts > 1 else 0


@part
def multiply_float32(tile, a, b, a_row, a_step, b_step, b_column, lane, sums):
    """Add one step's products to a thread's 64 sums; 4 steps of the sum at a time, so that rows of 4 are read at once.

    A's row i, step k stands at tile[a + i * a_row + k * a_step], B's at tile[b + k * b_step + j * b_column].
    """
    left = cuda.local.array(32, np.float32)
    right = cuda.local.array(32, np.float32)
    a += (lane >> 2) * a_row
    b += (lane & 3) * 4 * b_column
    for _ in range(0, STEP, 4):
        for i in range(8):
            if a_step == 1:
                left[4 * i], left[4 * i + 1], left[4 * i + 2], left[4 * i + 3] = ptx.load4(tile, a, 8 * i * a_row)
            else:
                for e in range(4):
                    left[4 * i + e] = ptx.load(tile, a, 8 * i * a_row + e * a_step)
        for i in range(8):
            if b_column == 1:
                at, first = (i >> 1) * b_step + (i & 1) * 16, 4 * i
                right[first], right[first + 1], right[first + 2], right[first + 3] = ptx.load4(tile, b, at)
            else:
                at = ((i >> 2) * 16 + (i & 3)) * b_column
                right[i], right[8 + i], right[16 + i], right[24 + i] = ptx.load4(tile, b, at)
        for e in range(4):
            for i in range(8):
                for j in range(8):
                    sums[8 * i + j] += left[4 * i + e] * right[8 * e + j]
        a += 4 * a_step
        b += 4 * b_step


@part
def multiply_tensor(tile, a, b, a_row, a_step, b_step, b_column, lane, how, sums):
    """As `multiply_float32`; operands lie in the threads of a warp as `ptx.mma` says."""
    big_a = cuda.local.array(16, np.uint32)
    small_a = cuda.local.array(16, np.uint32)
    big_b = cuda.local.array(8, np.uint32)
    small_b = cuda.local.array(8, np.uint32)
    zero = np.float32(0)
    a += (lane >> 2) * a_row + (lane & 3) * a_step
    b += (lane >> 2) * b_column + (lane & 3) * b_step
    for k in range(0, STEP, 8):
        for i in range(16):
            x = ptx.load(tile, a, ((i >> 2) * 16 + (i & 1) * 8) * a_row + (k + (i & 2) * 2) * a_step)
            big_a[i] = ptx.tf32(x)
            if how == SPLIT:
                small_a[i] = ptx.tf32(x - ptx.value(big_a[i]))
        for j in range(8):
            x = ptx.load(tile, b, (k + (j & 1) * 4) * b_step + (j >> 1) * 8 * b_column)
            big_b[j] = ptx.tf32(x)
            if how == SPLIT:
                small_b[j] = ptx.tf32(x - ptx.value(big_b[j]))
        for i in range(0, 16, 4):
            for j in range(0, 8, 2):
                s = 4 * i + j  # of sums: rows 4 i // 8 and, of the lower half of 16 rows, one more
                if how == SPLIT:
                    d = ptx.mma(small_a[i], small_a[i + 1], small_a[i + 2], small_a[i + 3], big_b[j], big_b[j + 1],
                                zero, zero, zero, zero)
                    d = ptx.mma(big_a[i], big_a[i + 1], big_a[i + 2], big_a[i + 3], small_b[j], small_b[j + 1],
                                d[0], d[1], d[2], d[3])
                    d = ptx.mma(big_a[i], big_a[i + 1], big_a[i + 2], big_a[i + 3], big_b[j], big_b[j + 1],
                                d[0], d[1], d[2], d[3])
                    sums[s] += d[0]
                    sums[s + 1] += d[1]
                    sums[s + 8] += d[2]
                    sums[s + 9] += d[3]
                else:
                    sums[s], sums[s + 1], sums[s + 8], sums[s + 9] = ptx.mma(
                        big_a[i], big_a[i + 1], big_a[i + 2], big_a[i + 3], big_b[j], big_b[j + 1],
                        sums[s], sums[s + 1], sums[s + 8], sums[s + 9])


@part
def put_half(tile, pitch, row, column, lane, how, sums, first):
    """Write a warp's sums `first` to `first` + 31 (32 of its rows) to shared memory, from row `row` and column `column` on."""
    at = (row + (lane >> 2)) * pitch + column + (lane & 3) * (4 if how == FLOAT32 else 2)
    for i in range(4):
        for j in range(8):
            x = (j >> 2) * 16 + (j & 3) if how == FLOAT32 else (j >> 1) * 8 + (j & 1)
            ptx.store(tile, at, 8 * i * pitch + x, sums[first + 8 * i + j])


@part
def put(tile, pitch, row, column, lane, how, sums, half):
    """Write the first or second half of a warp's sums: each by its constant number, else they would leave the registers."""
    if half == 0:
        put_half(tile, pitch, row, column, lane, how, sums, 0)
    else:
        put_half(tile, pitch, row, column, lane, how, sums, 32)


@part
def copy_block(tile, at, pitch, height, width, source, first, leading, row, column, rows, columns, wide, thread):
    """Begin to copy rows [row, row + height) and columns [column, column + width) of a matrix to tile[at:]; zeros outside of it.

    Its row i begins at source[first + i * leading], it has `rows` and `columns`; with `wide` 4 columns at a time: first,
    leading, column and columns are multiples of 4 then.
    """
    if wide:
        for u in range(height * width // (4 * THREADS)):
            e = thread + u * THREADS
            i, j = e // (width // 4), e % (width // 4) * 4
            ptx.copy16(tile, at + i * pitch + j, source, ptx.place(row + i, leading, first + column + j),
                       row + i < rows and column + j < columns)
    else:
        for u in range(height * width // THREADS):
            e = thread + u * THREADS
            i, j = e // width, e % width
            ptx.copy4(tile, at + i * pitch + j, source, ptx.place(row + i, leading, first + column + j),
                      row + i < rows and column + j < columns)


def finish(card, partial, parts, y, count, bias=None, channels=1, inner=1, alpha=1, beta=0, rectify=False):
    """Queue y = alpha (part 0 + part 1 + ...) + beta y + bias, clamped at 0 with `rectify`.

    `partial` holds `parts` times `count` values; value i has the bias number i // inner % channels.
    """
    card.run(finish_cuda, count, partial, partial if bias is None else bias, y, parts, channels, inner, alpha, beta,
             bias is not None, rectify)


@kernel("float*, float*, float*, int, int, int, float, float, bool, bool, int")
def finish_cuda(partial, bias, y, parts, channels, inner, alpha, beta, biased, rectify, count):
    """All values, each the sum of its parts in order."""
    zero = np.float32(0)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        total = zero
        for number in range(parts):
            total += partial[number * count + i]
        total *= alpha
        if beta != zero:
            total += beta * y[i]
        if biased:
            total += bias[i // inner % channels]
        y[i] = zero if rectify and total <= zero else total
