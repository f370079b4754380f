"""Sums of squares on a card, for the norm of all gradients and to see whether values are finite."""

import numpy as np

from layers.core.cuda.kernel import cuda, kernel

THREADS = 128  # of a block
BLOCK = 1 << 14  # values that a block of threads sums


def sums_of_squares(card, blobs, diff=False):
    """Return, for each blob, the sum of squares of `data` (or `diff`) on a card, in double precision: a list of float.

    A sum is finite exactly when all its values are: squares of float32 cannot overflow a double. The order of adding is fixed
    (see `squares_cuda`; then block after block), so the bits are the same on every run. Waits for the card.
    """
    counts = [-(-blob.count // BLOCK) for blob in blobs]
    sums = np.empty(sum(counts))
    if not sums.size:
        return [0.0] * len(blobs)
    part, at = card.arena.take(sums.nbytes), 0
    for blob, count in zip(blobs, counts):
        if count:
            card.launch(squares_cuda, count, blob.on(card, diff), card.within(part.span, 8 * at, 8 * count), blob.count)
        at += count
    card.download(sums, part.span)
    ends = np.cumsum(counts)
    return [float(sums[end - count:end].sum()) for count, end in zip(counts, ends)]


@kernel("float*, double*, int", threads=THREADS)
def squares_cuda(x, sums, count):
    """Write the sum of squares of each BLOCK values: thread t adds numbers t, t + THREADS, ..., then threads add by pairs."""
    partial = cuda.shared.array(THREADS, "float64")
    thread, begin = cuda.threadIdx.x, cuda.blockIdx.x * BLOCK
    total = 0.0
    for i in range(begin + thread, min(begin + BLOCK, count), THREADS):
        value = float(x[i])
        total += value * value
    partial[thread] = total
    cuda.syncthreads()
    step = THREADS // 2
    while step:
        if thread < step:
            partial[thread] += partial[thread + step]
        cuda.syncthreads()
        step //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = partial[0]
