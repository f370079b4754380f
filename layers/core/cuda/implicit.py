"""Convolutions on a card as products of tiles, without ever laying out the columns in memory ("implicit GEMM").

`slide` is a product of the weights (rows) and pixels (columns) whose sum runs over channels and taps: forward, and, with what
is known of the taps written down differently, the image's gradient. With a stride its pixels fall into stride_y stride_x
phases, by the taps that reach them; each is a convolution of stride 1 of the output's gradient. `slope` is the product of the
output's gradient (rows) and the image at each channel and tap (columns) whose sum runs over all pixels: the gradient of the
weights.

Tables of a convolution's terms, 4 ints each, lie on the card: (channel, dy, dx, place in the weights). A row's term reads the
source at (channel, y0 + dy, x0 + dx), which is 0 outside of it, as in the padding. They do not depend on the image's size.
"""

import numpy as np

from layers.core.cuda import tiles
from layers.core.cuda.kernel import cuda, kernel, ptx
from layers.core.cuda.tiles import (
    FLOAT32,
    MARGIN,
    PITCH,
    SHAPES,
    SINGLE,
    STAGES,
    STEP,
    THREADS,
    copy_block,
    multiply_float32,
    multiply_tensor,
    put,
)

NOWHERE = -(1 << 30)  # a row of the source that is outside whatever is added


def forward_terms(channels, kernel, pad, dilation):
    """Return the table (1, channels * taps, 4) of a convolution, in the order of its weights."""
    c, ky, kx = np.meshgrid(np.arange(channels), np.arange(kernel[0]), np.arange(kernel[1]), indexing="ij")
    terms = np.stack([c, ky * dilation[0] - pad[0], kx * dilation[1] - pad[1], (c * kernel[0] + ky) * kernel[1] + kx], -1)
    return np.ascontiguousarray(terms.reshape(1, -1, 4), np.int32)


