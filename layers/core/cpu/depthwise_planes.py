"""Depthwise convolutions with a stride, of planes (NCHW) in float32: FCN's upsampling and its gradient.

Both directions see a row of the large image as pixels of `stride` phases. Padded by p, its value u = x + p belongs to pixel
u // stride; tap kx of the kernel reaches back by kx * dilation // stride pixels, its `drop`, and meets one phase. For each tap
of the kernel's rows and each drop there is one row of weights with the period of the stride, in which vectors find their
weights at any u; where no tap meets a phase it holds 0 (so NaN and infinity reach as far as a kernel of whole strides would).

- `backward_image` (upsampling): each row of the small image is repeated `stride` times per pixel. A row of the large image
  is then a sum of those, shifted by drop * stride, times rows of weights.
- `forward`: rows of the large image times rows of weights are summed over the kernel's rows, one sum for each drop; these
  are then added up, and each stride's phases.

Every element is summed by one thread, over the kernel's rows, then drops (`forward`: rows, drops, phases), then the bias.
`depthwise` does the same in plain loops.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.depthwise_ir import RUN, one_tile, run_tile, spread16, twice16
from layers.core.cpu.isa import BLOCK
from layers.core.cpu.memory import LINE, address, counters, scratch
from layers.core.cpu.moves import claim, get, zero

VECTOR = BLOCK * 4  # bytes
NO_LIMIT = np.float32(-np.inf)


class Job(NamedTuple):
    """How it is cut: an item is (plane, strip of rows of the result). Sizes in floats, `_bytes` apart."""

    channels: int
    planes: int
    height: int  # of the large image
    width: int
    small_height: int
    small_width: int
    kernel: int  # its taps, rows * columns
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    dilation_y: int
    drops: int  # different ones, of columns
    most: int  # the largest, in pixels
    strips: int
    rows: int  # of a strip at most
    slots: int  # rows of the small image kept repeated
    row: int  # of a repeated row, or of sums
    weight_row: int
    table: int  # where in a thread's scratch the parts are: offsets of taps, 16 biases,
    bias: int
    lines: int  # and rows
    own: int  # a thread's scratch


class Taps(NamedTuple):
    """How the kernel's taps meet rows and phases; int64 arrays.

    `row_at[phase]` .. `row_at[phase + 1]` are the places in `rows` of the kernel's rows that meet a phase, `row_drop` their
    drops. `drop` lists those of columns; `column[i, u]` is the kernel's column with the i'th drop at phase u % stride, or -1.
    """

    row_at: np.ndarray
    rows: np.ndarray
    row_drop: np.ndarray
    drop: np.ndarray
    column: np.ndarray


def fits(window, *arrays):
    """Return whether the kernels here can do it, and well: float32, rows of at least a vector."""
    return window.image3[2] >= BLOCK and all(array.dtype == np.float32 and array.flags.c_contiguous for array in arrays)


def backward_image(window, out, weight, bias, image):
    """Write the transposed convolution; as `depthwise.backward_image`."""
    _run(upsample_cpu, True, window, out, weight, bias, image, len(out))


def forward(window, image, weight, bias, out):
    """Write the convolution; as `depthwise.forward`."""
    _run(downsample_cpu, False, window, image, weight, bias, out, len(out))


def _run(kernel, up, window, source, weight, bias, target, images):
    if target.size == 0:
        return
    threads = parallel.threads()
    planes = images * window.channels
    _, kh, kw, _, sh, sw, _, ph, pw, _, dh, dw, *_ = window.numbers.tolist()
    job, taps = _plan(up, window.channels, planes, window.image3[1:], (window.rows, window.width), (kh, kw), (sh, sw), (ph, pw),
                      (dh, dw), threads)
    memory = scratch(threads * job.own * 4, "depthwise").view(np.float32)
    count = counters(1)
    shift = np.zeros(window.channels, np.float32) if bias is None else bias
    small = planes * window.rows * window.width
    parallel.run(kernel, threads, job, taps, address(source), weight.reshape(window.channels, job.kernel_y, job.kernel_x), shift,
                 target.reshape(planes, -1, target.shape[-1]), memory, address(count), work=small * window.taps // 4)


@functools.lru_cache(maxsize=256)
def _plan(up, channels, planes, large, small, kernel, stride, pad, dilation, threads):
    """Return (`Job`, `Taps`)."""
    (height, width), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = large, kernel, stride, pad, dilation
    order = sorted(range(kh), key=lambda ky: (ky * dh % sh, ky))
    row_at = np.searchsorted([ky * dh % sh for ky in order], np.arange(sh + 1))
    drops = sorted({kx * dw // sw for kx in range(kw)})
    weight_row = -(-(sw + BLOCK) // BLOCK) * BLOCK
    column = np.full((len(drops), weight_row), -1, np.int64)
    for kx in range(kw):
        column[drops.index(kx * dw // sw), kx * dw % sw :: sw] = kx
    taps = Taps(*(np.ascontiguousarray(one, np.int64) for one in
                  (row_at, order, [ky * dh // sh for ky in order], drops, column)))
    result = height if up else small[0]
    strips = max(1, min(result, -(-4 * threads // planes)))
    if up:
        slots = (kh - 1) * dh // sh + 1
        row = drops[-1] * sw + -(-(width + pw) // sw) * sw + 2 * BLOCK
    else:
        slots = 2  # the sums for one drop, and for all
        row = max(pw + width, (small[1] + drops[-1]) * sw) + 2 * BLOCK
    row = -(-row // BLOCK) * BLOCK
    weights = kh * len(drops) * weight_row
    table = weights
    shift = table + -(-2 * kh * len(drops) // BLOCK) * BLOCK
    lines = shift + BLOCK
    own = lines + slots * row + 4 * LINE
    job = Job(channels, planes, height, width, *small, kh * kw, kh, kw, sh, sw, ph, pw, dh, len(drops), drops[-1],
              strips, -(-result // strips), slots, row, weight_row, table, shift, lines, own)
    return job, taps


@part_of_kernel
def row_of_vectors(width, taps, table, a, weights, stride, pad, weight_row, c, bias):
    """Write a row of sums: value x takes the weights of phase (x + pad) % stride on."""
    apart = stride // math.gcd(stride, BLOCK)  # vectors so far apart have the same weights
    step = apart * VECTOR
    for begin in range(min(apart, width // BLOCK)):
        count = (width // BLOCK - begin + apart - 1) // apart
        here = weights + (begin * BLOCK + pad) % stride * 4
        first, onto = a + begin * VECTOR, c + begin * VECTOR
        if count < RUN:
            for m in range(count):
                one_tile(taps, table, first + m * step, step, here, weight_row, onto + m * step, step, bias, NO_LIMIT)
        else:
            for m in range(0, count, RUN):
                at = min(m, count - RUN)  # some vectors once more: no cases
                run_tile(taps, table, first + at * step, step, here, weight_row, onto + at * step, step, bias, NO_LIMIT)
    if width % BLOCK:
        x = width - BLOCK
        one_tile(taps, table, a + x * 4, step, weights + (x + pad) % stride * 4, weight_row, c + x * 4, step, bias, NO_LIMIT)


@part_of_kernel
def repeat(source, pixels, stride, onto):
    """Write each pixel `stride` times, and 16 zeros behind the last."""
    pixel = 0
    if stride == 2:
        while pixel + BLOCK <= pixels:
            twice16(onto + 8 * pixel, source + 4 * pixel)
            pixel += BLOCK
    while pixel < pixels:
        value = get(source + 4 * pixel)
        for u in range(0, stride, BLOCK):  # what is written too much the next pixel overwrites
            spread16(onto + 4 * (pixel * stride + u), value)
        pixel += 1
    zero(onto + 4 * pixels * stride, BLOCK)


@part_of_kernel
def pack(taps, kernel, row, number, onto):
    """Write the weights of a row of the kernel for the `number`'th drop."""
    columns, values = taps.column[number], kernel[row]
    for u in range(onto.size):
        onto[u] = values[columns[u]] if columns[u] >= 0 else np.float32(0)


