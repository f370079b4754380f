"""Softmax over one axis, for the layers Softmax and SoftmaxWithLoss.

Arrays are flat views of (outer, channels, inner). A unit of work is one block of at most BLOCK neighbouring inner
positions of one outer index, so that rows are read in memory order and a block's rows stay in the cache between the
passes. Sums run over the channels in order, in float64. exp of float32 is that of `exponential`, vectors at a time.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached, compiled
from layers.core.cpu.exponential import exp_less

BLOCK = 512


def units(outer, inner):
    """Return the number of units of work."""
    return outer * -(-inner // BLOCK)


@cached
def block_of(unit, channels, inner):
    """Return (offset of the block's first value at channel 0, number of positions, number of its first label)."""
    blocks = (inner + BLOCK - 1) // BLOCK
    outer, start = unit // blocks, unit % blocks * BLOCK
    return outer * channels * inner + start, min(BLOCK, inner - start), outer * inner + start


@compiled
def exponentials(result, row, peak):
    """result = exp(row - peak) of rows; result may be row."""
    if row.itemsize == 4:
        exp_less(np.intp(result.ctypes.data), np.intp(row.ctypes.data), np.intp(peak.ctypes.data), row.size)
    else:
        for p in range(row.size):
            result[p] = math.exp(row[p] - peak[p])


@cached(error_model="numpy")  # no test for zero in every division
def divide(values, divisors):
    """values /= divisors."""
    for p in range(values.size):
        values[p] /= divisors[p]


@compiled
def softmax_row(x, y, peaks):
    """The softmax of one position whose channels lie side by side; `peaks` is scratch of BLOCK values."""
    peak, total = x[0], 0.0
    for c in range(1, x.size):
        peak = x[c] if x[c] > peak else peak
    peaks[:] = peak
    for c in range(0, x.size, BLOCK):
        exponentials(y[c:c + BLOCK], x[c:c + BLOCK], peaks)
    for c in range(x.size):
        total += y[c]
    peaks[:] = total
    for c in range(0, x.size, BLOCK):
        divide(y[c:c + BLOCK], peaks)


@compiled
def softmax_cpu(first, last, x, y, channels, inner):
    """y = exp(x - max x) / sum exp(x - max x) over the channels, for units [first, last); y may be x."""
    peak, total = np.empty(BLOCK, x.dtype), np.empty(BLOCK, np.float64)
    for unit in range(first, last):
        base, width, _ = block_of(unit, channels, inner)
        if inner == 1:
            softmax_row(x[base:base + channels], y[base:base + channels], peak)
            continue
        # Loops over slices from 0 on: numba would guard computed indices against negative ones, 10x slower.
        row = x[base:base + width]
        for p in range(width):
            peak[p] = row[p]
            total[p] = 0
        for c in range(1, channels):
            row = x[base + c * inner:base + c * inner + width]
            for p in range(width):
                peak[p] = row[p] if row[p] > peak[p] else peak[p]
        for c in range(channels):
            row = x[base + c * inner:base + c * inner + width]
            result = y[base + c * inner:base + c * inner + width]
            exponentials(result, row, peak[:width])
            for p in range(width):
                total[p] += result[p]
        for p in range(width):
            peak[p] = total[p]
        for c in range(channels):
            result = y[base + c * inner:base + c * inner + width]
            divide(result, peak[:width])


@cached
def softmax_backward_cpu(first, last, y, dy, dx, channels, inner):
    """dx = (dy - sum(dy y)) y over the channels, for units [first, last); dx may be dy."""
    total, dot = np.empty(BLOCK, np.float64), np.empty(BLOCK, y.dtype)
    for unit in range(first, last):
        base, width, _ = block_of(unit, channels, inner)
        total[:width] = 0
        for c in range(channels):
            start = base + c * inner
            row, top = y[start:start + width], dy[start:start + width]
            for p in range(width):
                total[p] += top[p] * row[p]
        for p in range(width):
            dot[p] = total[p]
        for c in range(channels):
            start = base + c * inner
            row, top, result = y[start:start + width], dy[start:start + width], dx[start:start + width]
            for p in range(width):
                result[p] = (top[p] - dot[p]) * row[p]
