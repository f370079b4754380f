"""Sums of squares on a card, for the norm of all gradients and to see whether values are finite."""

import numpy as np

from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.sums import tree

THREADS = 128  # of a block
BLOCK = 1 << 14  # values that a block of threads sums


def sums_of_squares(card, blobs, diff=False):
    """Return, for each blob, the sum of squares of `data` (or `diff`) on a card, in double precision: a list of float.

    A sum is finite exactly when all its values are: squares of float32 cannot overflow a double. The order of adding is fixed
    (see `squares_cuda`; then block after block), so the bits are the same on every run. Waits for the card.
    """
    part, counts = partial_sums(card, blobs, diff)
    sums = np.empty(sum(counts))
    card.download(sums, part.span)
    ends = np.cumsum(counts)
    return [float(sums[end - count:end].sum()) for count, end in zip(counts, ends)]


def partial_sums(card, blobs, diff=False):
    """Queue the sums of squares of each BLOCK values of the blobs; return their `Part`, and how many each blob has."""
    counts = [-(-blob.count // BLOCK) for blob in blobs]
    part, at = card.arena.borrow(8 * sum(counts)), 0
    for blob, count in zip(blobs, counts):
        if count:
            card.launch(squares_cuda, count, blob.on(card, diff), card.within(part.span, 8 * at, 8 * count), blob.count,
                        threads=min(THREADS, card.threads))
        at += count
    return part, counts


@kernel("float*, double*, int", threads=THREADS)
def squares_cuda(x, sums, count):
    """Write the sum of squares of each BLOCK values: thread t of T adds numbers t, t + T, ..., then threads add as in `tree`."""
    partial = cuda.shared.array(THREADS, "float64")
    thread, together, begin = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x * BLOCK
    total = 0.0
    for i in range(begin + thread, min(begin + BLOCK, count), together):
        value = float(x[i])
        total += value * value
    partial[thread] = total
    tree(partial, thread, together)
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]
