"""Sums of many values on a card, in an order that is always the same.

Values lie as (outer, length, inner); each of `length` sums goes over outer and inner. They are taken in float64: a block adds
up `PIECE` values of one sum, thread t of T those numbered t, t + T, ..., then the threads' totals by halves (`tree`), and the
blocks' are added in order. Sums of few values are taken by one thread each, in order. T is 256; the simulator's is 8.
"""

import numpy as np

from layers.core.cuda.kernel import cuda, kernel, part

THREADS = 256
PIECE = 16384  # values that a block adds up
FEW = 64  # values that a thread may add up alone
VALUES, PRODUCTS, MAGNITUDES, REST = range(4)  # what is added up: a, a * b, |a|, a * b where b is not above zero


def threads(card):
    """Return how many threads a block has that adds up, a power of two: few where each is a thread of Python."""
    return min(THREADS, card.threads)


def add_up(card, kind, a, b, sizes, target, factor=1.0, adds=False):
    """Write factor times each sum to `target`, or add it with `adds`.

    Parameters
    ----------
    card : Card
    kind : VALUES, PRODUCTS, MAGNITUDES or REST
    a, b : Span
        float32, (outer, length, inner); b may be a where it is not used.
    sizes : (int, int, int)
        outer, length, inner.
    target : Span
        `length` float32.
    """
    outer, length, inner = sizes
    if outer * inner <= FEW or inner < 8 <= length:
        card.run(few_sums_cuda, length, kind, a, b, outer, inner, factor, adds, target)
        return
    pieces = -(-outer * inner // PIECE)
    partial = card.arena.borrow(length * pieces * 8)
    card.launch(sums_cuda, length * pieces, kind, a, b, outer * inner, length, inner, pieces, partial.span, threads=threads(card))
    card.run(finish_cuda, length, partial.span, pieces, factor, adds, target)


@part
def term_at(kind, a, b, i):
    """Return what value i adds, in float64."""
    value = np.float64(a[i])
    if kind == PRODUCTS:
        value *= b[i]
    elif kind == MAGNITUDES:
        value = abs(value)
    elif kind == REST:
        value = value * b[i] if b[i] <= 0 else 0.0
    return value


@part
def tree(values, thread, count):
    """Add up the first `count` values of a shared array, a power of two: the second half onto the first, and so on."""
    cuda.syncthreads()
    half = count // 2
    while half > 0:
        if thread < half:
            values[thread] += values[thread + half]
        cuda.syncthreads()
        half //= 2


@part
def two_trees(first, second, firsts, seconds):
    """Add up what the threads of a block have, of two kinds; the sums are then in the first places of the shared arrays."""
    thread, together = cuda.threadIdx.x, cuda.blockDim.x
    firsts[thread], seconds[thread] = first, second
    tree(firsts, thread, together)
    tree(seconds, thread, together)


@kernel("int, float*, float*, int, int, int, int, double*", threads=THREADS)
def sums_cuda(kind, a, b, count, length, inner, pieces, partial):
    """One piece of one sum for each block; a sum has `count` values."""
    totals = cuda.shared.array(THREADS, np.float64)
    thread, together, block = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
    number = np.uint32(block) // np.uint32(pieces)
    piece = block - number * pieces
    total = 0.0
    first = piece * PIECE
    for k in range(first + thread, min(first + PIECE, count), together):
        out = np.uint32(k) // np.uint32(inner)
        total += term_at(kind, a, b, (out * length + number) * inner + k - out * inner)
    totals[thread] = total
    tree(totals, thread, together)
    if thread == 0:
        partial[block] = totals[0]


@kernel("double*, int, double, bool, float*, int")
def finish_cuda(partial, pieces, factor, adds, target, count):
    """The pieces of each sum, in order."""
    for number in range(cuda.grid(1), count, cuda.gridsize(1)):
        total = 0.0
        for piece in range(pieces):
            total += partial[number * pieces + piece]
        target[number] = total * factor + (target[number] if adds else np.float32(0))


@kernel("int, float*, float*, int, int, double, bool, float*, int")
def few_sums_cuda(kind, a, b, outer, inner, factor, adds, target, count):
    """Whole sums, one a thread: plain, and for few values."""
    for number in range(cuda.grid(1), count, cuda.gridsize(1)):
        total = 0.0
        for out in range(outer):
            first = (out * count + number) * inner
            for k in range(inner):
                total += term_at(kind, a, b, first + k)
        target[number] = total * factor + (target[number] if adds else np.float32(0))