@compiled
def upsample_cpu(first, last, job, taps, source, weights, bias, target, memory, counter):
    """Thread `first`'s part of `backward_image`: it claims items until none are left."""
    mine = memory[first * job.own : (first + 1) * job.own]
    start = mine.ctypes.data
    table = mine[job.table : job.bias].view(np.int64)
    left = job.most * job.stride_x
    pixels = min(job.small_width, (job.width - 1 + job.pad_x) // job.stride_x + 1)  # those that are seen
    lines = start + 4 * job.lines
    item = claim(counter)
    while item < job.planes * job.strips:
        plane, strip = item // job.strips, item % job.strips
        channel = plane % job.channels
        for place in range(job.kernel_y):
            for number in range(job.drops):
                at = (place * job.drops + number) * job.weight_row
                pack(taps, weights[channel], taps.rows[place], number, mine[at : at + job.weight_row])
        mine[job.bias : job.bias + BLOCK] = bias[channel]
        mine[job.lines : job.lines + job.slots * job.row] = 0
        image = source + plane * job.small_height * job.small_width * 4
        repeated = 0  # rows of the small image before this one are there, or needed no more
        for line in range(strip * job.rows, min((strip + 1) * job.rows, job.height)):
            phase, seen = (line + job.pad_y) % job.stride_y, (line + job.pad_y) // job.stride_y
            repeated = max(repeated, seen - job.slots + 1)
            while repeated <= min(seen, job.small_height - 1):
                repeat(image + 4 * repeated * job.small_width, pixels, job.stride_x,
                       lines + 4 * (repeated % job.slots * job.row + left))
                repeated += 1
            count, begin = 0, 0
            for place in range(taps.row_at[phase], taps.row_at[phase + 1]):
                y = seen - taps.row_drop[place]
                if 0 <= y < job.small_height:
                    if count == 0:
                        begin = place
                    for drop in taps.drop:
                        table[count] = 4 * (y % job.slots * job.row - drop * job.stride_x)
                        count += 1
            if count:
                row_of_vectors(job.width, count, start + 4 * job.table, lines + 4 * (left + job.pad_x),
                               start + 4 * begin * job.drops * job.weight_row, job.stride_x, job.pad_x, 4 * job.weight_row,
                               target[plane, line].ctypes.data, start + 4 * job.bias)
            else:
                target[plane, line] = bias[channel]
        item = claim(counter)


@compiled
def downsample_cpu(first, last, job, taps, source, weights, bias, target, memory, counter):
    """Thread `first`'s part of `forward`: it claims items until none are left."""
    mine = memory[first * job.own : (first + 1) * job.own]
    start = mine.ctypes.data
    table = mine[job.table : job.bias].view(np.int64)
    sums, totals = mine[job.lines : job.lines + job.row], mine[job.lines + job.row : job.lines + 2 * job.row]
    mine[job.bias : job.lines] = 0
    sums[:] = 0
    stride = job.stride_x
    item = claim(counter)
    while item < job.planes * job.strips:
        plane, strip = item // job.strips, item % job.strips
        channel = plane % job.channels
        for number in range(job.drops):
            for ky in range(job.kernel_y):
                at = (number * job.kernel_y + ky) * job.weight_row
                pack(taps, weights[channel], ky, number, mine[at : at + job.weight_row])
        for row in range(strip * job.rows, min((strip + 1) * job.rows, job.small_height)):
            from_y = row * job.stride_y - job.pad_y
            count, begin = 0, 0
            for ky in range(job.kernel_y):
                y = from_y + ky * job.dilation_y
                if 0 <= y < job.height:
                    if count == 0:
                        begin = ky
                    table[count] = 4 * y * job.width
                    count += 1
            if count == 0:
                target[plane, row] = bias[channel]
                continue
            totals[: job.pad_x] = 0
            totals[job.pad_x + job.width :] = 0
            for number in range(job.drops):
                into = sums if number else totals  # the first drop is 0
                row_of_vectors(job.width, count, start + 4 * job.table, source + plane * job.height * job.width * 4,
                               start + 4 * (number * job.kernel_y + begin) * job.weight_row, stride, job.pad_x,
                               4 * job.weight_row, into.ctypes.data + 4 * job.pad_x, start + 4 * job.bias)
                if number:
                    shifted = sums[taps.drop[number] * stride :]
                    for u in range(job.small_width * stride):
                        totals[u] += shifted[u]
            result = target[plane, row]
            if stride == 2:
                for pixel in range(result.size):
                    result[pixel] = totals[2 * pixel] + totals[2 * pixel + 1] + bias[channel]
            else:
                for pixel in range(result.size):
                    total = np.float32(0)
                    phases = totals[pixel * stride : (pixel + 1) * stride]
                    for u in range(stride):
                        total += phases[u]
                    result[pixel] = total + bias[channel]
        item = claim(counter)
