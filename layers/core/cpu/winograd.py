"""Convolutions with 3 x 3 kernels (and 7 x 7) and stride 1 in a quarter of the multiplications: F(4 x 4, 3 x 3).

The output is cut into tiles of m x m pixels, each made from n x n input pixels, n = m + r - 1, which overlap by r - 1:

    1  V[p, tile, c]  = BT d B        input transform, 16 channels at once, for each of the n n points p
    2  M[p, tile, o]  = sum over c of V[p, tile, c] U[p, c, o]       n n matrix products, U = G g GT prepared before
    3  y              = AT M A + b    output transform, bias, clamp

Chunks of tiles go through all three, so that V and M stay in the caches. Where U is small, each thread takes chunks of
its own; where it is large, all threads work on one chunk, so that U streams through the caches once for all.

The gradient for the image is the same convolution with turned kernels over the output's gradient. The gradient of the
weights is made of the same pieces (`weight_gradient`): dU[p] = V[p]T D[p] with D = A dy AT, and dw = GT dU G.

Pictures may be NCHW or blocked, any number of channels and images, any pad; tiles that only see padding cost no
transform. Error against float64, of the largest value, for 64 to 512 channels: forward 1.4e-6 to 3.8e-6 and image
gradient 1.8e-6 to 4.0e-6, rising with the channels (direct sums: 3e-7 to 5e-7); weight gradient 1.4e-6 to 2.7e-6;
F(2 x 2, 7 x 7) 1.4e-5. The bits depend neither on the number of threads nor on the other images of a batch.

Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016.
"""

from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.blocked import PIXEL, picture, read_patch, write_patch
from layers.core.cpu.compiled import compiled, part_of_kernel
from layers.core.cpu.isa import BLOCK, ISA
from layers.core.cpu.memory import LINE, address, aligned, counters, scratch
from layers.core.cpu.microkernel import AHEAD, CHANNELS, channels_tile, points_tile
from layers.core.cpu.moves import claim, finished, get, put, wait, zero16
from layers.core.cpu.winograd_ir import error3, gradient3, input3, input7, output3, output3_pooled, output7, weight3, weight7

ROWS, COLUMNS, GROUPS = ISA.rows, ISA.columns, ISA.groups
CACHED = 700 << 10  # bytes of V and M of a chunk, where a thread has its own: the second-level cache
SHARED = 126  # tiles in a chunk that all threads share
SMALL_WEIGHTS = 256 * 256  # channels * outputs up to which each thread reads U for itself
OUTPUTS = 512  # of a chunk's M at a time, where it is shared
PANELS = 4  # panels of U in one item of the products
STAGES = 4  # counters: claimed items, and those finished of each stage
SKEW = 5 * LINE  # bytes added between points, which would otherwise fall into the same lines of the caches


class Tiles(NamedTuple):
    """How an output is cut into tiles and chunks."""

    down: int  # tiles
    across: int
    pad_y: int
    pad_x: int
    count: int  # tiles of all images
    chunk: int  # tiles, a multiple of ROWS
    blocks: int  # of 16 input channels
    last: int  # input channels in the last block, rounded up to 4
    panels: int  # of output channels
    group: int  # panels of which M is in memory at a time
    item: int  # panels that one thread multiplies at a time
    private: int  # whether each thread has chunks of its own
    point_v: int  # bytes between points
    point_m: int
    panel_u: int
    point_u: int


def tile_size(kernel):
    """Return m of F(m, kernel): the outputs of a tile along one axis."""
    return {3: 4, 7: 2}[kernel]


# --- weights ----------------------------------------------------------------------------------------------------------


