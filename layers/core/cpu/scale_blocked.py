"""Each channel of blocked pictures times a factor of its own, plus a bias of its own: Scale.

    y = x s + b, rounded after the product and after the sum, as `layers.scale` does it in NCHW: the same bits.
"""

import numpy as np
from numba import types

from layers.core.cpu import parallel
from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, ISA, PIXEL
from layers.core.cpu.memory import address
from layers.core.cpu.vector_ir import ADDRESS, FLOAT, INT64, Emitter, emitted


def scale_pictures(source, source_picture, factors, bias, target, target_picture):
    """Write source * factors (+ bias) to another picture, or the same; both blocked, of one size.

    `factors` and `bias` (or None) are float32 arrays of (channels,) or (1,).
    """
    picture = target_picture
    blocks = -(-picture.channels // BLOCK)
    both = np.zeros((2, blocks * BLOCK), np.float32)  # missing channels get zeros
    both[0, : picture.channels] = factors
    if bias is not None:
        both[1, : picture.channels] = bias
    rows = picture.images * blocks * picture.height
    if rows * picture.width:
        parallel.run(scale_rows_cpu, rows, source, source_picture, address(both), both.strides[0], int(bias is not None), target,
                     picture, work=rows * picture.width * BLOCK)


@compiled
def scale_rows_cpu(first, last, source, source_picture, factors, bias, biased, target, target_picture):
    """Rows [first, last), counted over images and blocks of channels; `bias` lies so many bytes behind the factors."""
    height = target_picture.height
    blocks = (target_picture.channels + BLOCK - 1) // BLOCK
    for index in range(first, last):
        y, block, image = index % height, index // height % blocks, index // (height * blocks)
        scale_pixels(source + image * source_picture.image + block * source_picture.plane + y * source_picture.row,
                     target + image * target_picture.image + block * target_picture.plane + y * target_picture.row,
                     target_picture.width, factors + block * PIXEL, factors + bias + block * PIXEL, biased)


def _scale_pixels(builder, source, target, count, factors, bias, biased):
    e = Emitter(builder)
    parts = range(0, BLOCK, ISA.width)
    scale, added = ([e.load(e.pointer(where), part) for part in parts] for where in (factors, bias))
    wanted = builder.icmp_signed("!=", biased, e.number(0))
    first_source, first_target = e.pointer(source), e.pointer(target)
    entry, loop, end = builder.block, builder.append_basic_block("pixels"), builder.append_basic_block("pixels_end")
    builder.branch(loop)
    builder.position_at_end(loop)
    i, now, onto = builder.phi(INT64), builder.phi(FLOAT.as_pointer()), builder.phi(FLOAT.as_pointer())
    for part, factor, more in zip(parts, scale, added):
        product = builder.fmul(e.load(now, part), factor)
        # A sum with 0 would turn -0 into 0.
        e.store(builder.select(wanted, builder.fadd(product, more), product), onto, part)
    following = builder.add(i, e.number(1))
    for node, begin, again in ((i, e.number(0), following), (now, first_source, e.moved(now, BLOCK)),
                               (onto, first_target, e.moved(onto, BLOCK))):
        node.add_incoming(begin, entry)
        node.add_incoming(again, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
    builder.position_at_end(end)


# (source, target, how many pixels > 0, 16 factors, 16 biases, whether to add them)
scale_pixels = emitted("scale_pixels", [types.void] + [ADDRESS] * 6, _scale_pixels)
