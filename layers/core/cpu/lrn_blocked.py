"""Local response normalisation across channels, of blocked pictures: forward and backward.

    y  = x scale^-beta,  scale = k + alpha sum x^2 over the 2 half + 1 channels around
    dx = dy scale^-beta - 2 alpha beta x sum (dy y / scale) over the same channels

The values are those of `layers.lrn`, bit for bit: neighbours are summed in order, in float32; beta 0.75 by two square
roots, any other by the same power function. For a run of pixels the squares of all channels are laid side by side, with
zeros before the first and after the last, so that 16 neighbours' sums are a few vectors loaded at shifted places.

Pictures are pairs of an address and a `Picture`, all blocked and of one size. `alpha` is Caffe's divided by local_size.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from layers.core.cpu import parallel
from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, PIXEL
from layers.core.cpu.memory import address, scratch
from layers.core.cpu.moves import add16, get, own_part, put, zero, zero16
from layers.core.cpu.vector_ir import ADDRESS, Emitter, emitted

RUN = 32  # pixels at a time: for 192 channels their squares are 28 KiB, what a first-level cache holds
USUAL = 5  # local_size that most nets have: its sum is written out


def across_pictures(half, alpha, beta, k, source, source_picture, target, target_picture, scale=None):
    """Write y. `scale`, if given, is (address, Picture) of where to write the denominators before their power."""
    _run(across_cpu, 4, half, source_picture, np.float32(alpha), np.float32(beta), np.float32(k), source, source_picture, target,
         target_picture, *((0, target_picture) if scale is None else scale))


def across_backward_pictures(half, alpha, beta, k, source, source_picture, top, top_picture, error, error_picture, image_error,
                             image_error_picture):
    """Write dx for x at `source`, y at `top` and dy at `error`; scale is made again from x. dx may be dy."""
    _run(across_backward_cpu, 8, half, source_picture, np.float32(alpha), np.float32(beta), np.float32(k), source,
         source_picture, top, top_picture, error, error_picture, image_error, image_error_picture)


def _run(kernel, cost, half, picture, *arguments):
    blocks = -(-picture.channels // BLOCK)
    if picture.images * blocks * picture.height * picture.width == 0:
        return
    threads, margin = parallel.threads(), -(-half // BLOCK) * BLOCK
    line = (blocks * BLOCK + 2 * margin) * 4
    own = 3 * RUN * line  # squares, scales and ratios
    spare = scratch(threads * own, "lrn")
    parallel.run(kernel, picture.images * picture.height, half, *arguments, margin * 4, line, address(spare), own,
                 threads, work=cost * picture.images * blocks * BLOCK * picture.height * picture.width)


def _square16(builder, target, source):
    e = Emitter(builder)
    for part in range(0, BLOCK, e.width):
        value = e.load(e.pointer(source), part)
        e.store(builder.fmul(value, value), e.pointer(target), part)


def _sum_usual16(builder, target, source):
    e = Emitter(builder)
    for part in range(0, BLOCK, e.width):
        total = e.constant(0)
        for neighbour in range(-(USUAL // 2), USUAL // 2 + 1):
            total = builder.fadd(total, e.load(e.pointer(source), part + neighbour))
        e.store(total, e.pointer(target), part)


def _scale16(builder, target, alpha, k):
    e = Emitter(builder)
    for part in range(0, BLOCK, e.width):
        product = builder.fmul(e.spread(alpha), e.load(e.pointer(target), part))
        e.store(builder.fadd(e.spread(k), product), e.pointer(target), part)


def _damp16(builder, target, source, scale):
    e = Emitter(builder)
    for part in range(0, BLOCK, e.width):
        root = _root(e, e.load(e.pointer(scale), part))
        e.store(builder.fdiv(e.load(e.pointer(source), part), builder.fmul(root, _root(e, root))), e.pointer(target), part)


def _root(e, value):
    kind = ir.FunctionType(e.vector, [e.vector])
    return e.builder.call(cgutils.get_or_insert_function(e.builder.module, kind, f"llvm.sqrt.v{e.width}f32"), [value])


def _ratio16(builder, target, error, top, scale):
    e = Emitter(builder)
    for part in range(0, BLOCK, e.width):
        product = builder.fmul(e.load(e.pointer(error), part), e.load(e.pointer(top), part))
        e.store(builder.fdiv(product, e.load(e.pointer(scale), part)), e.pointer(target), part)


def _less16(builder, target, factor, source, total):
    e = Emitter(builder)
    for part in range(0, BLOCK, e.width):
        product = builder.fmul(builder.fmul(e.spread(factor), e.load(e.pointer(source), part)), e.load(e.pointer(total), part))
        e.store(builder.fsub(e.load(e.pointer(target), part), product), e.pointer(target), part)


square16 = emitted("square16", [types.void, ADDRESS, ADDRESS], _square16)  # target = source^2
sum_usual16 = emitted("sum_usual16", [types.void, ADDRESS, ADDRESS], _sum_usual16)  # of the 5 channels around each
scale16 = emitted("scale16", [types.void, ADDRESS, types.float32, types.float32], _scale16)  # target = k + alpha target
damp16 = emitted("damp16", [types.void] + [ADDRESS] * 3, _damp16)  # target = source scale^-3/4
ratio16 = emitted("ratio16", [types.void] + [ADDRESS] * 4, _ratio16)  # target = error top / scale
less16 = emitted("less16", [types.void, ADDRESS, types.float32, ADDRESS, ADDRESS], _less16)  # target -= factor source total


@compiled
def around(target, source, half):
    """Write the sums over the 2 half + 1 channels around each of 16."""
    if half == USUAL // 2:
        sum_usual16(target, source)
        return
    zero16(target)
    for neighbour in range(-half, half + 1):
        add16(target, source + neighbour * 4)


@compiled
def damp(target, source, scale, beta, lanes):
    """target = source scale^-beta of 16 channels, of which the first `lanes` count."""
    if beta == 0.75:
        damp16(target, source, scale)
    else:
        for lane in range(lanes):
            put(target + lane * 4, get(source + lane * 4) * get(scale + lane * 4) ** -beta)


@compiled
def clear_lanes(target, lanes):
    """Write zeros to the lanes from `lanes` on: missing channels, for which 0 / 0 or 0 NaN may have been computed."""
    for lane in range(lanes, BLOCK):
        put(target + lane * 4, np.float32(0))


@compiled
def scales(half, alpha, k, source, source_picture, count, squares, scale, margin, line):
    """Write squares and scales of all channels of `count` pixels, of the rows of `line` bytes."""
    blocks = (source_picture.channels + BLOCK - 1) // BLOCK
    for block in range(blocks):
        place, pixel = margin + block * PIXEL, source + block * source_picture.plane
        for i in range(count):
            square16(squares + i * line + place, pixel + i * PIXEL)
    for block in range(blocks):
        place = margin + block * PIXEL
        for i in range(count):
            around(scale + i * line + place, squares + i * line + place, half)
            scale16(scale + i * line + place, alpha, k)


@compiled
def clear_margins(lines, count, margin, line):
    """Write zeros before the first and after the last channel of each pixel's row."""
    for i in range(count):
        zero(lines + i * line, margin // 4)
        zero(lines + (i + 1) * line - margin, margin // 4)


@compiled
def across_cpu(first, last, half, alpha, beta, k, source, source_picture, target, target_picture, kept, kept_picture, margin,
               line, spare, own, threads):
    """Rows [first, last), counted over the images."""
    height, width, channels = source_picture.height, source_picture.width, source_picture.channels
    squares = own_part(spare, own, first, source_picture.images * height, threads)
    scale = squares + RUN * line
    clear_margins(squares, RUN, margin, line)
    for index in range(first, last):
        image, y = index // height, index % height
        for x in range(0, width, RUN):
            columns = min(RUN, width - x)
            pixel = source + image * source_picture.image + y * source_picture.row + x * PIXEL
            result = target + image * target_picture.image + y * target_picture.row + x * PIXEL
            scales(half, alpha, k, pixel, source_picture, columns, squares, scale, margin, line)
            for block in range((channels + BLOCK - 1) // BLOCK):
                lanes = min(BLOCK, channels - block * BLOCK)
                below = scale + margin + block * PIXEL
                for i in range(columns):
                    here = result + block * target_picture.plane + i * PIXEL
                    damp(here, pixel + block * source_picture.plane + i * PIXEL, below + i * line, beta, lanes)
                    clear_lanes(here, lanes)
                if kept != 0:
                    keep = kept + image * kept_picture.image + y * kept_picture.row + x * PIXEL + block * kept_picture.plane
                    for i in range(columns):
                        for lane in range(lanes):
                            put(keep + i * PIXEL + lane * 4, get(below + i * line + lane * 4))


@compiled
def across_backward_cpu(first, last, half, alpha, beta, k, source, source_picture, top, top_picture, error, error_picture,
                        image_error, image_error_picture, margin, line, spare, own, threads):
    """Rows [first, last), counted over the images."""
    height, width, channels = source_picture.height, source_picture.width, source_picture.channels
    factor = np.float32(2) * alpha * beta
    squares = own_part(spare, own, first, source_picture.images * height, threads)
    scale = squares + RUN * line
    ratios = scale + RUN * line
    clear_margins(squares, RUN, margin, line)
    clear_margins(ratios, RUN, margin, line)
    for index in range(first, last):
        image, y = index // height, index % height
        for x in range(0, width, RUN):
            columns = min(RUN, width - x)
            pixel = source + image * source_picture.image + y * source_picture.row + x * PIXEL
            scales(half, alpha, k, pixel, source_picture, columns, squares, scale, margin, line)
            above = top + image * top_picture.image + y * top_picture.row + x * PIXEL
            given = error + image * error_picture.image + y * error_picture.row + x * PIXEL
            result = image_error + image * image_error_picture.image + y * image_error_picture.row + x * PIXEL
            for block in range((channels + BLOCK - 1) // BLOCK):
                lanes, place = min(BLOCK, channels - block * BLOCK), margin + block * PIXEL
                for i in range(columns):
                    ratio = ratios + i * line + place
                    ratio16(ratio, given + block * error_picture.plane + i * PIXEL, above + block * top_picture.plane + i * PIXEL,
                            scale + i * line + place)
                    clear_lanes(ratio, lanes)
            for block in range((channels + BLOCK - 1) // BLOCK):
                lanes, place = min(BLOCK, channels - block * BLOCK), margin + block * PIXEL
                for i in range(columns):
                    total = squares + i * line + place  # the squares are no longer needed
                    around(total, ratios + i * line + place, half)
                    here = result + block * image_error_picture.plane + i * PIXEL
                    damp(here, given + block * error_picture.plane + i * PIXEL, scale + i * line + place, beta, lanes)
                    less16(here, factor, pixel + block * source_picture.plane + i * PIXEL, total)
                    clear_lanes(here, lanes)
