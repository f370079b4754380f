"""The gradient of a convolution's image by direct summation, on blocked pictures; two ways.

    turned     where no pixel is skipped and the image is not much larger than the output: it is a convolution of the error
               with the kernels turned and transposed (`prepare_turned`), done by `direct_blocked`
    columns    else: for each tap the products of the error and its weights, added up where the tap sees the image

With columns an item of work is 16 channels of an image. For some pixels of the error at a time all taps' products are made,
256 outputs at a time, by the micro-kernel that does the forward convolution: [tap][pixel][16 channels] in the second-level
cache. Weights are packed where they are used, 16 channels of 256 outputs, in a twentieth of the time; so nothing of the
weights' size is kept, nor written.

Each element is summed by one thread: for each tap up to 256 outputs in registers, these sums one after the other; then the
taps, pixel by pixel of the error. No two threads write to a place and the bits do not depend on their number. Error
against float64: 2e-7 to 6e-7 of the largest value.

Source: im2col and its transpose as in Caffe's ConvolutionLayer; the products as in `direct_blocked`.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from layers.core.cpu import direct_blocked, parallel
from layers.core.cpu.blocked import Blocked, convert, in_blocks
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.direct_blocked import tile_height, tile_of_blocks
from layers.core.cpu.isa import BLOCK, ISA, PIXEL
from layers.core.cpu.memory import LINE, address, aligned, counters, scratch
from layers.core.cpu.moves import add16, claim, copy, copy16, copy_first, own_part, transpose16, zero, zero16
from layers.core.cpu.patches import seen
from layers.core.cpu.sums_ir import ask
from layers.core.cpu.taps_ir import AHEAD, HALF

ROWS, GROUPS = ISA.rows, ISA.groups
ENTRIES = 16  # blocks of the error in a part of the sum: 256 outputs
PIXELS = 256  # of the error at a time
HELD = 1 << 20  # bytes of the products of all taps
TILE = GROUPS * ROWS * PIXEL  # bytes of a tile of products
SOON = 4  # rows of weights between asking for and packing one
TOGETHER = 8  # blocks of 16 channels packed side by side: each row of weights is read in long pieces


class Job(NamedTuple):
    """How a gradient by columns is cut; distances in bytes. An item of work is (image, group, block of channels)."""

    groups: int
    blocks: int  # of a group's channels
    channels: int  # of a group
    outputs: int  # of a group
    pixels: int  # of the error at a time
    wide: int  # pixels of a row of the error
    all: int  # pixels of the error
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    dilation_y: int
    dilation_x: int
    plane: int  # of a block of the error's copy
    weights: int  # where in the thread's scratch the packed weights are
    products: int
    spare: int
    own: int  # bytes of a thread's scratch


def fits(window):
    """Return whether `image_gradient_pictures` can do it."""
    return window.two_axes and window.whole_blocks


def turns(window):
    """Return whether the gradient is taken with turned weights: then most of the pixels it sees are none of the padding's."""
    return window.unit_stride and 4 * math.prod(window.image) <= 5 * window.pixels


def image_gradient_pictures(window, error, error_picture, weights, image_error, image_error_picture):
    """Write the gradient for the image.

    Parameters
    ----------
    window : layers.core.cpu.convolve.Window
        Of two spatial axes; see `fits`.
    error, image_error : int
        Addresses of pixel (0, 0).
    error_picture, image_error_picture : layers.core.cpu.blocked.Picture
        Blocked; NCHW is copied on the way, but for the image's where weights are turned.
    weights : ndarray
        From `prepare_turned` if ``turns(window)``, else the contiguous weights (M, C / group, kh, kw) themselves.
    """
    if math.prod(image_error_picture[:4]) == 0:
        return
    if not error_picture.blocked:
        kept = in_blocks(error, error_picture, 0)
        error, error_picture = kept.place
    if turns(window):
        direct_blocked.forward_pictures(window.turned, error, error_picture, weights, image_error, image_error_picture)
        return
    onto = None
    target, target_picture = image_error, image_error_picture
    if not target_picture.blocked:
        onto = Blocked(target_picture[:4], 0)
        target, target_picture = onto.place
    threads = parallel.threads()
    job, table = _plan(window.group, window.channels, window.outputs, window.kernel, window.stride, window.pad, window.dilation,
                       error_picture)
    memory = scratch(threads * job.own, "columns")
    count = counters(1)
    work = error_picture.images * window.outputs * window.depth * window.pixels // 32
    parallel.run(image_gradient_cpu, threads, job, error, error_picture, address(weights), target, target_picture,
                 address(table), address(memory), address(count), address(_nothing), work=work)
    if onto is not None:
        convert(None, target, target_picture, image_error, image_error_picture)


_nothing = aligned(2 * BLOCK, zero=True)


