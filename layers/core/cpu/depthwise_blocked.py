"""Depthwise convolution of blocked pictures: every channel has one kernel of its own (C = M = group).

Vectors run over the 16 channels of a block; some neighbouring output pixels are summed in registers, tap after tap, so that
each vector of weights is loaded once for all of them. Taps that reach beyond the picture's border are sent to a line of zeros;
where the picture is narrow or NCHW, the strip of it that is worked on is copied first (`blocked.read_patch`).

Every element is summed by one thread, over the taps in order, then the bias: the bits depend neither on the number of threads
nor on the box. `depthwise` is the same for NCHW arrays.
"""

import functools
from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.blocked import read_patch, write_patch
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.depthwise_ir import RUN, one_tile, run_tile
from layers.core.cpu.isa import BLOCK, PIXEL
from layers.core.cpu.memory import LINE, address, aligned, counters, scratch_at
from layers.core.cpu.moves import claim, zero

STRIP = 1 << 17  # bytes of a strip of the picture


class Job(NamedTuple):
    """How a depthwise convolution is cut. An item is (image, block of channels, strip of rows)."""

    images: int
    blocks: int
    y0: int
    y1: int
    x0: int
    x1: int
    down: int  # strips
    rows: int  # of a strip at most
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    dilation_y: int
    dilation_x: int
    copied: int  # whether strips of the source are copied
    inside_x0: int  # these columns have all taps in the source and its border, or in the copy
    inside_x1: int
    a_row: int  # bytes of a row of the source, or of its copy
    results: int  # where in the thread's scratch the results for NCHW are
    zeros: int  # and a line of zeros
    spare: int
    own: int  # bytes of a thread's scratch


def fits(window, blocked=True, target_blocked=True):
    """Return whether `forward_pictures` can do it; layouts do not matter, they are asked for as by `direct_blocked`."""
    return window.two_axes and window.depthwise


