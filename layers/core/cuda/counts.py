"""How often each whole number occurs, counted on a card.

Blocks count in their shared memory and are added up afterwards: whole numbers, so the order does not matter.
"""

import numpy as np

from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel

THREADS = 256
BINS = 4096  # that a block counts at a time
PIECE = 4096  # codes that a block looks at, or more
MOST = 256  # pieces


def count_up(card, codes, count, bins, target, adds=False):
    """Count how often 0 to `bins` - 1 occur; all other numbers are passed over.

    Parameters
    ----------
    codes : Span
        `count` int32.
    target : Span
        `bins` int32: written, or added to with `adds`.
    """
    if not count:
        if not adds:
            card.clear(target, 4 * bins)
        return
    pieces = min(-(-count // PIECE), MOST)
    chunks = -(-bins // BINS)
    partial = card.arena.borrow(pieces * bins * 4)
    card.launch(counts_cuda, pieces * chunks, codes, bins, pieces, partial.span, count, threads=sums.threads(card))
    card.run(counts_finish_cuda, bins, partial.span, pieces, adds, target)


@kernel("int*, int, int, int*, int", threads=THREADS)
def counts_cuda(codes, bins, pieces, partial, count):
    """Some bins of a piece of the codes for each block."""
    counts = cuda.shared.array(BINS, np.int32)
    thread, together, block = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
    chunk = over(block, pieces)
    piece = block - chunk * pieces
    first = chunk * BINS
    here = min(BINS, bins - first)
    for i in range(thread, here, together):
        counts[i] = 0
    cuda.syncthreads()
    for k in range(piece * together + thread, count, pieces * together):
        place = codes[k] - first
        if 0 <= place < here:
            cuda.atomic.add(counts, place, 1)
    cuda.syncthreads()
    for i in range(thread, here, together):
        partial[np.int64(piece) * bins + first + i] = counts[i]


@kernel("int*, int, bool, int*, int")
def counts_finish_cuda(partial, pieces, adds, target, count):
    """The pieces of each bin."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        total = target[i] if adds else np.int32(0)
        for piece in range(pieces):
            total += partial[np.int64(piece) * count + i]
        target[i] = total
