"""Ranges of channels copied between blocked pictures: Concat and Slice.

A channel's lane in its block of 16 may differ in the two pictures: each block of the target is then made of the upper lanes
of one block of the source and the lower ones of the next, both loaded at a shifted place.
"""

from numba import types

from layers.core.cpu import parallel
from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, PIXEL
from layers.core.cpu.moves import copy
from layers.core.cpu.vector_ir import ADDRESS, Emitter, emitted


def copy_channels(source, source_picture, first_channel, target, target_picture, at_channel, count):
    """Copy channels [first_channel, first_channel + count) of `source` to `target`, from channel `at_channel` on.

    Both are addresses of blocked pictures with the same images, height and width; they do not overlap. No other channel
    of the target is written, nor its border.
    """
    if count <= 0 or source_picture.images * source_picture.height * source_picture.width == 0:
        return
    blocks = (at_channel + count - 1) // BLOCK - at_channel // BLOCK + 1
    rows = source_picture.images * blocks * source_picture.height
    parallel.run(copy_channels_cpu, rows, source, source_picture, first_channel, target, target_picture, at_channel, count,
                 blocks, work=rows * source_picture.width * BLOCK)


def _join(masked):
    """Return what emits `join16`, reading only the lanes that are wanted, or `join_inside16`, reading all 16 of each."""

    def emit(builder, target, lower, upper, cut, low, high):
        e = Emitter(builder)
        for part in range(0, BLOCK, e.width):
            begin, end, first = (e.first(builder.sub(lane, e.number(part))) for lane in (low, high, cut))
            wanted, place = builder.and_(end, builder.not_(begin)), e.moved(e.pointer(target), part)
            one, other = (e.moved(e.pointer(source), part) for source in (lower, upper))
            if masked:
                one = e.load_first(one, builder.and_(wanted, first))
                other = e.load_first(other, builder.and_(wanted, builder.not_(first)))
            else:
                one, other = e.load(one), e.load(other)
            e.store(builder.select(wanted, builder.select(first, one, other), e.load(place)), place)

    return emit


# (target, lower, upper, cut, low, high): lanes [low, high) of the target: those before `cut` from the address `lower`, the
# others from `upper`, each from the place that the lane has in the target.
join16 = emitted("join16", [types.void] + [ADDRESS] * 6, _join(masked=True))
join_inside16 = emitted("join_inside16", [types.void] + [ADDRESS] * 6, _join(masked=False))


@compiled
def copy_channels_cpu(first, last, source, source_picture, first_channel, target, target_picture, at_channel, count, blocks):
    """Rows [first, last), counted over images and blocks of the target."""
    height, width = source_picture.height, source_picture.width
    for index in range(first, last):
        y, block, image = index % height, index // height % blocks + at_channel // BLOCK, index // (height * blocks)
        line = target + image * target_picture.image + block * target_picture.plane + y * target_picture.row
        origin = source + image * source_picture.image + y * source_picture.row
        low, high = max(0, at_channel - block * BLOCK), min(BLOCK, at_channel + count - block * BLOCK)
        channel = first_channel + block * BLOCK - at_channel  # of the source, for lane 0; may be before the first
        shift = channel % BLOCK
        lower = origin + channel // BLOCK * source_picture.plane + shift * 4
        upper = lower + source_picture.plane - PIXEL
        if shift == 0 and low == 0 and high == BLOCK:
            copy(line, lower, width * BLOCK)
            continue
        cut = BLOCK - shift
        if cut <= low:  # there may be no such block
            lower = upper
        elif cut >= high:
            upper = lower
        for x in range(1, width - 1):
            join_inside16(line + x * PIXEL, lower + x * PIXEL, upper + x * PIXEL, cut, low, high)
        for x in (0, width - 1):  # 16 floats from a shifted place would reach beyond the row
            join16(line + x * PIXEL, lower + x * PIXEL, upper + x * PIXEL, cut, low, high)
