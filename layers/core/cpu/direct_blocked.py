"""Convolution of blocked pictures by direct summation: no image is packed, only the weights.

In a blocked picture (NCHW16c) the 16 channels of a pixel are 16 consecutive k of the matrix product, neighbouring pixels are
rows of its left operand a constant step apart, and each (block of channels, tap) lies at an offset that a table gives. So
the micro-kernel of `taps_ir` reads the picture itself, for 1 x 1 and for any other kernel. It cannot where pixels are
skipped along a row, rows are short, or taps reach beyond the picture's border: then the strip of the picture that is
worked on is copied first, in one of these ways.

    SOURCE   nothing is copied
    PATCH    the strip with its padding, once; a strip of NCHW for 1 x 1 kernels is put into blocks so
    PACKED   the 16 channels that each tap of each pixel sees: rows of A may then be any pixels
    PLANES   from NCHW with few channels: planes with their padding, pixels of each phase of the stride side by side

A strip is some rows (and columns) of the output; its part of the picture stays in the second-level cache, 16 entries of the
table (256 k) at a time, while panels of weights pass. Output pixels that see nothing but padding cost a store only.

Every element is summed by one thread: up to 256 k in registers, k rising through (block, tap, channel), and these sums
one after the other, then the bias. So the bits depend neither on the number of threads nor on the box nor on the way the
strip is copied. Error against float64: 2e-7 to 6e-7 of the largest value, as of `gemm`.

Source: E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures", SC 2018.
"""

import functools
from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.blocked import read_patch, write_patch
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.isa import BLOCK, ISA, PIXEL
from layers.core.cpu.memory import LINE, address, aligned, counters, scratch_at
from layers.core.cpu.moves import claim, copy, copy16, copy_first, get, put, zero, zero16
from layers.core.cpu.taps_ir import (
    AHEAD,
    HALF,
    MOST,
    blocks_half,
    blocks_half_few,
    blocks_half_more,
    blocks_narrow,
    blocks_narrow_few,
    blocks_narrow_more,
    blocks_tile,
    blocks_tile_few,
    blocks_tile_more,
    copy16_past,
    planes_half,
    planes_tile,
    planes_tile_past,
)

ROWS, COLUMNS, GROUPS, MORE, FEW = ISA.rows, ISA.columns, ISA.groups, ISA.few[1], ISA.few[0]
SOURCE, PATCH, PACKED, PLANES = range(4)
ENTRIES = 16  # of the table in a part of the sum: 256 k
PIXELS = 256  # of a strip: with ENTRIES, 256 KiB of the picture
WIDTH = 112  # pixels of a strip's row at most
PLANE_WIDTH = 512  # the same for PLANES, which are thin
PLANE_PIXELS = 2048
HELD = 1 << 20  # bytes of unfinished sums of a strip
TILE = GROUPS * ROWS * PIXEL  # bytes of a tile of results
FILL = 16  # rows in an item of filling
LEAST_PIXELS = 4 * ROWS  # of a strip, for which it is worth reading the weights
PAST = 1 << 25  # bytes of a target that no cache will hold until it is read
LEAST_PANELS = 4  # for which a strip is worth copying
COPY = 0.125  # cost of copying 16 channels of a pixel, against multiplying them by a panel of weights


class Job(NamedTuple):
    """How a convolution is cut; distances in bytes, everything else counted in elements.

    An item of work is (image, group, strip, share of the panels of outputs); items of filling follow.
    """

    mode: int
    images: int
    groups: int
    blocks: int  # of a group's channels (channels for PLANES)
    outputs: int  # of a group
    panels: int  # of outputs
    share: int  # panels in an item
    shares: int
    y0: int  # output pixels that see the picture
    y1: int
    x0: int
    x1: int
    box_y0: int  # output pixels that are wanted
    box_y1: int
    box_x0: int
    box_x1: int
    down: int  # strips
    across: int
    rows: int  # of a strip at most
    items: int
    fills: int
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    dilation_y: int
    dilation_x: int
    contiguous: int  # whether all pixels of a strip follow on each other, in the source or its copy
    patch_row: int  # bytes of a row of the copy
    patch_plane: int  # of a block (or channel) of the copy
    phase: int  # bytes of a phase of a row of PLANES
    panel: int  # bytes of a panel of weights
    group_weights: int  # of the weights of a group
    group_bias: int
    last_lanes: int  # outputs in the last block of a group if lanes are missing there, or 0
    held: int  # where in the thread's scratch the unfinished sums are
    onto: int  # results for NCHW
    spare: int  # a tile, and what `blocked` wants
    own: int  # bytes of a thread's scratch


