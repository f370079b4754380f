"""The gradient of a convolution's weights by direct summation, from blocked pictures.

    dw[m, c, tap] += sum over images and output pixels o of error[m, o] image[c, o * stride - pad + tap * dilation]

For each tap this is a matrix product whose k runs over the pixels for which the tap is inside of the image. Nothing is
packed: the micro-kernels of `sums_ir` walk through image and error themselves, whatever the stride, dilation and pad. An
image of few channels is NCHW; then (channel, tap) are the product's rows, and the strip of the image that is worked on is
copied first with its padding.

Sums of a panel of outputs stay in the second-level cache, [channel][tap][output], until all pixels are in; then they are
transposed and added to the gradient, whose cache lines were asked for meanwhile.

Order: strips of about 256 pixels (whole rows, at least one) are summed in registers, pixel after pixel, and added one after
the other; then the result to the gradient. Where weights are few, fixed shares of the strips have sums of their own, added
in order. Each sum is made by one thread and nothing above follows from the number of threads, so the bits do not either.
Error against float64: 2e-7 to 6e-7 of the largest value.

Source: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures", SC 2018.
"""

import functools
from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.blocked import in_blocks
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.direct_blocked import copy_planes, seeing
from layers.core.cpu.isa import BLOCK, ISA, PIXEL
from layers.core.cpu.memory import LINE, address, counters, scratch
from layers.core.cpu.moves import add16, claim, get, put, transpose16, zero
from layers.core.cpu.patches import seen
from layers.core.cpu.sums_ir import (
    CHANNELS,
    HALF_CHANNELS,
    REST,
    ask,
    channels_sums,
    channels_sums_half,
    channels_sums_rest,
    planes_sums,
    planes_sums_half,
)

ROWS, COLUMNS, GROUPS = ISA.rows, ISA.columns, ISA.groups
SUMS = COLUMNS * 4  # bytes of a row of sums
PIXELS = 256  # of a strip
PLANE_PIXELS = 512  # the same where strips of the image are copied
HELD = 1 << 18  # bytes of the sums of an item
MOST = 32  # blocks of channels in an item
FEW = 1 << 16  # weights that are few
SHARES = 16  # parts of the pixels that are summed apart then
SHARE = 1024  # pixels in a share at least


class Job(NamedTuple):
    """How a weight gradient is cut; distances in bytes.

    An item of work is (share of the strips, group, panel of outputs, cut of the blocks of channels).
    """

    planes: int  # whether the image is NCHW
    groups: int
    blocks: int  # of a group's channels (channels for planes)
    channels: int  # of a group
    outputs: int  # of a group
    panels: int  # of outputs
    cut: int  # blocks in an item
    cuts: int
    shares: int
    strips: int  # of all images
    down: int  # of an image
    rows: int  # of a strip at most
    y0: int  # output pixels that see the picture
    y1: int
    x0: int
    x1: int
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    dilation_y: int
    dilation_x: int
    patch_row: int  # of the copy of planes
    patch_plane: int
    phase: int
    sums: int  # of an item
    spare: int  # where in the thread's scratch room for a transpose is, and its sums
    own: int  # bytes of a thread's scratch


def fits(window):
    """Return whether `weight_gradient_pictures` can do it."""
    return window.two_axes and window.whole_blocks


