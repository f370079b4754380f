"""Depthwise convolution of blocked pictures: every channel has one kernel of its own (C = M = group).

Vectors run over the 16 channels of a block; some neighbouring output pixels are summed in registers, tap after tap, so that
each vector of weights is loaded once for all of them. Where taps reach beyond the picture's border, or the picture is NCHW,
the strip of the picture that is worked on is copied first (`blocked.read_patch`).

Every element is summed by one thread, over the taps in order, then the bias: the bits depend neither on the number of threads
nor on the box. `depthwise` is the same for NCHW arrays.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import types

from layers.core.cpu import parallel
from layers.core.cpu.blocked import PIXEL, read_patch, write_patch
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.memory import LINE, address, aligned, counters, scratch
from layers.core.cpu.moves import claim
from layers.core.cpu.vector_ir import FLOAT, INT64, Emitter, emitted

ADDRESS = types.intp
# Pixels that are summed side by side: enough chains to hide an addition's latency. Pictures are often multiples of 7 wide.
RUN = {"avx512": 7, "avx2": 4}.get(ISA.name, 2)
STRIP = 1 << 17  # bytes of a strip of the picture


def channels_tile(name, pixels):
    """Return the intrinsic that sums all taps of `pixels` output pixels of a block.

    ``tile(taps, table, a, step, weights, c, bias, low)``: the taps' offsets (int64, bytes) from the address `a` of the first
    pixel's first tap; the next pixel's is `step` bytes on. Weights are [tap][16]. Results go to c, 64 bytes a pixel.
    """
    parts = BLOCK // ISA.width

    def emit(builder, taps, table, a, step, weights, c, bias, low):
        e = Emitter(builder)
        begin = builder.block
        loop, done = builder.append_basic_block("taps"), builder.append_basic_block("store")
        offsets, kernel = builder.inttoptr(table, INT64.as_pointer()), e.pointer(weights)
        starts = [builder.add(a, builder.mul(step, e.number(m))) for m in range(pixels)]
        zero = e.constant(0)
        builder.branch(loop)

        builder.position_at_end(loop)
        index, here = builder.phi(INT64), builder.phi(FLOAT.as_pointer())
        sums = [builder.phi(e.vector) for _ in range(pixels * parts)]
        for node, start in zip((index, here, *sums), (e.number(0), kernel, *[zero] * len(sums))):
            node.add_incoming(start, begin)
        offset = builder.load(builder.gep(offsets, [index]))
        factors = [e.load(here, n * ISA.width) for n in range(parts)]
        new = []
        for m in range(pixels):
            pointer = e.pointer(builder.add(starts[m], offset))
            new += [e.add_product(e.load(pointer, n * ISA.width), factors[n], sums[m * parts + n]) for n in range(parts)]
        following = builder.add(index, e.number(1))
        for node, value in zip((index, here, *sums), (following, e.moved(here, BLOCK), *new)):
            node.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, taps), loop, done)

        builder.position_at_end(done)
        shift = [e.load(e.pointer(bias), n * ISA.width) for n in range(parts)]
        least = e.spread(low)
        for i, value in enumerate(new):
            e.store(e.clamp(builder.fadd(value, shift[i % parts]), least), e.pointer(c), i * ISA.width)

    return emitted(name, [types.void, *[ADDRESS] * 7, types.float32], emit)


run_tile = channels_tile("run_tile", RUN)
pixel_tile = channels_tile("pixel_tile", 1)


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
    a_row: int  # bytes of a row of the source, or of its copy
    results: int  # where in the thread's scratch the results for NCHW are
    spare: int
    own: int  # bytes of a thread's scratch


def fits(window, blocked=True, target_blocked=True):
    """Return whether `forward_pictures` can do it; layouts do not matter, they are asked for as by `direct_blocked`."""
    return window.simple and len(window.image) == 2 and window.group == window.channels == window.outputs


def prepare(window, weight, out=None, blocked=True):
    """Return weights (C, 1, kh, kw) as [block of 16 channels][tap][16], for any layout.

    `out`: the result of an earlier call, which is overwritten.
    """
    blocks = -(-window.channels // BLOCK)
    if out is None:
        out = aligned((blocks, window.taps, BLOCK))
    lanes = np.zeros((blocks * BLOCK, window.taps), np.float32)
    lanes[: window.channels] = weight.reshape(window.channels, window.taps)
    out[...] = lanes.reshape(blocks, BLOCK, window.taps).transpose(0, 2, 1)
    return out


def forward_pictures(window, source, source_picture, weights, target, target_picture, bias=None, relu=False, box=None):
    """Write the convolution of a picture to another; as `direct_blocked.forward_pictures`."""
    if target_picture.images * target_picture.channels * target_picture.height * target_picture.width == 0:
        return
    threads = parallel.threads()
    job, table = _plan(window.channels, window.kernel, window.stride, window.pad, window.dilation, source_picture, target_picture,
                       box and tuple(box), threads)
    shift = np.zeros(job.blocks * BLOCK, np.float32)
    if bias is not None:
        shift[: window.channels] = bias
    memory = scratch(threads * job.own, "depthwise")
    count = counters(1)
    work = job.images * window.channels * (job.y1 - job.y0) * (job.x1 - job.x0) * window.taps // 4
    parallel.run(forward_cpu, threads, job, source, source_picture, address(weights), target, target_picture, address(shift),
                 np.float32(0 if relu else -np.inf), address(table), address(memory), address(count), work=work)


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
    inside = (y0 * sh - ph >= -source.border and (y1 - 1) * sh - ph + reach_y < source.height + source.border
              and x0 * sw - pw >= -source.border and (x1 - 1) * sw - pw + reach_x < source.width + source.border)
    copied = int(not (inside and source.blocked))
    a_row = wide * PIXEL if copied else source.row
    results = _up(((rows - 1) * sh + reach_y + 1) * wide * PIXEL) if copied else 0
    spare = results + (0 if target.blocked else _up(rows * width * PIXEL))
    own = spare + 2 * BLOCK * PIXEL + 5 * LINE
    tap = np.arange(kh * kw)
    table = np.ascontiguousarray(tap // kw * dh * a_row + tap % kw * dw * PIXEL, np.int64)
    job = Job(target.images, blocks, y0, y1, x0, x1, down, rows, kh, kw, sh, sw, ph, pw, dh, dw, copied, a_row, results, spare,
              own)
    return job, table


def _up(size):
    return -(-size // LINE) * LINE + 3 * LINE


@part_of_kernel
def line_of_pixels(width, taps, table, a, step, weights, c, bias, low):
    """Write a row of results."""
    if width < RUN:
        for x in range(width):
            pixel_tile(taps, table, a + x * step, step, weights, c + x * PIXEL, bias, low)
        return
    for x in range(0, width, RUN):
        at = min(x, width - RUN)  # some pixels once more: no cases
        run_tile(taps, table, a + at * step, step, weights, c + at * PIXEL, bias, low)


@compiled
def forward_cpu(first, last, job, source, source_picture, weights, target, target_picture, bias, low, table, memory, counter):
    """Thread `first`'s part: it claims items until none are left."""
    mine = memory + first * job.own
    spare = mine + job.spare
    width, taps = job.x1 - job.x0, job.kernel_y * job.kernel_x
    item = claim(counter)
    while item < job.images * job.blocks * job.down:
        strip, block, image = item % job.down, item // job.down % job.blocks, item // (job.down * job.blocks)
        y = job.y0 + strip * job.rows
        rows = min(job.rows, job.y1 - y)
        from_y, from_x = y * job.stride_y - job.pad_y, job.x0 * job.stride_x - job.pad_x
        a = source + image * source_picture.image + block * source_picture.plane + from_y * source_picture.row + from_x * PIXEL
        if job.copied:
            high = (rows - 1) * job.stride_y + (job.kernel_y - 1) * job.dilation_y + 1
            a = mine
            read_patch(source_picture, source, image, block, from_y, from_x, high, job.a_row // PIXEL, a, job.a_row, spare)
        if target_picture.blocked:
            c = (target + image * target_picture.image + block * target_picture.plane + y * target_picture.row
                 + job.x0 * PIXEL)
            c_row = target_picture.row
        else:
            c, c_row = mine + job.results, width * PIXEL
        for row in range(rows):
            line_of_pixels(width, taps, table, a + row * job.stride_y * job.a_row, job.stride_x * PIXEL,
                           weights + block * taps * PIXEL, c + row * c_row, bias + block * PIXEL, low)
        if not target_picture.blocked:
            write_patch(target_picture, target, image, block, y, job.x0, rows, width, c, c_row, spare)
        item = claim(counter)