def prepare(window, weight, out=None, blocked=True, make=aligned):
    """Return weights (C, 1, kh, kw) as [block of 16 channels][tap][16], for any layout.

    `out`: the result of an earlier call, which is overwritten; without one ``make(shape)`` gives memory.
    """
    blocks = -(-window.channels // BLOCK)
    if out is None:
        out = make((blocks, window.taps, BLOCK))
    lanes = np.zeros((blocks * BLOCK, window.taps), np.float32)
    lanes[: window.channels] = weight.reshape(window.channels, window.taps)
    out[...] = lanes.reshape(blocks, BLOCK, window.taps).transpose(0, 2, 1)
    return out


def forward_pictures(window, source, source_picture, weights, target, target_picture, bias=None, relu=False, box=None):
    """Write the convolution of a picture to another; as `direct_blocked.forward_pictures`."""
    Forward(window, source, source_picture, target, target_picture, relu, box).run(weights, bias)


class Forward:
    """`forward_pictures` made ready once and run many times, as long as the pictures stay where they are."""

    def __init__(self, window, source, source_picture, target, target_picture, relu, box):
        self._weights = self._call = None
        if target_picture.images * target_picture.channels * target_picture.height * target_picture.width == 0:
            return
        threads = parallel.threads()
        job, self._table = _plan(window.channels, window.kernel, window.stride, window.pad, window.dilation, source_picture,
                                 target_picture, box and tuple(box), threads)
        self._shift = np.zeros(job.blocks * BLOCK, np.float32)
        self._shifts = self._shift[: window.channels]
        self._counter, self._scratch = counters(1), threads * job.own
        work = job.images * window.channels * (job.y1 - job.y0) * (job.x1 - job.x0) * window.taps // 4
        self._call = parallel.Call(forward_cpu, threads, [
            job, source, source_picture, 0, target, target_picture, address(self._shift), np.float32(0 if relu else -np.inf),
            address(self._table), np.empty((threads, 2, window.taps), np.int64), 0, address(self._counter)], work)

    def run(self, weights, bias):
        """Compute it with weights from `prepare` and a bias (or None, always or never)."""
        if self._call is None:
            return
        if bias is not None:
            self._shifts[...] = bias
        self._counter.fill(0)
        memory, at = scratch_at(self._scratch, "depthwise")
        args = self._call.args
        if weights is not self._weights:
            self._weights, args[3] = weights, address(weights)
        args[10] = at
        self._call.run()


@functools.lru_cache(maxsize=512)
def _plan(channels, kernel, stride, pad, dilation, source, target, box, threads):
    """Return (`Job`, the taps' offsets in bytes)."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, pad, dilation
    y0, y1, x0, x1 = box or (0, target.height, 0, target.width)
    height, width = y1 - y0, x1 - x0
    reach_y, reach_x = (kh - 1) * dh, (kw - 1) * dw
    wide = (width - 1) * sw + reach_x + 1
    blocks = -(-channels // BLOCK)
    rows = max(1, STRIP // (wide * PIXEL * sh))
    rows = max(1, min(rows, height, height * blocks * target.images // (4 * threads)))
    down = -(-height // rows)
    rows = -(-height // max(1, down))
    # Columns whose taps all lie in the picture and its border. Each of the others costs as much as copying about 12 pixels.
    inside_x0 = min(max(x0, -((source.border - pw) // sw)), x1)
    inside_x1 = max(min(x1, (source.width + source.border - 1 + pw - reach_x) // sw + 1), inside_x0)
    inside = inside_x1 - inside_x0
    copied = int(not source.blocked or inside < min(width, RUN) or wide * sh < 12 * (width - inside))
    if copied:
        inside_x0, inside_x1 = x0, x1
    a_row = wide * PIXEL if copied else source.row
    results = _up(((rows - 1) * sh + reach_y + 1) * wide * PIXEL) if copied else 0
    zeros = results + (0 if target.blocked else _up(rows * width * PIXEL))
    spare = zeros + (0 if copied else _up(wide * PIXEL))
    own = spare + 2 * BLOCK * PIXEL + 5 * LINE
    tap = np.arange(kh * kw)
    table = np.ascontiguousarray(tap // kw * dh * a_row + tap % kw * dw * PIXEL, np.int64)
    job = Job(target.images, blocks, y0, y1, x0, x1, down, rows, kh, kw, sh, sw, ph, pw, dh, dw, copied, inside_x0,
              inside_x1, a_row, results, zeros, spare, own)
    return job, table


def _up(size):
    return -(-size // LINE) * LINE + 3 * LINE


@part_of_kernel
def line_of_pixels(width, taps, table, a, step, weights, c, bias, low):
    """Write a row of results."""
    if width < RUN:
        for x in range(width):
            one_tile(taps, table, a + x * step, step, weights, PIXEL, c + x * PIXEL, PIXEL, bias, low)
        return
    for x in range(0, width, RUN):
        at = min(x, width - RUN)  # some pixels once more: no cases
        run_tile(taps, table, a + at * step, step, weights, PIXEL, c + at * PIXEL, PIXEL, bias, low)


@part_of_kernel
def taps_at(job, picture, y, x, lost, table):
    """Write the taps' offsets where the first is at (y, x): from `lost` on for those outside of the picture and its border."""
    for ky in range(job.kernel_y):
        tap_y = y + ky * job.dilation_y
        inside_y = -picture.border <= tap_y < picture.height + picture.border
        for kx in range(job.kernel_x):
            inside = inside_y and -picture.border <= x + kx * job.dilation_x < picture.width + picture.border
            line = ky * job.dilation_y * job.a_row if inside else lost
            table[ky * job.kernel_x + kx] = line + kx * job.dilation_x * PIXEL


@compiled
def forward_cpu(first, last, job, source, source_picture, weights, target, target_picture, bias, low, table, tables, memory,
                counter):
    """Thread `first`'s part: it claims items until none are left."""
    mine = memory + first * job.own
    spare = mine + job.spare
    width, taps = job.x1 - job.x0, job.kernel_y * job.kernel_x
    step, reach_y = job.stride_x * PIXEL, (job.kernel_y - 1) * job.dilation_y
    zeros, border = mine + job.zeros, source_picture.border
    begin, inside = job.inside_x0 - job.x0, job.inside_x1 - job.inside_x0
    own_row, own_pixel = tables[first, 0], tables[first, 1]
    if not job.copied:
        zero(zeros, ((width - 1) * job.stride_x + (job.kernel_x - 1) * job.dilation_x + 1) * BLOCK)
    item = claim(counter)
    while item < job.images * job.blocks * job.down:
        strip, block, image = item % job.down, item // job.down % job.blocks, item // (job.down * job.blocks)
        y = job.y0 + strip * job.rows
        rows = min(job.rows, job.y1 - y)
        from_y, from_x = y * job.stride_y - job.pad_y, job.x0 * job.stride_x - job.pad_x
        a = source + image * source_picture.image + block * source_picture.plane + from_y * source_picture.row + from_x * PIXEL
        if job.copied:
            high = (rows - 1) * job.stride_y + reach_y + 1
            a = mine
            read_patch(source_picture, source, image, block, from_y, from_x, high, job.a_row // PIXEL, a, job.a_row, spare)
        if target_picture.blocked:
            c = (target + image * target_picture.image + block * target_picture.plane + y * target_picture.row
                 + job.x0 * PIXEL)
            c_row = target_picture.row
        else:
            c, c_row = mine + job.results, width * PIXEL
        kernel, shift = weights + block * taps * PIXEL, bias + block * PIXEL
        for row in range(rows):
            line, onto = a + row * job.stride_y * job.a_row, c + row * c_row
            tap_y = from_y + row * job.stride_y
            offsets = table
            if not job.copied:
                if tap_y < -border or tap_y + reach_y >= source_picture.height + border:
                    taps_at(job, source_picture, tap_y, from_x + begin * job.stride_x, zeros - line, own_row)
                    offsets = own_row.ctypes.data
                for edge in range(width - inside):
                    x = edge if edge < begin else edge + inside
                    taps_at(job, source_picture, tap_y, from_x + x * job.stride_x, zeros - line - x * step, own_pixel)
                    one_tile(taps, own_pixel.ctypes.data, line + x * step, step, kernel, PIXEL, onto + x * PIXEL, PIXEL, shift,
                             low)
            line_of_pixels(inside, taps, offsets, line + begin * step, step, kernel, onto + begin * PIXEL, shift, low)
        if not target_picture.blocked:
            write_patch(target_picture, target, image, block, y, job.x0, rows, width, c, c_row, spare)
        item = claim(counter)
