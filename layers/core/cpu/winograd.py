"""Convolutions with 3 x 3 kernels (and 7 x 7) and stride 1 in a quarter of the multiplications: F(4 x 4, 3 x 3).

The output is cut into tiles of m x m pixels, each made from n x n input pixels, n = m + r - 1, which overlap by r - 1:

    1  V[p, tile, c]  = BT d B        input transform, 16 channels at once, for each of the n n points p
    2  M[p, tile, o]  = sum over c of V[p, tile, c] U[p, c, o]       n n matrix products, U = G g GT prepared before
    3  y              = AT M A + b    output transform, bias, clamp

Chunks of tiles go through all three, so that V and M stay in the caches. Where U is small, each thread takes chunks of
its own; where it is large, all threads work on one chunk, so that U streams through the caches once for all.

The gradient for the image is the same convolution with turned kernels over the output's gradient. The gradient of the
weights is made of the same pieces (`weight_gradient`): dU[p] = V[p]T D[p] with D = A dy AT, and dw = GT dU G.

Pictures may be NCHW or blocked, any number of channels, groups and images, any pad; tiles that only see padding cost no
transform. Tiles of a blocked picture are read and written in place, but for those across its edges: a border of 1 or more
makes them fewer and saves 1 % at most.

Error against float64, of the largest value, for 64 to 512 channels: forward 1.4e-6 to 3.8e-6 and image gradient 1.8e-6 to
4.0e-6, rising with the channels (direct sums: 3e-7 to 5e-7); weight gradient 0.9e-6 to 2.7e-6; F(2 x 2, 7 x 7) 1.4e-5. The
bits depend neither on the number of threads, nor on the other images of a batch, nor on the layout.

Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016.
"""

from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.blocked import picture, read_patch, write_patch
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.isa import BLOCK, ISA, PIXEL
from layers.core.cpu.memory import LINE, address, aligned, counters, scratch, scratch_at
from layers.core.cpu.microkernel import (
    CHANNELS,
    HEIGHTS,
    POINTS_AHEAD,
    channels_tile,
    points_tile,
    points_tile_few,
    points_tile_more,
    points_tile_most,
)
from layers.core.cpu.moves import add16, claim, finished, get, own_part, put, transpose16, wait, zero16
from layers.core.cpu.winograd_ir import (
    PASSES,
    error3,
    gradient3,
    input3,
    input7,
    output3,
    output3_pooled,
    output7,
    weight3,
    weight7,
)

ROWS, COLUMNS, GROUPS = ISA.rows, ISA.columns, ISA.groups
CACHED = 1100 << 10  # bytes of V and M of a chunk, where a thread has its own: the second-level cache
OWN = 28  # tiles in such a chunk at most: with more, U is read less often but V and M are no longer near
SHARED = 126  # tiles in a chunk that all threads share
SHARED_LARGE = 70  # the same for 7 x 7
SMALL_WEIGHTS = 256 * 256  # channels * outputs up to which each thread reads U for itself
OUTPUTS = 512  # of a chunk's M at a time, where it is shared
PAST = 8 << 20  # bytes of an output from which on it is stored past the caches: it would push everything else out
PANELS = 4  # panels of U in one item of the products
STAGES = 4  # counters: claimed items, and those finished of each stage
SKEW = 5 * LINE  # bytes added between points, which would otherwise fall into the same lines of the caches


class Tiles(NamedTuple):
    """How an output is cut into tiles and chunks. Channels, outputs and panels are those of one group."""

    top: int  # the first tile's output pixel
    left: int
    down: int  # tiles
    across: int
    pad_y: int
    pad_x: int
    count: int  # tiles of all images
    chunk: int  # tiles, a multiple of ROWS
    blocks: int  # of 16 input channels
    last: int  # input channels in the last block, rounded up to 4
    panels: int  # of output channels
    held: int  # panels of which M is in memory at a time
    item: int  # panels that one thread multiplies at a time
    private: int  # whether each thread has chunks of its own
    point_v: int  # bytes between points
    point_m: int
    panel_u: int
    point_u: int
    groups: int
    group_u: int  # bytes between groups
    group_source: int
    group_target: int
    group_pooled: int
    past: int  # whether results are stored past the caches


def tile_size(kernel):
    """Return m of F(m, kernel): the outputs of a tile along one axis."""
    return {3: 4, 7: 2}[kernel]


# --- weights ----------------------------------------------------------------------------------------------------------