def image_terms(channels, outputs, kernel, stride, pad, dilation):
    """Return the table (phases, terms, 4) of a convolution's image gradient: a phase's terms in the order of the outputs.

    Pixel j of phase p is pixel j * stride + p of the image; tap k reaches it from output j + (p + pad - k * dilation) / stride
    where that is whole. Phases with fewer taps than others are filled up with terms that are nowhere.
    """
    reached = []
    for phase in range(stride[0] * stride[1]):
        axes = [[(k, (p + pad[axis] - k * dilation[axis]) // stride[axis]) for k in range(kernel[axis])
                 if (p + pad[axis] - k * dilation[axis]) % stride[axis] == 0]
                for axis, p in enumerate(divmod(phase, stride[1]))]
        reached.append([(dy, dx, ky * kernel[1] + kx) for ky, dy in axes[0] for kx, dx in axes[1]])
    most = max(1, *map(len, reached))
    taps = np.array([one + [(NOWHERE, 0, 0)] * (most - len(one)) for one in reached], np.int64)
    terms = np.zeros((len(reached), outputs, most, 4), np.int64)
    terms[..., 0] = np.arange(outputs)[:, None]
    terms[..., 1:] = taps[:, None]
    terms[..., 3] += np.arange(outputs)[:, None] * (channels * kernel[0] * kernel[1])
    return np.ascontiguousarray(terms.reshape(len(reached), -1, 4), np.int32)


def image_depth(outputs, kernel, stride, pad, dilation):
    """Return how many terms a phase has in `image_terms`."""
    most = [max(sum((p + pad[axis] - k * dilation[axis]) % stride[axis] == 0 for k in range(kernel[axis]))
                for p in range(stride[axis])) for axis in range(2)]
    return outputs * max(1, most[0] * most[1])


def slide(card, how, terms, weight, bias, source, target, batch, group, rows, row_pitch, group_pitch, source_shape, target_shape,
          step, phases, in_order, rectify=False):
    """Queue a convolution.

    Parameters
    ----------
    how : int
        An arithmetic of `layers.core.cuda.tiles`.
    terms : (Span, int)
        The table, and how many terms a phase has.
    weight, source, target : Span
    bias : Span or None
        One for each channel of the target.
    batch, group, rows : int
        Images, groups, and channels of a group's target.
    row_pitch, group_pitch : int
        Weights between two channels of the target, and between two groups.
    source_shape, target_shape : (int, int, int)
        Channels (of all groups), height and width.
    step, phases : (int, int)
        How far the source moves for a pixel of a phase, and the strides of the target.
    in_order : bool
        Whether term k is weight k of a row, and rows lie one after the other.
    rectify : bool
        Clamp at 0; NaN stays NaN.
    """
    table, depth = terms
    number, height, width, row_tiles, blocks, count = _slide_sizes(batch, rows, target_shape, phases)
    if not count:
        return
    many = group * phases[0] * phases[1]
    parts, each = tiles.parts_for(card, blocks * many, -(-depth // STEP), count)
    wide = in_order and depth % 4 == 0
    partial = card.arena.borrow(tiles.bytes_of(parts, count)) if parts > 1 else None
    card.launch(SLIDES[how, number], (blocks, many, parts), weight, source, weight if bias is None else bias, table,
                target if partial is None else partial.span, rows, depth, row_pitch, group_pitch, row_tiles, each * STEP,
                source_shape[0] // group, *source_shape, *target_shape, *step, *phases, height, width, batch, wide,
                bias is not None, rectify, count)
    if partial is not None:
        tiles.finish(card, partial.span, parts, target, count, bias, target_shape[0], target_shape[1] * target_shape[2],
                     rectify=rectify)


def _slide_sizes(batch, rows, target_shape, phases):
    """Return the number of the shape of tiles, height and width of a phase, tiles along the rows and in all, values."""
    number = tiles.shape_for(rows)
    height, width = (-(-size // stride) for size, stride in zip(target_shape[1:], phases))
    row_tiles = -(-rows // SHAPES[number][0])
    return (number, height, width, row_tiles, row_tiles * -(-(batch * height * width) // SHAPES[number][1]),
            batch * target_shape[0] * target_shape[1] * target_shape[2])


def slide_bytes(card, depth, batch, group, rows, target_shape, phases):
    """Return the bytes that `slide` borrows; `depth`: terms of a phase."""
    *_, blocks, count = _slide_sizes(batch, rows, target_shape, phases)
    return tiles.bytes_of(tiles.parts_for(card, blocks * group * phases[0] * phases[1], -(-depth // STEP), count)[0], count)


def slope(card, how, terms, image, error, weight, batch, group, rows, image_shape, error_shape, stride):
    """Queue weight += the gradient of a convolution's weights; `error` is that of its output, shapes are as in `slide`."""
    table, depth = terms
    number, row_tiles, blocks = _slope_sizes(rows, depth)
    pixels, count = batch * error_shape[1] * error_shape[2], group * rows * depth
    if not pixels:
        return
    parts, each = tiles.parts_for(card, blocks * group, -(-pixels // STEP), count)
    partial = card.arena.borrow(tiles.bytes_of(parts, count)) if parts > 1 else None
    card.launch(SLOPES[how, number], (blocks, group, parts), error, image, table, weight if partial is None else partial.span,
                rows, depth, row_tiles, each * STEP, image_shape[0] // group, *image_shape, *error_shape, *stride, pixels,
                error_shape[1] * error_shape[2] % 4 == 0, count)
    if partial is not None:
        tiles.finish(card, partial.span, parts, weight, count, beta=1)


def _slope_sizes(rows, depth):
    """Return the number of the shape of tiles, tiles along the rows, tiles in all."""
    number = tiles.shape_for(rows)
    row_tiles = -(-rows // SHAPES[number][0])
    return number, row_tiles, row_tiles * -(-depth // SHAPES[number][1])


def slope_bytes(card, depth, pixels, group, rows):
    """Return the bytes that `slope` borrows; `pixels`: of all images."""
    count = group * rows * depth
    return tiles.bytes_of(tiles.parts_for(card, _slope_sizes(rows, depth)[-1] * group, -(-pixels // STEP), count)[0], count)


def _make_slide(how, number):
    rows_of_tile, columns = SHAPES[number]
    tensor, warps = how != FLOAT32, rows_of_tile // 64
    pitch, lines, a_size = columns + MARGIN, THREADS // columns, rows_of_tile * PITCH
    stage, ahead, left = a_size + STEP * pitch, STAGES[how] - 1, STAGES[how] - 2

    @kernel("float*, float*, float*, int*, float*" + ", int" * 20 + ", bool, bool, bool, long", THREADS, 4 * STAGES[how] * stage,
            tiles.since(how), f"slide_{tiles.NAMES[how]}_{rows_of_tile}_cuda")
    def slide_cuda(w, x, bias, table, y, rows, depth, row_pitch, group_pitch, row_tiles, each, x_group, x_channels, x_height,
                   x_width, y_channels, y_height, y_width, step_y, step_x, stride_y, stride_x, height, width, batch, wide,
                   biased, rectify, count):
        """One tile a block: blockIdx.y is the group and phase, blockIdx.z the part of the sum."""
        tile = cuda.shared.array(0, SINGLE)
        sums = cuda.local.array(64, SINGLE)
        for i in range(64):
            sums[i] = 0
        thread = cuda.threadIdx.x
        lane, warp = thread & 31, thread >> 5
        row = cuda.blockIdx.x % row_tiles * rows_of_tile
        phase, group = cuda.blockIdx.y % (stride_y * stride_x), cuda.blockIdx.y // (stride_y * stride_x)
        warp_row, warp_column = warp % warps * 64, warp // warps * 32
        first = cuda.blockIdx.z * each
        end = min(first + each, depth)
        # A thread brings, and writes, values of one pixel.
        pixel = cuda.blockIdx.x // row_tiles * columns + thread % columns
        line = ptx.quotient(pixel, width)
        n = ptx.quotient(line, height)
        py, px = line - n * height, pixel - line * width
        plane = ptx.place(ptx.place(n, x_channels, group * x_group), x_height, 0)
        y0, x0 = py * step_y if n < batch else NOWHERE, px * step_x
        weights, terms = group * group_pitch, phase * depth * 4
        here, there = 0, 0
        for step in range(first - ahead * STEP, end, STEP):
            if step >= first:
                ptx.wait_copies(left)
                cuda.syncthreads()
            at, coming = there * stage, step + ahead * STEP
            if wide:
                copy_block(tile, at, PITCH, rows_of_tile, STEP, w, weights, row_pitch, row, coming, rows, end, True, thread)
            else:
                k = coming + thread % STEP
                inside = k < end
                weight = table[terms + 4 * k + 3] if inside else 0
                inside = inside and table[terms + 4 * k + 1] > NOWHERE
                for i in range(rows_of_tile * STEP // THREADS):
                    m = i * (THREADS // STEP) + thread // STEP
                    ptx.copy4(tile, at + m * PITCH + thread % STEP, w, ptx.place(row + m, row_pitch, weights + weight),
                              inside and row + m < rows)
            at += a_size + thread % columns
            for i in range(STEP // lines):
                k = i * lines + thread // columns
                c, dy, dx, _ = ptx.load4(table, terms + 4 * (coming + k if coming + k < end else first), 0)
                sy, sx = y0 + dy, x0 + dx
                ptx.copy4(tile, at + k * pitch, x, ptx.place(ptx.place(c, x_height, plane + sy), x_width, sx),
                          coming + k < end and ptx.within(sy, x_height) and ptx.within(sx, x_width))
            ptx.end_copies()
            there = there + 1 if there < ahead else 0
            if step >= first:
                at = here * stage
                if tensor:
                    multiply_tensor(tile, at + warp_row * PITCH, at + a_size + warp_column, PITCH, 1, pitch, 1, lane, how, sums)
                else:
                    multiply_float32(tile, at + warp_row * PITCH, at + a_size + warp_column, PITCH, 1, pitch, 1, lane, sums)
                here = here + 1 if here < ahead else 0
        ptx.wait_copies(0)
        whole, zero = cuda.gridDim.z == 1, np.float32(0)
        oy, ox = py * stride_y + phase // stride_x, px * stride_x + phase % stride_x
        inside = n < batch and oy < y_height and ox < y_width
        target = cuda.blockIdx.z * count + ((n * y_channels + group * rows) * y_height + oy) * y_width + ox
        for half in range(2):
            cuda.syncthreads()
            put(tile, pitch, warp_row // 2, warp_column, lane, how, sums, half)
            cuda.syncthreads()
            for line in range(thread // columns, rows_of_tile // 2, lines):
                m = row + line // 32 * 64 + half * 32 + line % 32
                if m < rows and inside:
                    total = ptx.load(tile, line * pitch + thread % columns, 0)
                    if whole:
                        if biased:
                            total += bias[group * rows + m]
                        if rectify and total <= zero:
                            total = zero
                    y[target + m * y_height * y_width] = total

    return slide_cuda


def _make_slope(how, number):
    rows_of_tile, columns = SHAPES[number]
    tensor, warps = how != FLOAT32, rows_of_tile // 64
    pitch, lines, a_size = columns + MARGIN, THREADS // columns, rows_of_tile * PITCH
    stage, ahead, left = a_size + columns * PITCH, STAGES[how] - 1, STAGES[how] - 2
    at_once = THREADS // STEP

    @kernel("float*, float*, int*, float*" + ", int" * 14 + ", bool, long", THREADS, 4 * STAGES[how] * stage, tiles.since(how),
            f"slope_{tiles.NAMES[how]}_{rows_of_tile}_cuda")
    def slope_cuda(dy, x, table, dw, rows, depth, row_tiles, each, x_group, x_channels, x_height, x_width, y_channels, y_height,
                   y_width, stride_y, stride_x, pixels, wide, count):
        """One tile a block: blockIdx.y is the group, blockIdx.z the part of the sum."""
        tile = cuda.shared.array(0, SINGLE)
        sums = cuda.local.array(64, SINGLE)
        for i in range(64):
            sums[i] = 0
        thread = cuda.threadIdx.x
        lane, warp = thread & 31, thread >> 5
        row, column = cuda.blockIdx.x % row_tiles * rows_of_tile, cuda.blockIdx.x // row_tiles * columns
        group, area = cuda.blockIdx.y, y_height * y_width
        warp_row, warp_column = warp % warps * 64, warp // warps * 32
        first = cuda.blockIdx.z * each
        end = min(first + each, pixels)
        here, there = 0, 0
        for step in range(first - ahead * STEP, end, STEP):
            if step >= first:
                ptx.wait_copies(left)
                cuda.syncthreads()
            at, coming = there * stage, step + ahead * STEP
            # A thread brings values of one pixel, with `wide` of the error 4 side by side, which one image has.
            k = coming + thread % STEP
            n = ptx.quotient(k, area)
            p = ptx.place(-n, area, k)
            if wide:
                q = coming + thread % 4 * 4
                error = ptx.place(ptx.place(ptx.quotient(q, area), y_channels - 1, group * rows), area, q)
                for i in range(rows_of_tile * 4 // THREADS):
                    m = i * (THREADS // 4) + thread // 4
                    ptx.copy16(tile, at + m * PITCH + thread % 4 * 4, dy, ptx.place(row + m, area, error),
                               q < end and row + m < rows)
            else:
                error = ptx.place(ptx.place(n, y_channels, group * rows), area, p)
                for i in range(rows_of_tile // at_once):
                    m = i * at_once + thread // STEP
                    ptx.copy4(tile, at + m * PITCH + thread % STEP, dy, ptx.place(row + m, area, error),
                              k < end and row + m < rows)
            plane = ptx.place(ptx.place(n, x_channels, group * x_group), x_height, 0)
            line = ptx.quotient(p, y_width)
            y0, x0 = ptx.place(line, stride_y, 0) if k < end else NOWHERE, ptx.place(p - line * y_width, stride_x, 0)
            at += a_size + thread % STEP
            for i in range(columns // at_once):
                j = i * at_once + thread // STEP
                c, ky, kx, _ = ptx.load4(table, 4 * (column + j if column + j < depth else 0), 0)
                sy, sx = y0 + ky, x0 + kx
                ptx.copy4(tile, at + j * PITCH, x, ptx.place(ptx.place(c, x_height, plane + sy), x_width, sx),
                          ptx.within(sy, x_height) and ptx.within(sx, x_width))
            ptx.end_copies()
            there = there + 1 if there < ahead else 0
            if step >= first:
                at = here * stage
                if tensor:
                    multiply_tensor(tile, at + warp_row * PITCH, at + a_size + warp_column * PITCH, PITCH, 1, 1, PITCH, lane, how,
                                    sums)
                else:
                    multiply_float32(tile, at + warp_row * PITCH, at + a_size + warp_column * PITCH, PITCH, 1, 1, PITCH, lane,
                                     sums)
                here = here + 1 if here < ahead else 0
        ptx.wait_copies(0)
        whole = cuda.gridDim.z == 1
        target = cuda.blockIdx.z * count + group * rows * depth
        column += thread % columns
        for half in range(2):
            cuda.syncthreads()
            put(tile, pitch, warp_row // 2, warp_column, lane, how, sums, half)
            cuda.syncthreads()
            for line in range(thread // columns, rows_of_tile // 2, lines):
                m = row + line // 32 * 64 + half * 32 + line % 32
                if m < rows and column < depth:
                    total = ptx.load(tile, line * pitch + thread % columns, 0)
                    if whole:
                        total += dw[target + m * depth + column]
                    dw[target + m * depth + column] = total

    return slope_cuda


SLIDES = {(how, number): _make_slide(how, number) for how in range(3) for number in range(len(SHAPES))}
SLOPES = {(how, number): _make_slope(how, number) for how in range(3) for number in range(len(SHAPES))}
