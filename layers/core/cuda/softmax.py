"""Softmax over one axis on a card, for the layers Softmax and SoftmaxWithLoss.

Arrays are (outer, channels, inner). A thread does one position, neighbours side by side, with its channels in order; where
there are too few positions for that and many channels, a block does one (`softmax_block_cuda`; sums: `layers.core.cuda.sums`).
Sums are float64. x is read three times, y written once: 21 channels of a score of 500 x 500 stay in the second cache.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.sums import tree

THREADS = 256
FEW = 4096  # positions
MANY = 64  # channels


def softmax(card, x, y, outer, channels, inner):
    """Write y = exp(x - max x) / sum exp(x - max x) over the channels; x and y are spans, y may be x."""
    if outer * inner < FEW and channels >= MANY:
        if outer * inner:
            card.launch(softmax_block_cuda, outer * inner, x, y, channels, inner, threads=sums.threads(card))
    else:
        card.run(softmax_cuda, outer * inner, x, y, channels, inner)


def softmax_backward(card, y, dy, dx, outer, channels, inner):
    """Write dx = (dy - sum(dy y)) y over the channels; dx may be dy."""
    card.run(softmax_backward_cuda, outer * inner, y, dy, dx, channels, inner)


@cached
def exp_less_at(x, peak):
    """Return exp(x - peak)."""
    return math.exp(x - peak)


@cached(error_model="numpy")
def share_at(value, total):
    """Return value / total in float32."""
    return np.float32(value) / np.float32(total)


@kernel("float*, float*, int, int, int")
def softmax_cuda(x, y, channels, inner, count):
    """One position a thread."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out = over(i, inner)
        first = out * (channels - 1) * inner + i
        peak = x[first]
        for c in range(1, channels):
            value = x[first + c * inner]
            peak = value if value > peak else peak
        total = 0.0
        for c in range(channels):
            total += exp_less_at(x[first + c * inner], peak)
        for c in range(channels):
            place = first + c * inner
            y[place] = share_at(exp_less_at(x[place], peak), total)


@kernel("float*, float*, int, int", threads=THREADS)
def softmax_block_cuda(x, y, channels, inner):
    """One position a block."""
    peaks = cuda.shared.array(THREADS, np.float32)
    totals = cuda.shared.array(THREADS, np.float64)
    thread, together, block = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
    first = over(block, inner) * (channels - 1) * inner + block
    peak = x[first]
    for c in range(thread, channels, together):
        value = x[first + c * inner]
        peak = value if value > peak else peak
    peaks[thread] = peak
    cuda.syncthreads()
    half = together // 2
    while half > 0:
        if thread < half and peaks[thread + half] > peaks[thread]:
            peaks[thread] = peaks[thread + half]
        cuda.syncthreads()
        half //= 2
    peak = peaks[0]
    total = 0.0
    for c in range(thread, channels, together):
        total += exp_less_at(x[first + c * inner], peak)
    totals[thread] = total
    tree(totals, thread, together)
    for c in range(thread, channels, together):
        place = first + c * inner
        y[place] = share_at(exp_less_at(x[place], peak), totals[0])


@kernel("float*, float*, float*, int, int, int")
def softmax_backward_cuda(y, dy, dx, channels, inner, count):
    """One position a thread."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        first = over(i, inner) * (channels - 1) * inner + i
        total = 0.0
        for c in range(channels):
            total += dy[first + c * inner] * y[first + c * inner]
        dot = np.float32(total)
        for c in range(channels):
            place = first + c * inner
            dx[place] = (dy[place] - dot) * y[place]