def fits(window, blocked, target_blocked=True):
    """Return whether `forward_pictures` can do it, from a blocked source or NCHW, to a blocked target or NCHW."""
    channels, outputs = window.channels // window.group, window.outputs // window.group
    if not window.two_axes or target_blocked and window.group > 1 and outputs % BLOCK:
        return False
    if blocked:
        return window.group == 1 or channels % BLOCK == 0
    return channels <= BLOCK


def turns_planes(window):
    """Return whether NCHW of any number of channels is read with weights for blocks."""
    return window.pointwise and window.group == 1


# --- weights ----------------------------------------------------------------------------------------------------------


def prepare(window, weight, out=None, blocked=True, make=aligned):
    """Return weights (M, C / group, kh, kw) as the kernels read them, for blocked sources or for NCHW.

    For each group panels of ISA.columns outputs (the last may have 16), [k][output]. k runs over (block, tap, channel), and
    for NCHW over (channel, tap). `out`: the result of an earlier call, which is overwritten; without one ``make(shape, slack=)``
    gives memory.
    """
    group, outputs, channels = window.group, window.outputs // window.group, window.channels // window.group
    depth = _depth(channels, window.taps, blocked)
    wide = -(-outputs // BLOCK) * BLOCK
    if out is None:
        out = make((group, wide * depth), slack=1 << 12)
    weight = np.ascontiguousarray(weight)
    blocks = -(-wide // BLOCK)
    parallel.run(prepare_cpu, group * blocks, address(weight), outputs, channels, window.taps, int(blocked), depth,
                 address(out), work=out.size)
    return out


def _depth(channels, taps, blocked):
    """Return the length of the sums, with missing channels of the last block up to a multiple of 4."""
    return (channels + -channels % 4 if blocked else channels) * taps


@compiled
def prepare_cpu(first, last, weight, outputs, channels, taps, blocked, depth, target):
    """Write blocks [first, last) of 16 outputs, counted over groups."""
    blocks = (outputs + BLOCK - 1) // BLOCK
    for index in range(first, last):
        group, block = index // blocks, index % blocks
        panel = block // GROUPS
        wide = min(GROUPS, blocks - panel * GROUPS) * PIXEL
        onto = target + (group * blocks + panel * GROUPS) * depth * PIXEL + block % GROUPS * PIXEL
        there = min(BLOCK, outputs - block * BLOCK)
        source = weight + (group * outputs + block * BLOCK) * channels * taps * 4
        lanes = BLOCK if blocked else 1
        for c in range(0, channels, lanes):
            length = min(lanes, channels - c)
            rounded = (length + 3) // 4 * 4 if blocked else length
            for tap in range(taps):
                for lane in range(rounded):
                    zero16(onto)
                    if lane < length:
                        for m in range(there):
                            put(onto + m * 4, get(source + ((m * channels + c + lane) * taps + tap) * 4))
                    onto += wide


# --- forward ----------------------------------------------------------------------------------------------------------


def forward_pictures(window, source, source_picture, weights, target, target_picture, bias=None, relu=False, box=None,
                     planes=None):
    """Write the convolution of a picture to another.

    Parameters
    ----------
    window : layers.core.cpu.convolve.Window
        Of two spatial axes; see `fits`.
    source, target : int
        Addresses of pixel (0, 0).
    source_picture, target_picture : layers.core.cpu.blocked.Picture
    weights : ndarray
        From `prepare`.
    bias : ndarray (M,), optional
    relu : bool
        Clamp at 0; NaN stays NaN.
    box : (y0, y1, x0, x1), optional
        The output pixels wanted; nothing else is written. Their bits are the whole picture's.
    planes : bool, optional
        Whether `weights` are for NCHW; if not given they are for the source's layout. Weights for blocks may meet a source in
        NCHW if `turns_planes`.
    """
    Forward(window, source, source_picture, target, target_picture, relu, box, planes).run(weights, bias)


class Forward:
    """`forward_pictures` made ready once and run many times, as long as the pictures stay where they are."""

    def __init__(self, window, source, source_picture, target, target_picture, relu, box, planes=None):
        self._weights = self._call = None
        if target_picture.images * target_picture.channels * target_picture.height * target_picture.width == 0:
            return
        threads, self._relu = parallel.threads(), relu
        self._job, chunks, table = job, chunks, table = plan(window, source_picture, target_picture, box, threads, planes)
        self._shift = np.zeros((job.groups, job.group_bias // 4), np.float32)
        self._filled = np.zeros(-(-window.outputs // BLOCK) * BLOCK, np.float32)
        self._shifts, self._fills = self._shift[:, : job.outputs], self._filled[: window.outputs]
        self._counter, self._table = counters(1), table
        self._scratch = threads * job.own
        target_bytes = target_picture.images * target_picture.image
        past = int(target_picture.blocked and target_bytes > PAST and target % LINE == 0 and not job.last_lanes)
        box_pixels = (job.box_y1 - job.box_y0) * (job.box_x1 - job.box_x0)
        work = job.images * box_pixels * window.outputs * window.depth // 32
        self._call = parallel.Call(forward_cpu, threads, [
            job, source, source_picture, 0, target, target_picture, target_picture._replace(channels=job.outputs),
            address(self._shift), address(self._filled), np.float32(0 if relu else -np.inf), chunks, address(table), 0,
            address(self._counter), address(_nothing), past], work)

    def run(self, weights, bias):
        """Compute it with weights from `prepare` and a bias (or None, always or never)."""
        if self._call is None:
            return
        if bias is not None:
            self._shifts[...] = bias.reshape(self._shifts.shape)
            if self._job.fills:
                np.add(bias, 0, out=self._fills)  # as the sums do it: -0 becomes 0
                if self._relu:
                    np.maximum(self._fills, 0, out=self._fills)
        self._counter.fill(0)
        memory, at = scratch_at(self._scratch, "direct")
        args = self._call.args
        if weights is not self._weights:
            self._weights, args[3] = weights, address(weights)
        args[12] = at
        self._call.run()


_nothing = aligned(2 * BLOCK, zero=True)  # a bias of zeros


def plan(window, source, target, box, threads, planes=None):
    """Return (`Job`, chunks, table) for a window between pictures.

    `chunks` (int64) has a row (first entry, entries, values of k in each, k before it, first block, blocks) for each part
    of the sum; `table` the entries' offsets in bytes.
    """
    planes = not source.blocked if planes is None else planes
    sizes = window.group, window.channels // window.group, window.outputs // window.group
    return _plan(sizes, window.kernel, window.stride, window.pad, window.dilation, source, target, box and tuple(box), threads,
                 planes)


@functools.lru_cache(maxsize=512)
def _plan(sizes, kernel, stride, pad, dilation, source, target, box, threads, planes):
    (group, channels, outputs), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = sizes, kernel, stride, pad, dilation
    taps, blocked = kh * kw, not planes
    blocks = -(-channels // BLOCK) if blocked else channels
    by0, by1, bx0, bx1 = box or (0, target.height, 0, target.width)
    y0, y1 = seeing(by0, by1, kh, sh, ph, dh, source.height)
    x0, x1 = seeing(bx0, bx1, kw, sw, pw, dw, source.width)
    if y0 == y1 or x0 == x1:
        y0 = y1 = by0
        x0 = x1 = bx0
    height, width = y1 - y0, x1 - x0
    chunks = _chunks(channels, taps, blocked)
    most = int(chunks[:, 1].max())
    panels = -(-outputs // COLUMNS)
    wanted = 4 * threads if threads > 1 else 1  # items
    pictures = target.images * group
    down, across, rows, columns = _strips(height, width, blocked, taps == 1, pictures, panels, wanted, threads)
    strips = pictures * down * across

    # How the picture is read.
    contiguous = int(blocked and taps == across == 1 and (sh, sw, ph, pw) == (1, 1, 0, 0) and source.row == width * PIXEL)
    reach_y, reach_x = (kh - 1) * dh, (kw - 1) * dw
    high, wide = (rows - 1) * sh + reach_y + 1, (columns - 1) * sw + reach_x + 1
    inside = (y0 * sh - ph >= -source.border and (y1 - 1) * sh - ph + reach_y < source.height + source.border
              and x0 * sw - pw >= -source.border and (x1 - 1) * sw - pw + reach_x < source.width + source.border)
    shares = -(-wanted // max(1, strips))
    mode = PLANES
    if blocked:
        # What an entry of the table costs for the pixels of a strip: those multiplied, also in vain, and those copied.
        each = max(1, panels // shares)
        all_pixels = _covering(rows * columns) * each + rows * columns * COPY
        costs = {PACKED: (all_pixels, PACKED)}
        if taps == sh == sw == 1:
            costs = {PATCH: (all_pixels, PATCH)}  # the same tiles, copied row by row
        elif sw == 1 and not inside:
            copied = int(chunks[:, 5].sum()) * high * wide / int(chunks[:, 1].sum())
            costs[PATCH] = rows * _covering(columns) * each + copied * COPY, PATCH
        if sw == 1 and inside and source.blocked:
            runs = [columns - (across > 1), columns]
            if contiguous:
                runs, rows_of_run = [width * (height - (down - 1) * rows)], 1
            else:
                rows_of_run = rows
            beyond = max(_covering(run) - run if run < ROWS else 0 for run in runs)
            if _reads_inside(source, (y1 - 1) * sh - ph + reach_y, x1 - 1 - pw + reach_x + beyond):
                costs[SOURCE] = rows_of_run * _covering(rows * columns // rows_of_run) * each, SOURCE
        mode = min(costs.values())[1]
    contiguous = int(contiguous and mode == SOURCE or mode == PATCH and taps == sh == sw == 1)

    # Shares of the panels.
    tiles = -(-rows * columns // ROWS) if mode == PACKED or contiguous else rows * -(-columns // ROWS)
    if mode != SOURCE:
        shares = max(min(shares, panels // LEAST_PANELS), min(threads, shares))
    if len(chunks) > 1:
        shares = max(shares, panels * tiles * TILE // HELD)
    shares = max(1, min(shares, panels))
    share = -(-panels // shares)
    shares = -(-panels // share)

    phase = 0
    if mode == PLANES:
        phase = (columns + reach_x // sw + ROWS) * 4
        patch_row, patch_plane, size = sw * phase, high * sw * phase, channels * high * sw * phase + LINE
    elif mode == PATCH:
        patch_row, patch_plane = wide * PIXEL, high * wide * PIXEL
        size = int(chunks[:, 5].max()) * patch_plane + ROWS * PIXEL  # which tiles may read beyond
    else:
        patch_row = patch_plane = 0
        size = most * tiles * ROWS * PIXEL if mode == PACKED else 0
    held = _up(size)
    onto = held + (_up(share * tiles * TILE) if len(chunks) > 1 else 0)
    spare = onto + (0 if target.blocked else _up(GROUPS * rows * columns * PIXEL))
    own = spare + _up(TILE + 2 * BLOCK * PIXEL) + 5 * LINE

    fills = 0
    if (by0, by1, bx0, bx1) != (y0, y1, x0, x1):
        fills = target.images * -(-group * outputs // BLOCK) * -(-(by1 - by0) // FILL)
    wide_outputs = -(-outputs // BLOCK) * BLOCK
    depth = _depth(channels, taps, blocked)
    job = Job(mode, target.images, group, blocks, outputs, panels, share, shares, y0, y1, x0, x1, by0, by1, bx0, bx1, down,
              across, rows, strips * shares, fills, kh, kw, sh, sw, ph, pw, dh, dw, contiguous, patch_row, patch_plane, phase,
              COLUMNS * depth * 4, wide_outputs * depth * 4, panels * COLUMNS * 4, outputs % BLOCK if target.blocked else 0,
              held, onto, spare, own)
    return job, chunks, _table(job, chunks, source)


def _strips(height, width, blocked, pointwise, pictures, panels, wanted, threads):
    """Return (strips down, across, rows of one at most, columns) for as many `pictures`, if there may be `wanted` items."""
    across = max(1, -(-width // (WIDTH if blocked else PLANE_WIDTH)))
    columns = max(1, -(-width // across))
    rows = max(1, min(height, (PIXELS if blocked else PLANE_PIXELS) // columns))
    products = pictures * across
    if products * -(-height // rows) < wanted and not (pointwise and panels >= wanted):
        least = min(rows, max(height * products // wanted, -(-LEAST_PIXELS // columns)))
        rows = _balanced(height, least, min(rows, -(-height * products // (2 * threads))), products, threads)
        if products * -(-height // rows) * panels < threads:
            rows = max(1, height * products * panels // threads)
    down = -(-height // rows)
    return down, across, -(-height // down) if down else 1, columns


def seeing(first, last, kernel, stride, pad, dilation, size):
    """Return the part [low, high) of outputs [first, last) of which some tap may be in [0, size); low is high if none may."""
    low = max(first, -(-(pad - (kernel - 1) * dilation) // stride))
    high = min(last, (size - 1 + pad) // stride + 1)
    return low, max(low, high)


def _balanced(height, least, most, products, threads):
    """Return how many rows, `least` to `most`, a strip has if threads that take strips in turn are to end together."""
    def slowest(rows):
        strips = -(-height // rows)
        turns = -(-strips * products // threads)
        short = strips * rows - height if strips * products % threads == 1 else 0  # the last strip, of the first thread
        return turns * rows - short

    return min(range(least, max(least, most) + 1), key=slowest)


def _covering(run):
    """Return how many pixels the tiles of a run multiply."""
    rest = run % ROWS
    return run - rest + (0 if not rest else FEW if rest <= FEW else MORE if rest <= MORE else ROWS)


def _reads_inside(source, y, x):
    """Return whether pixel (y, x) is in the picture's memory; x may lie beyond the row and its border.

    The last tile of a row begins earlier if it can, else it reaches beyond the row, and its surplus results are dropped.
    """
    pixels, border = source.row // PIXEL, source.border
    return (y + border) * pixels + x + border < (source.height + 2 * border) * pixels


def _chunks(channels, taps, blocked):
    """Return the parts of the sum; see `plan`."""
    if not blocked:
        parts = [(0, channels * taps, 1)]
        most = ENTRIES * BLOCK
    else:
        rest = channels % BLOCK
        whole = channels // BLOCK * taps
        parts = [(0, whole, BLOCK)] if whole else []
        if rest:
            parts.append((whole, taps, rest + -rest % 4))
        most = ENTRIES
    chunks, k = [], 0
    for first, count, length in parts:
        pieces = -(-count // most)
        edges = [first + count * i // pieces for i in range(pieces + 1)]
        for begin, end in zip(edges, edges[1:]):
            chunks.append((begin, end - begin, length, k, begin // taps, (end - 1) // taps - begin // taps + 1))
            k += (end - begin) * length
    return np.array(chunks, np.int64)


def _table(job, chunks, source):
    """Return each entry's offset from the strip's first pixel, or from the start of its copy."""
    taps = job.kernel_y * job.kernel_x
    entry = np.arange(job.blocks * taps)
    block, tap = entry // taps, entry % taps
    y, x = tap // job.kernel_x * job.dilation_y, tap % job.kernel_x * job.dilation_x
    first = np.repeat(chunks[:, 0], chunks[:, 1])
    if job.mode == SOURCE:
        table = block * source.plane + y * source.row + x * PIXEL
    elif job.mode == PATCH:
        table = (block - first // taps) * job.patch_plane + y * job.patch_row + x * PIXEL
    elif job.mode == PACKED:
        table = (entry - first) * ROWS * PIXEL
    else:
        table = block * job.patch_plane + y * job.patch_row + x % job.stride_x * job.phase + x // job.stride_x * 4
    return np.ascontiguousarray(table, np.int64)


def _up(size):
    """Return `size` rounded up, plus some lines so that parts of the scratch do not share sets of the caches."""
    return -(-size // 4096) * 4096 + 3 * LINE if size else 0


@part_of_kernel
def tile(planes, half, narrow, past, height, entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead):
    """The micro-kernel for `height` pixels and a whole, half or three quarters of a panel of outputs."""
    if not planes:
        tile_of_blocks(half, narrow, height, entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
    elif HALF and half:
        planes_half(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
    elif past:
        planes_tile_past(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
    else:
        planes_tile(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)


@part_of_kernel
def tile_of_blocks(half, narrow, height, entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead):
    """The micro-kernel for `height` pixels of blocks and a whole, half or (`narrow`) three quarters of a panel."""
    if HALF and half:
        if height == ROWS:
            blocks_half(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
        elif height == MORE:
            blocks_half_more(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
        else:
            blocks_half_few(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
    elif HALF and narrow:
        if height == ROWS:
            blocks_narrow(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
        elif height == MORE:
            blocks_narrow_more(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
        else:
            blocks_narrow_few(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
    elif height == ROWS:
        blocks_tile(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
    elif height == MORE:
        blocks_tile_more(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)
    else:
        blocks_tile_few(entries, length, table, a, b, held, accumulate, c, stride, bias, low, ahead)


@part_of_kernel
def tile_height(left, planes):
    """Return how many pixels the tile takes that begins where `left` pixels are left."""
    return ROWS if planes else FEW if left <= FEW else MORE if left <= MORE else ROWS


@compiled
def forward_cpu(first, last, job, source, source_picture, weights, target, target_picture, group_picture, bias, filled, low,
                chunks, table, memory, counter, nothing, past):
    """Thread `first`'s part: it claims items until none are left.

    `group_picture` is the target as far as one group writes it.
    """
    mine = memory + first * job.own
    spare, held, results = mine + job.spare, mine + job.held, mine + job.onto
    none = np.float32(-np.inf)
    planes = job.mode == PLANES
    item = claim(counter)
    while item < job.items:
        image, group, share, y, x, rows, columns = strip_of(job, item)
        pixels = rows * columns
        run = pixels if job.mode == PACKED or job.contiguous else columns
        tiles = (run + ROWS - 1) // ROWS
        from_image = source + image * source_picture.image + group * job.blocks * source_picture.plane
        begin = mine
        if job.mode == SOURCE:
            begin = (from_image + (y * job.stride_y - job.pad_y) * source_picture.row
                     + (x * job.stride_x - job.pad_x) * PIXEL)
        a_row = job.stride_y * (source_picture.row if job.mode == SOURCE else job.patch_row)
        a_pixel = 4 if planes else PIXEL
        panel_first, panel_last = share * job.share, min(job.panels, (share + 1) * job.share)
        group_target = target + group * job.outputs // (BLOCK if target_picture.blocked else 1) * target_picture.plane
        if target_picture.blocked:
            onto_row, onto_plane = target_picture.row, target_picture.plane
        else:
            onto_row, onto_plane = columns * PIXEL, pixels * PIXEL

        for chunk in range(chunks.shape[0]):
            entry, entries, length, before = chunks[chunk, 0], chunks[chunk, 1], chunks[chunk, 2], chunks[chunk, 3]
            block, blocks = chunks[chunk, 4], chunks[chunk, 5]
            final = chunk + 1 == chunks.shape[0]
            copy_strip(job, source_picture, from_image, y, x, rows, columns, entry, entries, block, blocks, mine, spare)
            for panel in range(panel_first, panel_last):
                half = HALF and job.outputs - panel * COLUMNS <= BLOCK
                narrow = HALF and job.outputs - panel * COLUMNS <= MOST
                there = 1 if half else GROUPS
                block_columns = BLOCK * there
                b = weights + group * job.group_weights + panel * job.panel + before * block_columns * 4
                following = b + job.panel
                shift, limit, onto, stride = nothing, none, held, ROWS * PIXEL
                if final:
                    shift, limit, stride = bias + group * job.group_bias + panel * COLUMNS * 4, low, onto_plane
                    if target_picture.blocked:
                        onto = (group_target + image * target_picture.image + panel * GROUPS * target_picture.plane
                                + y * target_picture.row + x * PIXEL)
                    else:
                        onto = results
                lanes = job.last_lanes if final and panel + 1 == job.panels else 0
                for index in range(pixels // run * tiles):
                    line = index // tiles
                    p = (index - line * tiles) * ROWS
                    height = tile_height(run - p, planes)
                    a = begin
                    if job.mode == PACKED:
                        a += index * entries * ROWS * PIXEL
                    p = min(p, max(0, run - height))
                    count = min(height, run - p)
                    p += line * run
                    row = p // columns
                    if job.mode != PACKED:
                        a += row * a_row + (p - row * columns) * a_pixel if not job.contiguous else p * PIXEL
                    sums = held + ((panel - panel_first) * (pixels // run * tiles) + index) * TILE
                    c = sums
                    inside = True
                    if final:
                        c = onto + row * onto_row + (p - row * columns) * PIXEL
                        inside = count == height and (onto_row == columns * PIXEL or (p + height - 1) // columns == row)
                        if not inside:
                            c = spare
                    through = past and final and inside
                    tile(planes, half, narrow, through, height, entries, length, table + entry * 8, a, b, sums, chunk > 0, c,
                         stride if inside else ROWS * PIXEL, shift, limit, following + index * entries * AHEAD * LINE)
                    if lanes:
                        for m in range(height):
                            copy_first(c + (there - 1) * (stride if inside else ROWS * PIXEL) + m * PIXEL + lanes * 4, nothing,
                                       BLOCK - lanes)
                    if not inside:
                        for m in range(count):
                            row = (p + m) // columns
                            place = onto + row * onto_row + (p + m - row * columns) * PIXEL
                            for part in range(there):
                                copy16(place + part * onto_plane, spare + (part * ROWS + m) * PIXEL)
                if final and not target_picture.blocked:
                    for part in range(there):
                        write_patch(group_picture, group_target, image, panel * GROUPS + part, y, x, rows, columns,
                                    results + part * onto_plane, onto_row, spare)
        item = claim(counter)
    while item < job.items + job.fills:
        fill(job, item - job.items, target, target_picture, filled, spare, past)
        item = claim(counter)


@part_of_kernel
def strip_of(job, item):
    """Return (image, group, share, y, x, rows, columns) of an item: its strip's first output pixel and size."""
    share = item % job.shares
    strip = item // job.shares % (job.down * job.across)
    group = item // (job.shares * job.down * job.across) % job.groups
    image = item // (job.shares * job.down * job.across * job.groups)
    y = job.y0 + strip // job.across * job.rows
    across = strip % job.across
    x = job.x0 + (job.x1 - job.x0) * across // job.across
    return image, group, share, y, x, min(job.rows, job.y1 - y), job.x0 + (job.x1 - job.x0) * (across + 1) // job.across - x


@part_of_kernel
def copy_strip(job, picture, start, y, x, rows, columns, entry, entries, block, blocks, target, spare):
    """Copy what a part of the sum, of these entries and blocks, reads of a strip; `start` is the group's pixel (0, 0)."""
    from_y, from_x = y * job.stride_y - job.pad_y, x * job.stride_x - job.pad_x
    if job.mode == PATCH:
        high = (rows - 1) * job.stride_y + (job.kernel_y - 1) * job.dilation_y + 1
        wide = columns + (job.kernel_x - 1) * job.dilation_x
        for i in range(blocks):
            read_patch(picture, start, 0, block + i, from_y, from_x, high, wide, target + i * job.patch_plane,
                       wide * PIXEL if job.contiguous else job.patch_row, spare)
    elif job.mode == PACKED:
        pack_pixels(job, picture, start, y, x, columns, rows * columns, entry, entries, target)
    elif job.mode == PLANES and entry == 0:  # all parts of the sum read the same
        copy_planes(job, picture, start, from_y, from_x, rows, target)


@part_of_kernel
def pack_pixels(job, picture, start, y, x, columns, pixels, entry, entries, target):
    """Write what each entry's tap of each pixel sees to tiles [entry][ROWS][16]; `start` is the group's pixel (0, 0)."""
    border, taps = picture.border, job.kernel_y * job.kernel_x
    for index in range((pixels + ROWS - 1) // ROWS):
        p = index * ROWS
        height = tile_height(pixels - p, False)
        p = min(p, max(0, pixels - height))
        for m in range(height):
            q = min(p + m, pixels - 1)  # some pixel for rows that are too many
            row = q // columns
            from_y = (y + row) * job.stride_y - job.pad_y
            from_x = (x + q - row * columns) * job.stride_x - job.pad_x
            onto = target + m * PIXEL
            block, tap = entry // taps, entry % taps
            ky, kx = tap // job.kernel_x, tap % job.kernel_x
            for _ in range(entries):
                yy, xx = from_y + ky * job.dilation_y, from_x + kx * job.dilation_x
                if -border <= yy < picture.height + border and -border <= xx < picture.width + border:
                    copy16(onto, start + block * picture.plane + yy * picture.row + xx * PIXEL)
                else:
                    zero16(onto)
                onto += ROWS * PIXEL
                kx += 1
                if kx == job.kernel_x:
                    kx = 0
                    ky += 1
                    if ky == job.kernel_y:
                        ky = 0
                        block += 1
        target += entries * ROWS * PIXEL


@part_of_kernel
def copy_planes(job, picture, start, from_y, from_x, rows, target):
    """Write a strip of planes with its padding: [channel][row][phase of the stride][pixel]."""
    step = job.stride_x
    count = job.phase // 4
    high = (rows - 1) * job.stride_y + (job.kernel_y - 1) * job.dilation_y + 1
    for c in range(job.blocks):
        for i in range(high):
            yy = from_y + i
            onto = target + c * job.patch_plane + i * job.patch_row
            zero(onto, step * count)
            if yy < 0 or yy >= picture.height:
                continue
            line = start + c * picture.plane + yy * picture.row
            for phase in range(step):
                shift = from_x + phase
                # Pixels j with 0 <= j * step + shift < width.
                lower = min(count, max(0, (step - 1 - shift) // step))
                upper = min(count, (picture.width - shift + step - 1) // step)
                if step == 1:
                    copy(onto + lower * 4, line + (lower + shift) * 4, upper - lower)
                else:
                    for j in range(lower, upper):
                        put(onto + j * 4, get(line + (j * step + shift) * 4))
                onto += job.phase


@part_of_kernel
def fill(job, item, target, picture, filled, spare, past):
    """Write pixels that see padding only: some rows of the box, of a block of channels of an image."""
    bands = (job.box_y1 - job.box_y0 + FILL - 1) // FILL
    blocks = (picture.channels + BLOCK - 1) // BLOCK
    band, block, image = item % bands, item // bands % blocks, item // (bands * blocks)
    start = target + image * picture.image + block * (1 if picture.blocked else BLOCK) * picture.plane
    for y in range(job.box_y0 + band * FILL, min(job.box_y1, job.box_y0 + (band + 1) * FILL)):
        whole = y < job.y0 or y >= job.y1
        for side in range(1 if whole else 2):
            begin = job.x1 if side else job.box_x0
            end = job.x0 if not side and not whole else job.box_x1
            if picture.blocked:
                line = start + y * picture.row
                if past:
                    for x in range(begin, end):
                        copy16_past(line + x * PIXEL, filled + block * PIXEL)
                else:
                    for x in range(begin, end):
                        copy16(line + x * PIXEL, filled + block * PIXEL)
            else:
                for c in range(min(BLOCK, picture.channels - block * BLOCK)):
                    value = get(filled + block * PIXEL + c * 4)
                    for lane in range(BLOCK):
                        put(spare + lane * 4, value)
                    line = start + c * picture.plane + y * picture.row
                    for x in range(begin, end, BLOCK):
                        copy_first(line + x * 4, spare, min(BLOCK, end - x))