def weight_gradient_pictures(window, image, image_picture, error, error_picture, gradient):
    """Add the gradient of the weights to `gradient`.

    Parameters
    ----------
    window : layers.core.cpu.convolve.Window
        Of two spatial axes; see `fits`.
    image, error : int
        Addresses of pixel (0, 0).
    image_picture, error_picture : layers.core.cpu.blocked.Picture
        Error blocked, image blocked or NCHW with up to 16 channels; others are copied first.
    gradient : ndarray (M, C / group, kh, kw) float32, contiguous
    """
    if error_picture.images * window.pixels * gradient.size == 0:
        return
    if not error_picture.blocked:
        kept_error = in_blocks(error, error_picture, 0)
        error, error_picture = kept_error.place
    if not image_picture.blocked and (image_picture.channels > BLOCK or window.group > 1):
        kept_image = in_blocks(image, image_picture, 0)
        image, image_picture = kept_image.place
    threads = parallel.threads()
    job, table = _plan(window.group, window.channels, window.outputs, window.kernel, window.stride, window.pad, window.dilation,
                       image_picture, error_picture, threads)
    items = job.shares * job.groups * job.panels * job.cuts
    apart = scratch(items * job.sums if job.shares > 1 else 0, "shares")
    memory = scratch(threads * job.own, "sums")
    count = counters(1)
    arguments = job, image, image_picture, error, error_picture, address(gradient), address(table), address(apart)
    parallel.run(weight_gradient_cpu, threads, *arguments, address(memory), address(count),
                 work=error_picture.images * window.outputs * window.depth * window.pixels // 32)
    if job.shares > 1:
        parallel.run(add_shares_cpu, job.groups * job.panels * job.cuts, job, address(apart), address(gradient),
                     work=gradient.size * job.shares)


@functools.lru_cache(maxsize=512)
def _plan(group, channels, outputs, kernel, stride, pad, dilation, image, error, threads):
    """Return (`Job`, offsets in bytes of (channel, tap) in the copy of planes)."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, pad, dilation
    channels, outputs, taps = channels // group, outputs // group, kh * kw
    planes = not image.blocked
    reach_y, reach_x = (kh - 1) * dh, (kw - 1) * dw
    y0, y1 = seeing(0, error.height, kh, sh, ph, dh, image.height)
    x0, x1 = seeing(0, error.width, kw, sw, pw, dw, image.width)
    if x0 == x1:
        y1 = y0
    width = max(1, x1 - x0)
    rows = max(1, min(y1 - y0, (PLANE_PIXELS if planes else PIXELS) // width))
    down = -(-(y1 - y0) // rows)
    rows = max(1, -(-(y1 - y0) // max(1, down)))
    strips = error.images * down

    panels = -(-outputs // COLUMNS)
    blocks = channels if planes else -(-channels // BLOCK)
    shares = 1
    if group * outputs * channels * taps <= FEW:
        shares = max(1, min(SHARES, error.images * (y1 - y0) * (x1 - x0) // SHARE, strips))
    cut = blocks
    if not planes:
        cut = max(1, min(MOST, HELD // (BLOCK * taps * SUMS), blocks * panels * group * shares // (4 * threads)))
    cuts = -(-blocks // cut)
    lines = -(-channels * taps // ROWS) * ROWS if planes else cut * BLOCK * taps
    sums = (lines + BLOCK) * SUMS  # transposes read beyond the last line

    patch_row = patch_plane = phase = size = 0
    if planes:
        phase = (width + reach_x // sw + 1) * 4
        patch_row = sw * phase
        patch_plane = ((rows - 1) * sh + reach_y + 1) * patch_row
        size = -(-channels * patch_plane // LINE) * LINE + LINE
    c, y, x = (np.arange(lines) // taps, np.arange(lines) % taps // kw * dh, np.arange(lines) % kw * dw)
    table = np.minimum(c, channels - 1) * patch_plane + y * patch_row + x % sw * phase + x // sw * 4
    own = size + 2 * BLOCK * PIXEL + sums + 5 * LINE
    job = Job(int(planes), group, blocks, channels, outputs, panels, cut, cuts, shares, strips, down, rows, y0, y1, x0, x1, kh,
              kw, sh, sw, ph, pw, dh, dw, patch_row, patch_plane, phase, sums, size, own)
    return job, np.ascontiguousarray(table, np.int64)


@compiled
def weight_gradient_cpu(first, last, job, image, image_picture, error, error_picture, gradient, table, apart, memory, counter):
    """Thread `first`'s part: it claims items until none are left."""
    mine = memory + first * job.own
    spare = mine + job.spare
    item = claim(counter)
    while item < job.shares * job.groups * job.panels * job.cuts:
        cut, panel = item % job.cuts, item // job.cuts % job.panels
        group = item // (job.cuts * job.panels) % job.groups
        share = item // (job.cuts * job.panels * job.groups)
        sums = apart + item * job.sums if job.shares > 1 else spare + 2 * BLOCK * PIXEL
        zero(sums, job.sums // 4)
        from_error = error + (group * (job.outputs // BLOCK) + panel * GROUPS) * error_picture.plane
        half = GROUPS > 1 and job.outputs - panel * COLUMNS <= BLOCK
        begin, end = job.strips * share // job.shares, job.strips * (share + 1) // job.shares
        for strip in range(begin, end):
            number, y = strip // job.down, job.y0 + strip % job.down * job.rows
            b = from_error + number * error_picture.image
            if job.planes:
                add_planes(job, image + number * image_picture.image, image_picture, b, error_picture, y, half, table, mine, sums)
                continue
            a = image + number * image_picture.image + group * job.blocks * image_picture.plane
            ahead = 0
            if job.shares == 1 and strip == end - 1:
                ahead = gradient + (group * job.outputs + panel * COLUMNS) * job.channels * job.kernel_y * job.kernel_x * 4
            add_blocks(job, a, image_picture, b, error_picture, y, half, cut, ahead, sums)
        if job.shares == 1:
            add_sums(job, group, panel, cut, sums, gradient, spare)
        item = claim(counter)


@part_of_kernel
def add_blocks(job, image, image_picture, error, error_picture, y, half, cut, ahead, sums):
    """Add the products of a strip of an image, from output row `y` on, to an item's sums, tap after tap.

    `ahead`: the panel's first weight, of which the item's cache lines are asked for, or 0.
    """
    taps = job.kernel_y * job.kernel_x
    step = HALF_CHANNELS if half else CHANNELS
    for block in range(cut * job.cut, min(job.blocks, (cut + 1) * job.cut)):
        channels = min(BLOCK, job.channels - block * BLOCK)
        for tap in range(taps):
            if ahead:
                # The 16 channels' weights of an output are as many cache lines as there are taps.
                line = ahead + block * BLOCK * taps * 4 + tap * LINE
                for _ in range(BLOCK if half else COLUMNS):
                    ask(line)
                    line += job.channels * taps * 4
            down = tap // job.kernel_x * job.dilation_y - job.pad_y
            right = tap % job.kernel_x * job.dilation_x - job.pad_x
            low, high = seen(down, job.stride_y, image_picture.height, y, min(job.y1, y + job.rows))
            x0, x1 = seen(right, job.stride_x, image_picture.width, job.x0, job.x1)
            if low >= high or x0 >= x1:
                continue
            a = (image + block * image_picture.plane + (low * job.stride_y + down) * image_picture.row
                 + (x0 * job.stride_x + right) * PIXEL)
            b = error + low * error_picture.row + x0 * PIXEL
            for c in range(0, channels, step):
                onto = sums + (((block - cut * job.cut) * BLOCK + c) * taps + tap) * SUMS
                if half:
                    channels_sums_half(high - low, x1 - x0, a + c * 4, job.stride_y * image_picture.row, job.stride_x * PIXEL, b,
                                       error_picture.row, 0, onto, taps * SUMS)
                elif REST < CHANNELS and c + CHANNELS > BLOCK:
                    channels_sums_rest(high - low, x1 - x0, a + c * 4, job.stride_y * image_picture.row, job.stride_x * PIXEL, b,
                                       error_picture.row, error_picture.plane, onto, taps * SUMS)
                else:
                    channels_sums(high - low, x1 - x0, a + c * 4, job.stride_y * image_picture.row, job.stride_x * PIXEL, b,
                                  error_picture.row, error_picture.plane, onto, taps * SUMS)


@part_of_kernel
def add_planes(job, image, image_picture, error, error_picture, y, half, table, patch, sums):
    """As `add_blocks` for NCHW: all channels, as many of (channel, tap) at a time as there are registers."""
    rows = min(job.rows, job.y1 - y)
    copy_planes(job, image_picture, image, y * job.stride_y - job.pad_y, job.x0 * job.stride_x - job.pad_x, rows, patch)
    b = error + y * error_picture.row + job.x0 * PIXEL
    for row in range(0, job.channels * job.kernel_y * job.kernel_x, ROWS):
        if half:
            planes_sums_half(rows, job.x1 - job.x0, patch, job.stride_y * job.patch_row, 4, b, error_picture.row, 0,
                             sums + row * SUMS, SUMS, table + row * 8)
        else:
            planes_sums(rows, job.x1 - job.x0, patch, job.stride_y * job.patch_row, 4, b, error_picture.row, error_picture.plane,
                        sums + row * SUMS, SUMS, table + row * 8)


@part_of_kernel
def add_sums(job, group, panel, cut, sums, gradient, spare):
    """Add an item's sums, [channel][tap][output], to the gradient, [output][channel][tap]."""
    taps = job.kernel_y * job.kernel_x
    begin = cut * job.cut * (1 if job.planes else BLOCK)
    length = min(job.channels - begin, job.cut * BLOCK) * taps
    row = job.channels * taps * 4
    for part in range(GROUPS):
        output = panel * COLUMNS + part * BLOCK
        outputs = min(BLOCK, job.outputs - output)
        onto = gradient + (group * job.outputs + output) * row + begin * taps * 4
        for j in range(0, length, BLOCK):
            if outputs <= 0:
                break
            transpose16(sums + j * SUMS + part * PIXEL, SUMS, spare, PIXEL)
            if j + BLOCK <= length:
                for m in range(outputs):
                    add16(onto + m * row + j * 4, spare + m * PIXEL)
            else:
                for m in range(outputs):
                    for i in range(length - j):
                        place = onto + m * row + (j + i) * 4
                        put(place, get(place) + get(spare + m * PIXEL + i * 4))


@compiled
def add_shares_cpu(first, last, job, apart, gradient):
    """Add the shares' sums, in order, for items [first, last) of each share; they are overwritten."""
    items = job.groups * job.panels * job.cuts
    for item in range(first, last):
        sums = apart + item * job.sums
        for share in range(1, job.shares):
            for i in range(0, job.sums, PIXEL):
                add16(sums + i, sums + share * items * job.sums + i)
        # The second share's sums have been added: room for transposes.
        add_sums(job, item // (job.cuts * job.panels), item // job.cuts % job.panels, item % job.cuts, sums, gradient,
                 sums + items * job.sums)
