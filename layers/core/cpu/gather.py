"""Pixels gathered from one blocked picture into another by tables of rows and columns."""

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, PIXEL
from layers.core.cpu.memory import address
from layers.core.cpu.moves import copy16


def gather_around(values, rows, columns, target, target_picture, box):
    """Write to each pixel (y, x) of all images outside of `box` the one at (rows[y], columns[x]) of `values`.

    Parameters
    ----------
    values : ndarray (blocks, h, w, 16) float32
        C-contiguous.
    rows, columns : ndarray of int64
        As long as the target is high and wide.
    target, target_picture : address and Picture
        In blocks.
    box : (y0, y1, x0, x1)
    """
    picture = target_picture
    blocks = -(-picture.channels // BLOCK)
    parallel.run(gather_cpu, picture.images * blocks * picture.height, address(values), values.strides[0], values.strides[1],
                 rows.astype(np.int64), columns.astype(np.int64), target, picture, *box,
                 work=picture.images * blocks * picture.height * picture.width)


@compiled
def gather_cpu(first, last, values, plane, row, rows, columns, target, picture, y0, y1, x0, x1):
    """Rows [first, last), counted over images and blocks of channels."""
    blocks = (picture.channels + BLOCK - 1) // BLOCK
    for index in range(first, last):
        y, block, image = index % picture.height, index // picture.height % blocks, index // (picture.height * blocks)
        source = values + block * plane + rows[y] * row
        line = target + image * picture.image + block * picture.plane + y * picture.row
        inside = y0 <= y < y1
        for x in range(x0 if inside else picture.width):
            copy16(line + x * PIXEL, source + columns[x] * PIXEL)
        if inside:
            for x in range(x1, picture.width):
                copy16(line + x * PIXEL, source + columns[x] * PIXEL)