@functools.lru_cache(maxsize=512)
def _plan(group, channels, outputs, kernel, stride, pad, dilation, error):
    """Return (`Job`, the offsets in bytes of the blocks of the error's copy)."""
    taps = math.prod(kernel)
    pixels = min(PIXELS, max(ROWS, HELD // (taps * PIXEL)))
    strips = max(1, -(-error.height * error.width // pixels))
    pixels = -(-error.height * error.width // (strips * ROWS)) * ROWS
    tiles = -(-pixels // ROWS)
    plane = tiles * ROWS * PIXEL + 3 * LINE
    weights = ENTRIES * plane
    products = weights + ENTRIES * BLOCK * taps * PIXEL + 5 * LINE
    spare = products + -(-taps // GROUPS) * tiles * TILE + 3 * LINE
    rows = -(-taps // BLOCK) * BLOCK
    own = spare + (BLOCK * taps + BLOCK) * 4 + rows * PIXEL + 5 * LINE
    own = -(-own // LINE) * LINE
    job = Job(group, -(-channels // group // BLOCK), channels // group, outputs // group, pixels, error.width,
              error.height * error.width, *kernel, *stride, *pad, *dilation, plane, weights, products, spare, own)
    return job, np.arange(ENTRIES, dtype=np.int64) * plane


# --- weights ----------------------------------------------------------------------------------------------------------


def prepare_turned(window, weight, out=None, make=aligned):
    """Return weights (M, C / group, kh, kw) as `direct_blocked.prepare` makes them of the turned, transposed ones.

    `out`: the result of an earlier call, which is overwritten; without one ``make(shape, slack=)`` gives memory.
    """
    group, outputs, channels = window.group, window.outputs // window.group, window.channels // window.group
    blocks = -(-channels // BLOCK)
    depth = (outputs + -outputs % 4) * window.taps
    if out is None:
        out = make((group, blocks * BLOCK * depth), slack=1 << 12)
    own = (BLOCK * window.taps + BLOCK) * 4 + -(-window.taps // BLOCK) * BLOCK * PIXEL + 5 * LINE
    spare = aligned(parallel.threads() * own, np.uint8)
    weight = np.ascontiguousarray(weight)
    parallel.run(prepare_turned_cpu, group * blocks, address(weight), outputs, channels, window.taps, depth, address(out),
                 address(spare), own, parallel.threads(), group, work=out.size)
    return out


@compiled
def prepare_turned_cpu(first, last, weight, outputs, channels, taps, depth, target, spare, own, threads, groups):
    """Write blocks [first, last) of 16 channels, counted over groups."""
    blocks = (channels + BLOCK - 1) // BLOCK
    spare = own_part(spare, own, first, groups * blocks, threads)
    row = channels * taps * 4
    for bundle in range(first, last, TOGETHER):
        for m in range(0, outputs, BLOCK):
            lanes = min(BLOCK, (outputs - m + 3) // 4 * 4)
            for lane in range(lanes):
                for index in range(bundle, min(last, bundle + TOGETHER)):
                    group, block = index // blocks, index % blocks
                    panel = block // GROUPS
                    wide = min(GROUPS, blocks - panel * GROUPS) * PIXEL
                    onto = target + ((group * blocks + panel * GROUPS) * depth + lane * (wide // PIXEL)) * PIXEL
                    onto += m * taps * wide + block % GROUPS * PIXEL
                    there = min(BLOCK, channels - block * BLOCK)
                    source = weight + (group * outputs + m + lane) * row + block * BLOCK * taps * 4
                    if m + lane + SOON < outputs:
                        for line in range(0, there * taps * 4, LINE):
                            ask(source + SOON * row + line)
                    turned = by_tap(source, there, taps, m + lane < outputs, spare)
                    for tap in range(taps):
                        copy16(onto + (taps - 1 - tap) * lanes * wide, turned + tap * PIXEL)


@part_of_kernel
def by_tap(source, channels, taps, there, spare):
    """Return the address of weights [channel][tap] of an output as [tap][16], with zeros for missing channels.

    All are zeros if the output is not `there`.
    """
    turned = spare + (BLOCK * taps + BLOCK) * 4
    if not there:
        zero(turned, taps * BLOCK)
    elif taps == 1:
        zero16(turned)
        copy_first(turned, source, channels)
    else:
        copy(spare, source, channels * taps)
        zero(spare + channels * taps * 4, (BLOCK - channels) * taps)
        for tap in range(0, taps, BLOCK):
            transpose16(spare + tap * 4, taps * 4, turned + tap * PIXEL, PIXEL)
    return turned


# --- columns ----------------------------------------------------------------------------------------------------------


@compiled
def image_gradient_cpu(first, last, job, error, error_picture, weights, image, image_picture, table, memory, counter, nothing):
    """Thread `first`'s part: it claims items until none are left."""
    mine = memory + first * job.own
    packed, sums, spare = mine + job.weights, mine + job.products, mine + job.spare
    none = np.float32(-np.inf)
    taps = job.kernel_y * job.kernel_x
    panels = (taps + GROUPS - 1) // GROUPS
    whole = job.outputs // BLOCK
    chunks = (whole + ENTRIES - 1) // ENTRIES + (1 if job.outputs % BLOCK else 0)
    error_blocks = (job.outputs + BLOCK - 1) // BLOCK
    item = claim(counter)
    while item < image_picture.images * job.groups * job.blocks:
        block, group = item % job.blocks, item // job.blocks % job.groups
        number = item // (job.blocks * job.groups)
        channels = min(BLOCK, job.channels - block * BLOCK)
        onto = image + number * image_picture.image + (group * job.blocks + block) * image_picture.plane
        from_error = error + number * error_picture.image + group * error_blocks * error_picture.plane
        from_weights = weights + (group * job.outputs * job.channels + block * BLOCK) * taps * 4
        for y in range(image_picture.height):
            zero(onto + y * image_picture.row, image_picture.width * BLOCK)
        for pixel in range(0, job.all, job.pixels):
            pixels = min(job.pixels, job.all - pixel)
            tiles = (pixels + ROWS - 1) // ROWS
            for chunk in range(chunks):
                # Whole blocks of outputs, and what is left of them by itself.
                rest = chunk * ENTRIES >= whole
                begin = whole if rest else chunk * ENTRIES
                entries = 1 if rest else min(ENTRIES, whole - begin)
                length = (job.outputs - whole * BLOCK + 3) // 4 * 4 if rest else BLOCK
                for entry in range(entries):
                    copy_pixels(job, from_error + (begin + entry) * error_picture.plane, error_picture.row, pixel, pixels,
                                mine + entry * job.plane)
                if pixel == 0 or chunks > 1:
                    pack(job, from_weights, begin * BLOCK, entries * length, channels, packed, spare)
                for panel in range(panels):
                    half = HALF and panel * GROUPS + 1 == taps
                    b = packed + panel * entries * length * GROUPS * PIXEL
                    following = b + entries * length * GROUPS * PIXEL
                    for index in range(tiles):
                        onto_sums = sums + (panel * tiles + index) * TILE
                        tile_of_blocks(half, False, tile_height(pixels - index * ROWS, False), entries, length, table,
                                       mine + index * ROWS * PIXEL, b, onto_sums, chunk > 0, onto_sums, ROWS * PIXEL, nothing,
                                       none, following + index * entries * AHEAD * LINE)
            for tap in range(taps):
                add_tap(job, tap, sums + tap // GROUPS * tiles * TILE + tap % GROUPS * ROWS * PIXEL, pixel, pixels, onto,
                        image_picture)
        if channels < BLOCK:  # nothing times infinity is NaN, and missing channels are zero
            for y in range(image_picture.height):
                for x in range(image_picture.width):
                    copy_first(onto + y * image_picture.row + x * PIXEL + channels * 4, nothing, BLOCK - channels)
        item = claim(counter)


@part_of_kernel
def copy_pixels(job, source, row, pixel, pixels, target):
    """Copy pixels [pixel, pixel + pixels) of a block of the error, row after row, and zeros up to a whole tile."""
    y, x = pixel // job.wide, pixel % job.wide
    done = 0
    while done < pixels:
        count = min(pixels - done, job.wide - x)
        copy(target + done * PIXEL, source + y * row + x * PIXEL, count * BLOCK)
        done += count
        x = 0
        y += 1
    zero(target + pixels * PIXEL, ((pixels + ROWS - 1) // ROWS * ROWS - pixels) * BLOCK)


@part_of_kernel
def pack(job, weights, begin, count, channels, target, spare):
    """Write the weights of `count` outputs from `begin` on and 16 channels as [pair of taps][output][2 taps][16]."""
    taps = job.kernel_y * job.kernel_x
    row = job.channels * taps * 4
    for m in range(count):
        source = weights + (begin + m) * row
        if m + SOON < count and begin + m + SOON < job.outputs:
            for line in range(0, channels * taps * 4, LINE):
                ask(source + SOON * row + line)
        turned = by_tap(source, channels, taps, begin + m < job.outputs, spare)
        for tap in range(taps):
            panel = tap // GROUPS
            wide = min(GROUPS, taps - panel * GROUPS) * PIXEL
            copy16(target + panel * count * GROUPS * PIXEL + m * wide + tap % GROUPS * PIXEL, turned + tap * PIXEL)


@part_of_kernel
def add_tap(job, tap, sums, pixel, pixels, image, picture):
    """Add a tap's products for pixels [pixel, pixel + pixels) of the error to what they see of the image's block."""
    down = tap // job.kernel_x * job.dilation_y - job.pad_y
    right = tap % job.kernel_x * job.dilation_x - job.pad_x
    done = 0
    while done < pixels:
        y, x = (pixel + done) // job.wide, (pixel + done) % job.wide
        count = min(pixels - done, job.wide - x)
        onto_y = y * job.stride_y + down
        if 0 <= onto_y < picture.height:
            low, high = seen(right, job.stride_x, picture.width, x, x + count)
            onto = image + onto_y * picture.row + (low * job.stride_x + right) * PIXEL
            index = done + low - x
            tile, row = index // ROWS, index % ROWS
            place = sums + tile * TILE + row * PIXEL
            for _ in range(high - low):
                add16(onto, place)
                onto += job.stride_x * PIXEL
                place += PIXEL
                row += 1
                if row == ROWS:
                    row = 0
                    place += TILE - ROWS * PIXEL
        done += count