def prepare(weight, turned=False, out=None, group=1, make=aligned):
    """Return U of weights (M, C / group, k, k), k 3 or 7: [group][n n][panels of M][C rounded up to 4][ISA.columns].

    Panels and C are those of a group. `turned`: for the image's gradient, with M and C exchanged and the kernels rotated.
    `out`: U of an earlier call, which is overwritten; without one ``make(shape, slack=)`` gives memory. Transformed in float64.
    """
    outputs, inputs, kernel = weight.shape[0] // group, *weight.shape[1:3]
    if turned:
        outputs, inputs = inputs, outputs
    points = (tile_size(kernel) + kernel - 1) ** 2
    panels, rows = -(-outputs // COLUMNS), -(-inputs // 4) * 4
    if out is None:
        out = make((group, points, panels, rows, COLUMNS), slack=1 << 16)
    weight = np.ascontiguousarray(weight)
    spare = aligned(parallel.threads() * 64 * BLOCK)
    parallel.run(prepare_cpu, group * panels * rows, address(weight), outputs, inputs, kernel, int(turned), address(out), rows,
                 panels * rows * COLUMNS * 4, group, address(spare), parallel.threads(), _large(kernel), work=out.size)
    return out


@compiled
def prepare_cpu(first, last, weight, outputs, inputs, kernel, turned, u, rows, point, groups, spare, threads, large):
    """Transform the kernels for rows [first, last) of U, counted over groups, panels and input channels."""
    taps = kernel * kernel
    points = 36 if large is None else 64
    panels = (outputs + COLUMNS - 1) // COLUMNS
    spare = own_part(spare, 64 * PIXEL, first, groups * panels * rows, threads)
    for index in range(first, last):
        group, panel, k = index // (panels * rows), index // rows % panels, index % rows
        for part in range(GROUPS):
            target = u + group * points * point + index % (panels * rows) * COLUMNS * 4 + part * PIXEL
            for lane in range(BLOCK):
                m = panel * COLUMNS + part * BLOCK + lane
                if m < outputs and k < inputs:
                    source = weight + group * outputs * inputs * taps * 4
                    source += ((k * outputs + m) if turned else (m * inputs + k)) * taps * 4
                    for tap in range(taps):
                        put(spare + tap * PIXEL + lane * 4, get(source + (taps - 1 - tap if turned else tap) * 4))
                else:
                    for tap in range(taps):
                        put(spare + tap * PIXEL + lane * 4, np.float32(0))
            # `large` is None or not: numba drops the other branch, so that 3 x 3 never compiles 7 x 7.
            if large is None:
                weight3(spare, kernel * PIXEL, PIXEL, target, 6 * point, point)
            else:
                weight7(spare, kernel * PIXEL, PIXEL, target, 8 * point, point)


# --- forward, and the gradient for the image --------------------------------------------------------------------------


def forward(image, weights, kernel, pad, out, bias=None, relu=False, pooled=None, group=1):
    """Write the convolution of `image` (N, C, H, W) with prepared weights to `out` (N, M, oh, ow).

    Parameters
    ----------
    weights : ndarray
        From `prepare`.
    kernel : int
        3 or 7.
    pad : (int, int)
        May be negative: the image is then cropped.
    bias : ndarray (M,), optional
    relu : bool
        Clamp at 0; NaN stays NaN.
    pooled : ndarray (N, M, ceil(oh / 2), ceil(ow / 2)), optional
        Gets the maxima of 2 x 2 pixels (stride 2) of `out`; only for 3 x 3.
    group : int
        As the weights were prepared.
    """
    forward_pictures(address(image), picture(image), weights, kernel, pad, address(out), picture(out), bias, relu,
                     None if pooled is None else (address(pooled), picture(pooled)), group=group)


def image_gradient(error, weights, kernel, pad, out, group=1):
    """Write the gradient for the image to `out` (N, C, H, W); `error` (N, M, oh, ow), `weights` prepared ``turned``."""
    forward(error, weights, kernel, (kernel - 1 - pad[0], kernel - 1 - pad[1]), out, group=group)


def forward_pictures(source, source_picture, weights, kernel, pad, target, target_picture, bias=None, relu=False,
                     pooled=None, box=None, group=1):
    """As `forward`, for pictures of any layout at addresses.

    Parameters
    ----------
    pooled : (address, Picture), optional
    box : (int, int, int, int), optional
        Compute and write the output pixels of rows [y0, y1) and columns [x0, x1) only, and those of `pooled` made from
        them. The edges must lie between tiles (`tile_size`), or at the picture's end. The bits are those of the whole.
    group : int
        Where pictures are blocked, a group's channels must be whole blocks.
    """
    Forward(source, source_picture, kernel, pad, target, target_picture, relu, pooled, box, group).run(weights, bias)


class Forward:
    """`forward_pictures` made ready once and run many times, as long as the pictures stay where they are."""

    def __init__(self, source, source_picture, kernel, pad, target, target_picture, relu, pooled, box, group):
        self._weights = self._call = None
        if box is None:
            box = (0, target_picture.height, 0, target_picture.width)
        _check_box(box, target_picture, tile_size(kernel))
        if target_picture.images * target_picture.channels * (box[1] - box[0]) * (box[3] - box[2]) == 0:
            return
        threads = parallel.threads()
        all_outputs = target_picture.channels
        steps = [0 if part is None else _group_step(part, group)
                 for part in (source_picture, target_picture, pooled and pooled[1])]
        source_picture, target_picture = _of_group(source_picture, group), _of_group(target_picture, group)
        pooled = (0, target_picture) if pooled is None else (pooled[0], _of_group(pooled[1], group))
        tiles = cut(source_picture, target_picture, kernel, pad, threads, box, group, steps)
        points = (tile_size(kernel) + kernel - 1) ** 2
        size_v, size_m = (-(-points * step // 4096) * 4096 for step in (tiles.point_v, tiles.point_m))
        own, copies = _patch_bytes(kernel), threads if tiles.private else 1
        self._chunks = copies * (size_v + size_m)
        self._scratch = self._chunks + threads * own
        self._shift = np.zeros((group, tiles.panels * COLUMNS), np.float32)
        self._shifts = self._shift[:, : target_picture.channels]
        self._counters = counters(STAGES * (threads + 1))
        work = tiles.count * points * source_picture.channels * all_outputs // 32
        self._call = parallel.Call(forward_cpu, threads, [
            tiles, source, source_picture, 0, target, target_picture, address(self._shift), np.float32(0 if relu else -np.inf),
            *pooled, 0, size_v, size_v + size_m, 0, own, address(self._counters), threads, _large(kernel)], work)

    def run(self, weights, bias):
        """Compute it with weights from `prepare` and a bias (or None, always or never)."""
        if self._call is None:
            return
        if bias is not None:
            self._shifts[...] = bias.reshape(self._shifts.shape)
        self._counters.fill(0)
        memory, at = scratch_at(self._scratch, "tiles")
        args = self._call.args
        if weights is not self._weights:
            self._weights, args[3] = weights, address(weights)
        args[10], args[13] = at, at + self._chunks
        self._call.run()


def _check_box(box, target, m):
    """Raise ValueError unless `box` is cut at multiples of m, or at the picture's end."""
    for begin, end, size, axis in ((*box[:2], target.height, "rows"), (*box[2:], target.width, "columns")):
        if not 0 <= begin <= end <= size or begin % m or end % m and end != size:
            raise ValueError(f"box: {axis} [{begin}, {end}) of {size}: both must be multiples of the tile's {m} pixels, or the "
                             f"picture's end; round outwards to these")


def _group_step(part, group):
    """Return the bytes between groups of channels of a picture."""
    channels = part.channels // group
    if part.channels % group or part.blocked and group > 1 and channels % BLOCK:
        raise ValueError(f"a {'blocked ' * part.blocked}picture of {part.channels} channels in {group} groups: each must be "
                         f"{f'whole blocks of {BLOCK}' if part.blocked else 'of the same size'}")
    return channels // (BLOCK if part.blocked else 1) * part.plane


def _of_group(part, group):
    return part._replace(channels=part.channels // group)


def cut(source, target, kernel, pad, threads, box=None, groups=1, steps=(0, 0, 0)):
    """Return the `Tiles` of a convolution between pictures of one group; `steps` are bytes between groups of pictures."""
    m = tile_size(kernel)
    points = (m + kernel - 1) ** 2
    top, bottom, left, right = (0, target.height, 0, target.width) if box is None else box
    down, across = -(-(bottom - top) // m), -(-(right - left) // m)
    count = target.images * down * across
    blocks, panels = -(-source.channels // BLOCK), -(-target.channels // COLUMNS)
    last = -(-(source.channels - (blocks - 1) * BLOCK) // 4) * 4
    channels, outputs = blocks * BLOCK, panels * COLUMNS
    most = max(ROWS, min(OWN, CACHED // (points * (channels + outputs) * 4)) // ROWS * ROWS)
    chunks = -(-count // most)
    if channels * outputs <= SMALL_WEIGHTS and chunks * groups >= 2 * threads:
        chunk = _even(count, -(-chunks // threads) * threads)
        held, item, private = panels, panels, 1
    else:
        chunk = _even(count, -(-count // (SHARED if kernel == 3 else SHARED_LARGE)))
        held = min(panels, max(1, OUTPUTS // COLUMNS))
        item, private = min(PANELS, held), 0
    rows = source.channels + -source.channels % 4
    past = PASSES and target.blocked and target.images * groups * outputs * target.height * target.width * 4 >= PAST
    point_u = panels * rows * COLUMNS * 4
    return Tiles(top, left, down, across, pad[0], pad[1], count, chunk, blocks, last, panels, held, item, private,
                 chunk * channels * 4 + SKEW, chunk * held * COLUMNS * 4 + SKEW,
                 rows * COLUMNS * 4, point_u, groups, points * point_u, *steps, int(past))


def _even(count, chunks):
    """Return the size of equal chunks, rounded up to whole panels of the micro-kernel."""
    each = -(-count // chunks)
    return -(-each // ROWS) * ROWS


def _large(kernel):
    return None if kernel == 3 else 7


def _patch_bytes(kernel):
    """Return the scratch bytes of a thread: an input patch, an output patch and room for a transpose."""
    n = tile_size(kernel) + kernel - 1
    return ((n + 4) * (ROWS * 4 + kernel + BLOCK) + 3 * BLOCK) * PIXEL


@part_of_kernel
def panel_heights(count):
    """Return (panels, height, lower, whole): how `count` tiles fill panels of the micro-kernel with little waste.

    The first `whole` panels have `height` rows, a micro-kernel's, and the others `lower`, the next micro-kernel's.
    """
    panels = (count + ROWS - 1) // ROWS
    height, lower = 0, 0
    for rows in HEIGHTS:
        if panels * height < count:
            height, lower = rows, height
    return panels, height, lower, panels - (panels * height - count) // (height - lower)


@part_of_kernel
def panel_first(panel, height, lower, whole):
    """Return the first tile of a panel."""
    return min(panel, whole) * height + max(0, panel - whole) * lower


@part_of_kernel
def run_of_tiles(picture, border, y, x, n, m, tx, most):
    """Return (tiles, whether in place): how many of up to `most` tiles in a row are next read from, or written to, a picture.

    They are of n x n pixels, m apart; tile 0 of the row is at (y, x), the next one is tile `tx`. Those that lie inside of a
    blocked picture, or of so much of its border, are taken in place, the others through a patch; of NCHW all, as one patch.
    """
    if not picture.blocked or y < -border or y + n > picture.height + border:
        return most, False
    low = max(0, (m - 1 - border - x) // m)  # the first tile whose pixels are all there, and the one behind the last
    high = max(low, (picture.width + border - n - x) // m + 1)
    if tx < low:
        return min(most, low - tx), False
    if tx < high:
        return min(most, high - tx), True
    return most, False


@part_of_kernel
def input_tiles(first, count, tiles, source, source_picture, v, point, spare, large):
    """Step 1 for up to ROWS tiles from `first` on, which fill one panel of V at the address `v`."""
    m, n = (4, 6) if large is None else (2, 8)
    patch = spare + 2 * BLOCK * PIXEL
    done = 0
    while done < count:
        tile = first + done
        tx, ty, image = tile % tiles.across, tile // tiles.across % tiles.down, tile // (tiles.across * tiles.down)
        y, x = tiles.top + ty * m - tiles.pad_y, tiles.left - tiles.pad_x
        take, direct = run_of_tiles(source_picture, source_picture.border, y, x, n, m, tx, min(count - done, tiles.across - tx))
        x += tx * m
        columns = (take - 1) * m + n
        nothing = y + n <= 0 or y >= source_picture.height or x + columns <= 0 or x >= source_picture.width
        for block in range(tiles.blocks):
            target = v + (block * ROWS + done) * PIXEL
            if nothing:
                for i in range(take):
                    for p in range(n * n):
                        zero16(target + i * PIXEL + p * point)
                continue
            if direct:
                start = source + image * source_picture.image + block * source_picture.plane + y * source_picture.row + x * PIXEL
                row = source_picture.row
            else:
                start, row = patch, columns * PIXEL
                read_patch(source_picture, source, image, block, y, x, n, columns, patch, row, spare)
            for i in range(take):
                if large is None:
                    input3(start + i * m * PIXEL, row, PIXEL, target + i * PIXEL, 6 * point, point)
                else:
                    input7(start + i * m * PIXEL, row, PIXEL, target + i * PIXEL, 8 * point, point)
        done += take


@part_of_kernel
def soon(p, panel, rows, tiles, begin, source, source_picture, otherwise):
    """Return the address of pixels that the chunk from tile `begin` on will read, different ones for each (p, panel).

    While a chunk is multiplied memory has nothing to do: the next one's pixels are then asked for. They are cut into pieces
    of as many lines as `rows` calls of the micro-kernel ask for; of each tile, the 4 rows that the one above did not have.
    """
    lines = 4 * tiles.blocks
    index = p + panel * 36
    tile = index // lines * (rows * tiles.blocks * POINTS_AHEAD // 4)
    if not source_picture.blocked or begin >= tiles.count or tile >= tiles.chunk:
        return otherwise
    tile += begin
    block, line = index % lines // 4, index % 4 + 2
    y = tiles.top + tile // tiles.across % tiles.down * 4 - tiles.pad_y + line
    x = tiles.left + tile % tiles.across * 4
    source += tile // (tiles.across * tiles.down) * source_picture.image + block * source_picture.plane
    return source + y * source_picture.row + x * PIXEL


@part_of_kernel
def products(p, first, last, held, rows, height, lower, whole, tiles, v, u, products_at, next_panel, next_begin, source,
             source_picture):
    """Step 2 for one point and panels [first, last) of U, of which `held` is the first in M; for all panels of V.

    `next_panel`: address of what this thread probably multiplies with afterwards; `next_begin`: its next chunk's first tile.
    """
    panel_v = tiles.blocks * ROWS * PIXEL
    panel_m = tiles.held * GROUPS * ROWS * PIXEL
    ahead_most = tiles.panel_u - tiles.blocks * POINTS_AHEAD * LINE
    for panel in range(first, last):
        b = u + p * tiles.point_u + panel * tiles.panel_u
        onto = products_at + p * tiles.point_m + (panel - held) * GROUPS * ROWS * PIXEL
        near, most = b + tiles.panel_u if panel + 1 < last else next_panel, ahead_most
        if tiles.private:
            near, most = soon(p, panel, rows, tiles, next_begin, source, source_picture, near), tiles.panel_u
        for row in range(rows):
            ahead = near + max(0, min(row * tiles.blocks * POINTS_AHEAD * LINE, most))
            left = v + p * tiles.point_v + row * panel_v
            high = height if row < whole else lower
            if high == ROWS:
                points_tile(tiles.blocks, tiles.last, left, b, onto + row * panel_m, ROWS * PIXEL, ahead)
            elif high == HEIGHTS[-2]:
                points_tile_most(tiles.blocks, tiles.last, left, b, onto + row * panel_m, ROWS * PIXEL, ahead)
            elif high == HEIGHTS[-3]:
                points_tile_more(tiles.blocks, tiles.last, left, b, onto + row * panel_m, ROWS * PIXEL, ahead)
            else:
                points_tile_few(tiles.blocks, tiles.last, left, b, onto + row * panel_m, ROWS * PIXEL, ahead)


@part_of_kernel
def output_tiles(first, count, tiles, products_at, held, held_last, bias, low, target, target_picture, pooled,
                 pooled_picture, spare, large):
    """Step 3 for up to ROWS tiles from `first` on, from one panel of M at the address `products_at`."""
    m = 4 if large is None else 2
    patch = spare + 2 * BLOCK * PIXEL
    blocks = (target_picture.channels + BLOCK - 1) // BLOCK
    done = 0
    while done < count:
        tile = first + done
        tx, ty, image = tile % tiles.across, tile // tiles.across % tiles.down, tile // (tiles.across * tiles.down)
        y, x = tiles.top + ty * m, tiles.left
        take, direct = run_of_tiles(target_picture, 0, y, x, m, m, tx, min(count - done, tiles.across - tx))
        x += tx * m
        past = tiles.past if direct else 0
        for block in range(held * GROUPS, min(held_last * GROUPS, blocks)):
            source = products_at + ((block - held * GROUPS) * ROWS + done) * PIXEL
            small_start, small_row = patch + m * ROWS * m * PIXEL, take * 2 * PIXEL
            if direct:
                start = target + image * target_picture.image + block * target_picture.plane + y * target_picture.row + x * PIXEL
                row = target_picture.row
                if pooled != 0 and pooled_picture.blocked:
                    small_start = pooled + image * pooled_picture.image + block * pooled_picture.plane
                    small_start += y // 2 * pooled_picture.row + x // 2 * PIXEL
                    small_row = pooled_picture.row
            else:
                start, row = patch, take * m * PIXEL
            for i in range(take):
                if large is not None:
                    output7(source + i * PIXEL, tiles.point_m, bias + block * PIXEL, low, start + i * m * PIXEL, row, past)
                elif pooled == 0:
                    output3(source + i * PIXEL, tiles.point_m, bias + block * PIXEL, low, start + i * m * PIXEL, row, past)
                else:
                    output3_pooled(source + i * PIXEL, tiles.point_m, bias + block * PIXEL, low, start + i * m * PIXEL, row,
                                   past, small_start + i * 2 * PIXEL, small_row)
            if not direct:
                write_patch(target_picture, target, image, block, y, x, m, take * m, patch, row, spare)
            if pooled != 0 and not (direct and pooled_picture.blocked):
                if y + m > target_picture.height or x + take * m > target_picture.width:
                    pool_edge(start, row, min(m, target_picture.height - y), min(take * m, target_picture.width - x),
                              small_start, small_row)
                write_patch(pooled_picture, pooled, image, block, y // 2, x // 2, m // 2, take * 2, small_start, small_row, spare)
        done += take


@compiled
def pool_edge(source, row, rows, columns, target, target_row):
    """Pool a patch of which only rows x columns pixels are in the image; windows at its edge are smaller."""
    for y in range(0, rows, 2):
        for x in range(0, columns, 2):
            for lane in range(BLOCK):
                most = np.float32(np.nan)
                for dy in range(min(2, rows - y)):
                    for dx in range(min(2, columns - x)):
                        value = get(source + (y + dy) * row + (x + dx) * PIXEL + lane * 4)
                        most = value if value > most or most != most else most
                put(target + y // 2 * target_row + x // 2 * PIXEL + lane * 4, most)


@compiled
def forward_cpu(first, last, tiles, source, source_picture, u, target, target_picture, bias, low, pooled, pooled_picture,
                memory, size_v, size, spare, own, counter, threads, large):
    """Thread `first`'s part of a convolution; `pooled` is 0 or the address of the pooled picture.

    Items, numbered in one row: for each chunk its panels of V; then for each stretch of outputs the products, point by
    point, and the output tiles. A stage waits until the one before is done. Either all threads take the items of one
    chunk after the other, or (`tiles.private`) each claims chunks and does all of their items.
    """
    points = 36 if large is None else 64
    chunk_counter = counter
    chunk = 0
    if tiles.private:
        memory += first * size
        counter += (first + 1) * STAGES * LINE
        chunk = claim(chunk_counter)
    v, m = memory, memory + size_v
    spare += first * own
    panel_v = tiles.blocks * ROWS * PIXEL
    panel_m = tiles.held * GROUPS * ROWS * PIXEL
    chunks = (tiles.count + tiles.chunk - 1) // tiles.chunk
    stretches = (tiles.panels + tiles.held - 1) // tiles.held
    inputs, multiplied, written = counter + LINE, counter + 2 * LINE, counter + 3 * LINE
    base, inputs_due, multiplied_due, written_due = 0, 0, 0, 0
    item = claim(counter) if chunk < tiles.groups * chunks else 0
    while chunk < tiles.groups * chunks:
        next_chunk = claim(chunk_counter) if tiles.private else chunk + 1
        group, begin = chunk // chunks, chunk % chunks * tiles.chunk
        count = min(tiles.chunk, tiles.count - begin)
        rows, height, lower, whole = panel_heights(count)
        from_source, weights = source + group * tiles.group_source, u + group * tiles.group_u
        while item < base + rows:
            wait(multiplied, multiplied_due)  # V is free again
            row = item - base
            at = panel_first(row, height, lower, whole)
            input_tiles(begin + at, min(height if row < whole else lower, count - at), tiles, from_source, source_picture,
                        v + row * panel_v, tiles.point_v, spare, large)
            finished(inputs)
            item = claim(counter)
        base += rows
        inputs_due += rows
        for stretch in range(stretches):
            held = stretch * tiles.held
            panels = min(tiles.held, tiles.panels - held)
            parts = (panels + tiles.item - 1) // tiles.item
            while item < base + points * parts:
                wait(inputs, inputs_due)
                wait(written, written_due)  # M is free again
                p, part = (item - base) // parts, (item - base) % parts
                later = item - base + (1 if tiles.private else threads)
                next_panel = weights + later // parts * tiles.point_u + (held + later % parts * tiles.item) * tiles.panel_u
                products(p, held + part * tiles.item, held + min(panels, (part + 1) * tiles.item), held, rows, height, lower,
                         whole, tiles, v, weights, m, next_panel, next_chunk % chunks * tiles.chunk,
                         source + next_chunk // chunks * tiles.group_source, source_picture)
                finished(multiplied)
                item = claim(counter)
            base += points * parts
            multiplied_due += points * parts
            while item < base + rows:
                wait(multiplied, multiplied_due)
                row = item - base
                at = panel_first(row, height, lower, whole)
                output_tiles(begin + at, min(height if row < whole else lower, count - at), tiles, m + row * panel_m, held,
                             held + panels, bias + group * tiles.panels * COLUMNS * 4, low,
                             target + group * tiles.group_target, target_picture,
                             pooled + group * tiles.group_pooled if pooled != 0 else 0, pooled_picture, spare, large)
                finished(written)
                item = claim(counter)
            base += rows
            written_due += rows
        chunk = next_chunk


# --- gradient of the weights ------------------------------------------------------------------------------------------


class Sums(NamedTuple):
    """How the tiles of a weight gradient are cut; independent of the number of threads, since it orders the sums."""

    down: int
    across: int
    pad_y: int
    pad_x: int
    count: int  # tiles of all images
    chunk: int  # tiles summed at a time, a multiple of 16
    blocks: int  # of 16 input channels
    panels: int  # of output channels
    point_v: int  # bytes between points of V, D and dU
    point_d: int
    point_u: int
    groups: int
    group_source: int  # bytes between groups
    group_error: int


def weight_gradient(image, error, pad, gradient, group=1):
    """Add the gradient of 3 x 3 weights to `gradient` (M, C / group, 3, 3); `image` (N, C, H, W), `error` (N, M, oh, ow)."""
    weight_gradient_pictures(address(image), picture(image), address(error), picture(error), pad, gradient, group)


def weight_gradient_pictures(source, source_picture, error, error_picture, pad, gradient, group=1):
    """As `weight_gradient`, for pictures of any layout at addresses; `gradient` is a contiguous array."""
    steps = _group_step(source_picture, group), _group_step(error_picture, group)
    source_picture, error_picture = _of_group(source_picture, group), _of_group(error_picture, group)
    images, outputs, height, width = error_picture[:4]
    channels = source_picture.channels
    if images * outputs * height * width * channels == 0:
        return
    down, across = -(-height // 4), -(-width // 4)
    count = images * down * across
    blocks, panels = -(-channels // BLOCK), -(-outputs // COLUMNS)
    wide = blocks * BLOCK + panels * COLUMNS
    most = max(4, min(32, GRADIENT_CACHED // (36 * wide * 4 * BLOCK))) * BLOCK
    chunk = min(most, -(-count // BLOCK) * BLOCK)
    sums = Sums(down, across, pad[0], pad[1], count, chunk, blocks, panels, chunk * blocks * PIXEL + SKEW,
                chunk * panels * COLUMNS * 4 + SKEW, blocks * BLOCK * panels * COLUMNS * 4, group, *steps)
    threads = parallel.threads()
    own = (6 * (4 * BLOCK + BLOCK) + 3 * BLOCK) * PIXEL
    memory = scratch(36 * (sums.point_v + sums.point_d + sums.point_u) + threads * own, "sums")
    count = counters()
    parallel.run(weight_gradient_cpu, threads, sums, source, source_picture, error, error_picture, address(gradient),
                 address(memory), own, address(count), work=group * sums.count * 36 * channels * outputs // 32)


GRADIENT_CACHED = 2 << 20  # bytes of V and D of a chunk (at least 64 tiles)


@part_of_kernel
def gradient_tiles(first, begin, count, sums, source, source_picture, error, error_picture, v, d, spare):
    """Transform 16 tiles of the image and of the error, from `first` of the chunk on, which begins at tile `begin`."""
    patch = spare + 2 * BLOCK * PIXEL
    for t in range(count, first + BLOCK):  # behind the last tile
        if t >= first:
            for block in range(sums.blocks):
                for p in range(36):
                    zero16(v + (block * sums.chunk + t) * PIXEL + p * sums.point_v)
            for group in range(sums.panels * GROUPS):
                target = d + ((group // GROUPS * sums.chunk + t) * GROUPS + group % GROUPS) * PIXEL
                for p in range(36):
                    zero16(target + p * sums.point_d)
    done = first
    while done < min(count, first + BLOCK):
        tile = begin + done
        tx, ty, image = tile % sums.across, tile // sums.across % sums.down, tile // (sums.across * sums.down)
        y, x = ty * 4 - sums.pad_y, -sums.pad_x
        most = min(min(count, first + BLOCK) - done, sums.across - tx)
        take, direct = run_of_tiles(source_picture, source_picture.border, y, x, 6, 4, tx, most)
        error_take, error_direct = run_of_tiles(error_picture, error_picture.border, ty * 4, 0, 4, 4, tx, most)
        take = min(take, error_take)
        x += tx * 4
        for block in range(sums.blocks):
            if direct:
                start = source + image * source_picture.image + block * source_picture.plane + y * source_picture.row + x * PIXEL
                row = source_picture.row
            else:
                start, row = patch, (take * 4 + 2) * PIXEL
                read_patch(source_picture, source, image, block, y, x, 6, take * 4 + 2, patch, row, spare)
            for i in range(take):
                input3(start + i * 4 * PIXEL, row, PIXEL, v + (block * sums.chunk + done + i) * PIXEL, 6 * sums.point_v,
                       sums.point_v)
        for group in range(sums.panels * GROUPS):
            start, row = patch, take * 4 * PIXEL
            if group * BLOCK >= error_picture.channels:
                for i in range(16 * take):
                    zero16(patch + i * PIXEL)
            elif error_direct:
                start = error + image * error_picture.image + group * error_picture.plane + ty * 4 * error_picture.row
                start += tx * 4 * PIXEL
                row = error_picture.row
            else:
                read_patch(error_picture, error, image, group, ty * 4, tx * 4, 4, take * 4, patch, row, spare)
            for i in range(take):
                target = d + ((group // GROUPS * sums.chunk + done + i) * GROUPS + group % GROUPS) * PIXEL
                error3(start + i * 4 * PIXEL, row, PIXEL, target, 6 * sums.point_d, sums.point_d)
        done += take


@part_of_kernel
def gradient_block(block, group, sums, inputs, outputs, u, gradient, spare):
    """Add the gradient of the weights from a block of channels to one of outputs, of those at the address `gradient`."""
    lanes, rows = min(BLOCK, inputs - block * BLOCK), min(BLOCK, outputs - group * BLOCK)
    for lane in range(lanes):
        channel = block * BLOCK + lane
        gradient3(u + (group // GROUPS * sums.blocks * BLOCK + channel) * COLUMNS * 4 + group % GROUPS * PIXEL,
                  6 * sums.point_u, sums.point_u, spare + lane * 9 * PIXEL, 3 * PIXEL, PIXEL)
    target = gradient + (group * BLOCK * inputs + block * BLOCK) * 36
    if lanes == BLOCK and rows == BLOCK:  # an output's 16 x 9 weights lie side by side
        for part in range(9):
            transpose16(spare + part * BLOCK * PIXEL, PIXEL, spare + part * BLOCK * PIXEL, PIXEL)
        for m in range(BLOCK):
            for part in range(9):
                add16(target + m * inputs * 36 + part * PIXEL, spare + (part * BLOCK + m) * PIXEL)
        return
    for m in range(rows):
        for tap in range(9 * lanes):
            place = target + m * inputs * 36 + tap * 4
            put(place, get(place) + get(spare + tap * PIXEL + m * 4))


@compiled
def weight_gradient_cpu(first, last, sums, source, source_picture, error, error_picture, gradient, memory, own, counter):
    """Items, numbered in one row: for each chunk its transforms, then the sums for each point; at the end the weights.

    So for one group after the other.
    """
    v = memory
    d = v + 36 * sums.point_v
    u = d + 36 * sums.point_d
    spare = u + 36 * sums.point_u + first * own
    inputs, outputs = source_picture.channels, error_picture.channels
    transformed, added, ended = counter + LINE, counter + 2 * LINE, counter + 3 * LINE
    chunks = (sums.count + sums.chunk - 1) // sums.chunk
    parts = (sums.panels + PANELS - 1) // PANELS
    base, transformed_due, added_due, ended_due = 0, 0, 0, 0
    item = claim(counter)
    for index in range(sums.groups * chunks):
        group, chunk = index // chunks, index % chunks
        begin = chunk * sums.chunk
        count = min(sums.chunk, sums.count - begin)
        steps = (count + BLOCK - 1) // BLOCK
        rest = (count - (steps - 1) * BLOCK + 3) // 4 * 4
        while item < base + steps:
            wait(added, added_due)
            gradient_tiles((item - base) * BLOCK, begin, count, sums, source + group * sums.group_source, source_picture,
                           error + group * sums.group_error, error_picture, v, d, spare)
            finished(transformed)
            item = claim(counter)
        base += steps
        transformed_due += steps
        while item < base + 36 * parts:
            wait(transformed, transformed_due)
            wait(ended, ended_due)  # the group before has read its sums
            p, part = (item - base) // parts, (item - base) % parts
            for panel in range(part * PANELS, min(sums.panels, (part + 1) * PANELS)):
                right = d + p * sums.point_d + panel * sums.chunk * COLUMNS * 4
                for channel in range(0, sums.blocks * BLOCK, CHANNELS):
                    left = v + p * sums.point_v + channel // BLOCK * sums.chunk * PIXEL + channel % BLOCK * 4
                    onto = u + p * sums.point_u + (panel * sums.blocks * BLOCK + channel) * COLUMNS * 4
                    channels_tile(steps, rest, left, right, onto, COLUMNS * 4, min(chunk, 1))
            finished(added)
            item = claim(counter)
        base += 36 * parts
        added_due += 36 * parts
        if chunk < chunks - 1:
            continue
        while item < base + sums.blocks * sums.panels:
            wait(added, added_due)
            panel, block = (item - base) // sums.blocks, (item - base) % sums.blocks
            for part in range(panel * GROUPS, min((panel + 1) * GROUPS, (outputs + BLOCK - 1) // BLOCK)):
                gradient_block(block, part, sums, inputs, outputs, u, gradient + group * outputs * inputs * 36, spare)
            finished(ended)
            item = claim(counter)
        base += sums.blocks * sums.panels
        ended_due += sums.blocks * sums.panels
