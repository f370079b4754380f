"""Sums of each channel over the pixels of all images: the gradient of a bias.

Each image's rows are summed pixel after pixel in float64, then the images, in order; the total is rounded once. The order is
the same for images in NCHW and in blocks, and whatever the number of threads: a block of 16 channels of an image is one item.
"""

import numpy as np
from numba import types

from layers.core.cpu import parallel
from layers.core.cpu.blocked import read_patch
from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, ISA, PIXEL
from layers.core.cpu.memory import address, aligned
from layers.core.cpu.moves import own_part
from layers.core.cpu.vector_ir import ADDRESS, DOUBLE, FLOAT, INT64, Emitter, emitted

RUN = 256  # pixels of an NCHW row that are turned into blocks at a time


def bias_gradient_pictures(source, source_picture, bias):
    """Add the sums of pictures (N, M, H, W), in either layout, to `bias` (M,) float32."""
    images, channels, height, width = source_picture[:4]
    if images * channels * height * width == 0:
        return
    blocks = -(-channels // BLOCK)
    sums = np.zeros((images, blocks, BLOCK))
    spare = aligned((parallel.threads(), (RUN + 2 * BLOCK) * BLOCK))
    parallel.run(sums_cpu, images * blocks, source, source_picture, address(sums), address(spare), spare.strides[0],
                 parallel.threads(), work=images * channels * height * width)
    with np.errstate(all="ignore"):
        bias += sums.sum(axis=0).reshape(-1)[:channels].astype(np.float32)


@compiled
def sums_cpu(first, last, source, source_picture, sums, spare, own, threads):
    """Sum items [first, last), blocks of the images, into 16 doubles each."""
    blocks = (source_picture.channels + BLOCK - 1) // BLOCK
    spare = own_part(spare, own, first, source_picture.images * blocks, threads)
    patch = spare + 2 * BLOCK * PIXEL
    height, width = source_picture.height, source_picture.width
    for item in range(first, last):
        image, block = item // blocks, item % blocks
        for y in range(height):
            if source_picture.blocked:
                line = source + image * source_picture.image + block * source_picture.plane + y * source_picture.row
                add_pixels(line, width, sums + item * BLOCK * 8)
                continue
            for x in range(0, width, RUN):
                columns = min(RUN, width - x)
                read_patch(source_picture, source, image, block, y, x, 1, columns, patch, RUN * PIXEL, spare)
                add_pixels(patch, columns, sums + item * BLOCK * 8)


def _add_pixels(builder, source, count, sums):
    emitter = Emitter(builder, ISA.width, DOUBLE)
    parts = range(0, BLOCK, ISA.width)
    where = builder.inttoptr(sums, DOUBLE.as_pointer())
    kept = [builder.bitcast(builder.gep(where, [emitter.number(part)]), emitter.vector.as_pointer()) for part in parts]
    begun = [builder.load(pointer) for pointer in kept]
    for value in begun:
        value.align = 8
    first_pixel = emitter.pointer(source)
    entry, loop, end = builder.block, builder.append_basic_block("pixels"), builder.append_basic_block("pixels_end")
    builder.branch(loop)
    builder.position_at_end(loop)
    i, pixel = builder.phi(INT64), builder.phi(FLOAT.as_pointer())
    totals = [builder.phi(emitter.vector) for _ in parts]
    added = [builder.fadd(total, emitter.load(pixel, part)) for total, part in zip(totals, parts)]
    following = builder.add(i, emitter.number(1))
    for node, first, again in zip((i, pixel, *totals), (emitter.number(0), first_pixel, *begun),
                                  (following, emitter.moved(pixel, BLOCK), *added)):
        node.add_incoming(first, entry)
        node.add_incoming(again, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
    builder.position_at_end(end)
    for value, pointer in zip(added, kept):
        builder.store(value, pointer).align = 8


add_pixels = emitted("add_pixels", [types.void] + [ADDRESS] * 3, _add_pixels)  # (pixels, how many > 0, 16 doubles)