def prepare(weight, turned=False, out=None):
    """Return U of weights (M, C, k, k), k 3 or 7: [n n][panels of M][C rounded up to 4][ISA.columns].

    `turned`: for the image's gradient, with M and C exchanged and the kernels rotated. `out`: U of an earlier call, which
    is overwritten. Transformed in float64.
    """
    outputs, inputs, kernel = weight.shape[:3]
    if turned:
        outputs, inputs = inputs, outputs
    points = (tile_size(kernel) + kernel - 1) ** 2
    panels, rows = -(-outputs // COLUMNS), -(-inputs // 4) * 4
    if out is None:
        out = aligned((points, panels, rows, COLUMNS), slack=1 << 16)
    weight = np.ascontiguousarray(weight)
    spare = aligned(parallel.threads() * 64 * BLOCK)
    parallel.run(prepare_cpu, panels * rows, address(weight), outputs, inputs, kernel, int(turned), address(out), rows,
                 panels * rows * COLUMNS * 4, address(spare), parallel.threads(), _large(kernel), work=out.size)
    return out


@compiled
def prepare_cpu(first, last, weight, outputs, inputs, kernel, turned, u, rows, point, spare, threads, large):
    """Transform the kernels for rows [first, last) of U, counted over panels and input channels."""
    taps = kernel * kernel
    count = (outputs + COLUMNS - 1) // COLUMNS * rows
    spare += (first * threads + count - 1) // count * 64 * PIXEL
    for index in range(first, last):
        panel, k = index // rows, index % rows
        for part in range(GROUPS):
            target = u + index * COLUMNS * 4 + part * PIXEL
            for lane in range(BLOCK):
                m = panel * COLUMNS + part * BLOCK + lane
                if m < outputs and k < inputs:
                    source = weight + ((k * outputs + m) if turned else (m * inputs + k)) * taps * 4
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


def forward(image, weights, kernel, pad, out, bias=None, relu=False, pooled=None):
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
    """
    forward_pictures(address(image), picture(image), weights, kernel, pad, address(out), picture(out), bias, relu,
                     None if pooled is None else (address(pooled), picture(pooled)))


def image_gradient(error, weights, kernel, pad, out):
    """Write the gradient for the image to `out` (N, C, H, W); `error` (N, M, oh, ow), `weights` prepared ``turned``."""
    forward(error, weights, kernel, (kernel - 1 - pad[0], kernel - 1 - pad[1]), out)


def forward_pictures(source, source_picture, weights, kernel, pad, target, target_picture, bias=None, relu=False,
                     pooled=None):
    """As `forward`, for pictures of any layout at addresses; `pooled` is None or (address, Picture)."""
    if target_picture.images * target_picture.channels * target_picture.height * target_picture.width == 0:
        return
    threads = parallel.threads()
    tiles = cut(source_picture, target_picture, kernel, pad, threads)
    points = (tile_size(kernel) + kernel - 1) ** 2
    size_v, size_m = (-(-points * step // 4096) * 4096 for step in (tiles.point_v, tiles.point_m))
    own, copies = _patch_bytes(kernel), threads if tiles.private else 1
    memory = scratch(copies * (size_v + size_m) + threads * own, "tiles")
    spare = address(memory) + copies * (size_v + size_m)
    shift = np.zeros(tiles.panels * COLUMNS, np.float32)
    if bias is not None:
        shift[: target_picture.channels] = bias
    low = np.float32(0 if relu else -np.inf)
    count = counters(STAGES * (threads + 1))
    work = tiles.count * points * source_picture.channels * target_picture.channels // 32
    if pooled is None:
        pooled = (0, target_picture)
    parallel.run(forward_cpu, threads, tiles, source, source_picture, address(weights), target, target_picture, address(shift),
                 low, pooled[0], pooled[1], address(memory), size_v, size_v + size_m, spare, own, address(count),
                 _large(kernel), work=work)


def cut(source, target, kernel, pad, threads):
    """Return the `Tiles` of a convolution between pictures."""
    m = tile_size(kernel)
    points = (m + kernel - 1) ** 2
    down, across = -(-target.height // m), -(-target.width // m)
    count = target.images * down * across
    blocks, panels = -(-source.channels // BLOCK), -(-target.channels // COLUMNS)
    last = -(-(source.channels - (blocks - 1) * BLOCK) // 4) * 4
    channels, outputs = blocks * BLOCK, panels * COLUMNS
    most = max(ROWS, (CACHED if channels + outputs <= 192 else 4 * CACHED) // (points * (channels + outputs) * 4) // ROWS * ROWS)
    chunks = -(-count // most)
    if channels * outputs <= SMALL_WEIGHTS and chunks >= 2 * threads:
        chunk = _even(count, -(-chunks // threads) * threads)
        group, item, private = panels, panels, 1
    else:
        chunk = _even(count, -(-count // (SHARED if kernel == 3 else SHARED // 2)))
        group = min(panels, max(1, OUTPUTS // COLUMNS))
        item, private = min(PANELS, group), 0
    rows = source.channels + -source.channels % 4
    return Tiles(down, across, pad[0], pad[1], count, chunk, blocks, last, panels, group, item, private,
                 chunk * channels * 4 + SKEW, chunk * group * COLUMNS * 4 + SKEW,
                 rows * COLUMNS * 4, panels * rows * COLUMNS * 4)


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
def input_tiles(first, count, tiles, source, source_picture, v, point, spare, large):
    """Step 1 for up to ROWS tiles from `first` on, which fill one panel of V at the address `v`."""
    m, n = (4, 6) if large is None else (2, 8)
    patch = spare + 2 * BLOCK * PIXEL
    border = source_picture.border
    done = 0
    while done < count:
        tile = first + done
        tx, ty, image = tile % tiles.across, tile // tiles.across % tiles.down, tile // (tiles.across * tiles.down)
        take = min(count - done, tiles.across - tx)
        y, x = ty * m - tiles.pad_y, tx * m - tiles.pad_x
        columns = (take - 1) * m + n
        nothing = y + n <= 0 or y >= source_picture.height or x + columns <= 0 or x >= source_picture.width
        direct = (source_picture.blocked and y >= -border and y + n <= source_picture.height + border
                  and x >= -border and x + columns <= source_picture.width + border)
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
def products(p, panel_first, panel_last, held, rows_of_tiles, tiles, v, u, products_at):
    """Step 2 for one point and some panels of U, of which `held` is the first in M; `rows_of_tiles` panels of V."""
    panel_v = tiles.blocks * ROWS * PIXEL
    panel_m = tiles.group * GROUPS * ROWS * PIXEL
    ahead_most = tiles.panel_u - tiles.blocks * AHEAD * LINE
    for panel in range(panel_first, panel_last):
        b = u + p * tiles.point_u + panel * tiles.panel_u
        onto = products_at + p * tiles.point_m + (panel - held) * GROUPS * ROWS * PIXEL
        for row in range(rows_of_tiles):
            ahead = b + tiles.panel_u + max(0, min(row * tiles.blocks * AHEAD * LINE, ahead_most))
            points_tile(tiles.blocks, tiles.last, v + p * tiles.point_v + row * panel_v, b, onto + row * panel_m, ROWS * PIXEL,
                        ahead)


@part_of_kernel
def output_tiles(first, count, tiles, products_at, panel_first, panel_last, bias, low, target, target_picture,
                 pooled, pooled_picture, spare, large):
    """Step 3 for up to ROWS tiles from `first` on, from one panel of M at the address `products_at`."""
    m = 4 if large is None else 2
    patch = spare + 2 * BLOCK * PIXEL
    small = patch + m * ROWS * m * PIXEL
    blocks = (target_picture.channels + BLOCK - 1) // BLOCK
    done = 0
    while done < count:
        tile = first + done
        tx, ty, image = tile % tiles.across, tile // tiles.across % tiles.down, tile // (tiles.across * tiles.down)
        take = min(count - done, tiles.across - tx)
        y, x = ty * m, tx * m
        direct = target_picture.blocked and y + m <= target_picture.height and x + take * m <= target_picture.width
        for block in range(panel_first * GROUPS, min(panel_last * GROUPS, blocks)):
            source = products_at + ((block - panel_first * GROUPS) * ROWS + done) * PIXEL
            if direct:
                start = target + image * target_picture.image + block * target_picture.plane + y * target_picture.row + x * PIXEL
                row = target_picture.row
            else:
                start, row = patch, take * m * PIXEL
            for i in range(take):
                if large is not None:
                    output7(source + i * PIXEL, tiles.point_m, bias + block * PIXEL, low, start + i * m * PIXEL, row)
                elif pooled == 0:
                    output3(source + i * PIXEL, tiles.point_m, bias + block * PIXEL, low, start + i * m * PIXEL, row)
                else:
                    output3_pooled(source + i * PIXEL, tiles.point_m, bias + block * PIXEL, low, start + i * m * PIXEL, row,
                                   small + i * 2 * PIXEL, take * 2 * PIXEL)
            if not direct:
                write_patch(target_picture, target, image, block, y, x, m, take * m, patch, row, spare)
            if pooled != 0:
                if y + m > target_picture.height or x + take * m > target_picture.width:
                    pool_edge(start, row, min(m, target_picture.height - y), min(take * m, target_picture.width - x), small,
                              take * 2 * PIXEL)
                write_patch(pooled_picture, pooled, image, block, y // 2, x // 2, m // 2, take * 2, small, take * 2 * PIXEL,
                            spare)
        done += take


@compiled
def pool_edge(source, row, rows, columns, target, target_row):
    """Pool a patch of which only rows x columns pixels are in the image; windows at its edge are smaller."""
    for y in range(0, rows, 2):
        for x in range(0, columns, 2):
            for lane in range(BLOCK):
                most = np.float32(-3.4028234663852886e38)
                for dy in range(min(2, rows - y)):
                    for dx in range(min(2, columns - x)):
                        value = get(source + (y + dy) * row + (x + dx) * PIXEL + lane * 4)
                        most = value if value > most else most
                put(target + y // 2 * target_row + x // 2 * PIXEL + lane * 4, most)


@compiled
def forward_cpu(first, last, tiles, source, source_picture, u, target, target_picture, bias, low, pooled, pooled_picture,
                memory, size_v, size, spare, own, counter, large):
    """Thread `first`'s part of a convolution; `pooled` is 0 or the address of the pooled picture.

    Items, numbered in one row: for each chunk its panels of V; then for each group of outputs the products, point by
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
    panel_m = tiles.group * GROUPS * ROWS * PIXEL
    chunks = (tiles.count + tiles.chunk - 1) // tiles.chunk
    groups = (tiles.panels + tiles.group - 1) // tiles.group
    inputs, multiplied, written = counter + LINE, counter + 2 * LINE, counter + 3 * LINE
    base, inputs_due, multiplied_due, written_due = 0, 0, 0, 0
    item = claim(counter) if chunk < chunks else 0
    while chunk < chunks:
        begin = chunk * tiles.chunk
        count = min(tiles.chunk, tiles.count - begin)
        rows = (count + ROWS - 1) // ROWS
        while item < base + rows:
            wait(multiplied, multiplied_due)  # V is free again
            row = item - base
            input_tiles(begin + row * ROWS, min(ROWS, count - row * ROWS), tiles, source, source_picture, v + row * panel_v,
                        tiles.point_v, spare, large)
            finished(inputs)
            item = claim(counter)
        base += rows
        inputs_due += rows
        for group in range(groups):
            held = group * tiles.group
            panels = min(tiles.group, tiles.panels - held)
            parts = (panels + tiles.item - 1) // tiles.item
            while item < base + points * parts:
                wait(inputs, inputs_due)
                wait(written, written_due)  # M is free again
                p, part = (item - base) // parts, (item - base) % parts
                products(p, held + part * tiles.item, held + min(panels, (part + 1) * tiles.item), held, rows, tiles, v, u, m)
                finished(multiplied)
                item = claim(counter)
            base += points * parts
            multiplied_due += points * parts
            while item < base + rows:
                wait(multiplied, multiplied_due)
                row = item - base
                output_tiles(begin + row * ROWS, min(ROWS, count - row * ROWS), tiles, m + row * panel_m, held, held + panels,
                             bias, low, target, target_picture, pooled, pooled_picture, spare, large)
                finished(written)
                item = claim(counter)
            base += rows
            written_due += rows
        chunk = claim(chunk_counter) if tiles.private else chunk + 1


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


def weight_gradient(image, error, pad, gradient):
    """Add the gradient of 3 x 3 weights to `gradient` (M, C, 3, 3); `image` (N, C, H, W), `error` (N, M, oh, ow)."""
    weight_gradient_pictures(address(image), picture(image), address(error), picture(error), pad, gradient)


def weight_gradient_pictures(source, source_picture, error, error_picture, pad, gradient):
    """As `weight_gradient`, for pictures of any layout at addresses; `gradient` is a contiguous array."""
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
                chunk * panels * COLUMNS * 4 + SKEW, blocks * BLOCK * panels * COLUMNS * 4)
    threads = parallel.threads()
    own = (6 * (4 * BLOCK + BLOCK) + 3 * BLOCK) * PIXEL
    memory = scratch(36 * (sums.point_v + sums.point_d + sums.point_u) + threads * own, "sums")
    count = counters()
    parallel.run(weight_gradient_cpu, threads, sums, source, source_picture, error, error_picture, address(gradient),
                 address(memory), own, address(count), work=sums.count * 36 * channels * outputs // 32)


GRADIENT_CACHED = 12 << 20  # bytes of V and D of a chunk


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
        take = min(min(count, first + BLOCK) - done, sums.across - tx)
        for block in range(sums.blocks):
            row = (take * 4 + 2) * PIXEL
            read_patch(source_picture, source, image, block, ty * 4 - sums.pad_y, tx * 4 - sums.pad_x, 6, take * 4 + 2, patch,
                       row, spare)
            for i in range(take):
                input3(patch + i * 4 * PIXEL, row, PIXEL, v + (block * sums.chunk + done + i) * PIXEL, 6 * sums.point_v,
                       sums.point_v)
        for group in range(sums.panels * GROUPS):
            row = take * 4 * PIXEL
            if group * BLOCK < error_picture.channels:
                read_patch(error_picture, error, image, group, ty * 4, tx * 4, 4, take * 4, patch, row, spare)
            else:
                for i in range(16 * take):
                    zero16(patch + i * PIXEL)
            for i in range(take):
                target = d + ((group // GROUPS * sums.chunk + done + i) * GROUPS + group % GROUPS) * PIXEL
                error3(patch + i * 4 * PIXEL, row, PIXEL, target, 6 * sums.point_d, sums.point_d)
        done += take


@compiled
def weight_gradient_cpu(first, last, sums, source, source_picture, error, error_picture, gradient, memory, own, counter):
    """Items, numbered in one row: for each chunk its transforms, then the sums for each point; at the end the weights."""
    v = memory
    d = v + 36 * sums.point_v
    u = d + 36 * sums.point_d
    spare = u + 36 * sums.point_u + first * own
    inputs, outputs = source_picture.channels, error_picture.channels
    transformed, added = counter + LINE, counter + 2 * LINE
    chunks = (sums.count + sums.chunk - 1) // sums.chunk
    parts = (sums.panels + PANELS - 1) // PANELS
    base, transformed_due, added_due = 0, 0, 0
    item = claim(counter)
    for chunk in range(chunks):
        begin = chunk * sums.chunk
        count = min(sums.chunk, sums.count - begin)
        steps = (count + BLOCK - 1) // BLOCK
        rest = (count - (steps - 1) * BLOCK + 3) // 4 * 4
        while item < base + steps:
            wait(added, added_due)
            gradient_tiles((item - base) * BLOCK, begin, count, sums, source, source_picture, error, error_picture, v, d,
                           spare)
            finished(transformed)
            item = claim(counter)
        base += steps
        transformed_due += steps
        while item < base + 36 * parts:
            wait(transformed, transformed_due)
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
    groups = (outputs + BLOCK - 1) // BLOCK
    while item < base + sums.blocks * groups:
        wait(added, added_due)
        block, group = (item - base) // groups, (item - base) % groups
        for lane in range(min(BLOCK, inputs - block * BLOCK)):
            channel = block * BLOCK + lane
            gradient3(u + (group // GROUPS * sums.blocks * BLOCK + channel) * COLUMNS * 4 + group % GROUPS * PIXEL,
                      6 * sums.point_u, sums.point_u, spare, 3 * PIXEL, PIXEL)
            for m in range(min(BLOCK, outputs - group * BLOCK)):
                target = gradient + ((group * BLOCK + m) * inputs + channel) * 36
                for tap in range(9):
                    put(target + tap * 4, get(target + tap * 4) + get(spare + tap * PIXEL + m * 4))
        item = claim(counter)
