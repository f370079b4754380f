"""Pooling of blocked pictures: MAX and AVE, forward and backward, vectors over 16 channels.

The values are those of `layers.pooling`, bit for bit: ties go to the first value in scan order, NaN loses against any
number, windows that hold nothing above -FLT_MAX give their first value that is not NaN, AVE sums in float64.

Pictures are pairs of an address and a `Picture`, all blocked, and agree in images and channels. `numbers` is an int64
array: kernel (height, width), stride, pad; the target's size says how it was rounded. Borders are not read. Lanes beyond
the last channel get zeros.

Backward of MAX keeps nothing from forward: the winners are found again in the bottom's data, which costs less than to
write and read their indices. Threads have rows of the bottom to themselves; each pixel adds up what it gets from
windows in scan order.
"""

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, PIXEL
from layers.core.cpu.memory import LINE, address, scratch
from layers.core.cpu.moves import get, own_part, put, zero, zero16
from layers.core.cpu.pool_ir import (
    LOWEST,
    add_shares,
    add_winners3,
    add_winners_any,
    average,
    largest2,
    largest3,
    largest_any,
    winners2,
    winners3,
    winners_any,
    write_winners2,
    write_winners_any,
)

LEAST = np.float32(LOWEST)
BANDS = 4  # of rows of the bottom for each thread, where images and blocks of channels are too few


def max_pictures(numbers, source, source_picture, target, target_picture, box=None):
    """Write the largest value of each window; `box` (y0, y1, x0, x1): only these pixels of the target."""
    _forward(max_cpu, numbers, source, source_picture, target, target_picture, box)


def average_pictures(numbers, source, source_picture, target, target_picture, box=None):
    """Write the sum of each window divided by its area, padding included up to one pad beyond the image."""
    _forward(average_cpu, numbers, source, source_picture, target, target_picture, box)


def max_backward_pictures(numbers, source, source_picture, error, error_picture, image_error, image_error_picture):
    """Write the gradient of MAX for the bottom, whose values are `source`."""
    _backward(max_backward_cpu, numbers, (source, source_picture), error, error_picture, image_error, image_error_picture)


def average_backward_pictures(numbers, error, error_picture, image_error, image_error_picture):
    """Write the gradient of AVE for the bottom."""
    _backward(average_backward_cpu, numbers, (), error, error_picture, image_error, image_error_picture)


def _forward(kernel, numbers, source, source_picture, target, target_picture, box):
    y0, y1, x0, x1 = (0, target_picture.height, 0, target_picture.width) if box is None else box
    rows = target_picture.images * -(-target_picture.channels // BLOCK) * max(0, y1 - y0)
    if rows * max(0, x1 - x0) == 0:
        return
    work = rows * (x1 - x0) * BLOCK * int(numbers[2] * numbers[3])
    parallel.run(kernel, rows, numbers, source, source_picture, target, target_picture, y0, y1, x0, x1, work=work)


def _backward(kernel, numbers, source, error, error_picture, image_error, image_error_picture):
    picture = image_error_picture
    planes = picture.images * -(-picture.channels // BLOCK)
    if planes * picture.height * picture.width == 0:
        return
    threads = parallel.threads()
    bands = max(1, min(-(-BANDS * threads // planes), picture.height // (2 * int(numbers[0]))))
    spare = scratch(threads * LINE, "pool")
    parallel.run(kernel, planes * bands, numbers, *source, error, error_picture, image_error, picture, bands, address(spare),
                 threads, work=planes * picture.height * picture.width * BLOCK)


@compiled
def plane_of(picture, start, index):
    """Return the address of pixel (0, 0) of one block, counted over images and blocks of channels."""
    blocks = (picture.channels + BLOCK - 1) // BLOCK
    return start + index // blocks * picture.image + index % blocks * picture.plane


@compiled
def lanes_of(picture, index):
    """Return how many channels a block has that is counted over images and blocks of channels."""
    blocks = (picture.channels + BLOCK - 1) // BLOCK
    return min(BLOCK, picture.channels - index % blocks * BLOCK)


@compiled
def clipped(first, length, size):
    """Return [low, high) of a window that begins at `first`, as far as it is in [0, size)."""
    return max(first, 0), min(first + length, size)


@compiled
def mend(target, source, row, rows, columns):
    """Give channels that found nothing above -FLT_MAX their first value that is not NaN, or their first."""
    for lane in range(BLOCK):
        if get(target + lane * 4) == LEAST:
            put(target + lane * 4, get(source + first_number(source + lane * 4, row, rows, columns) + lane * 4))


@compiled
def first_number(source, row, rows, columns):
    """Return the offset of the first value of a window that is not NaN, or 0."""
    for y in range(rows):
        for x in range(columns):
            if not np.isnan(get(source + y * row + x * PIXEL)):
                return y * row + x * PIXEL
    return 0


@compiled
def max_cpu(first, last, numbers, source, source_picture, target, target_picture, y0, y1, x0, x1):
    """Rows [first, last) of the box, counted over images and blocks of channels."""
    height, width, row = source_picture.height, source_picture.width, source_picture.row
    for index in range(first, last):
        plane, y = index // (y1 - y0), y0 + index % (y1 - y0)
        top, bottom = clipped(y * numbers[2] - numbers[4], numbers[0], height)
        line = plane_of(source_picture, source, plane) + top * row
        place = plane_of(target_picture, target, plane) + y * target_picture.row + x0 * PIXEL
        for x in range(x0, x1):
            left, right = clipped(x * numbers[3] - numbers[5], numbers[1], width)
            rows, columns, window = bottom - top, right - left, line + left * PIXEL
            if rows == 2 and columns == 2:
                missing = largest2(place, window, row, rows, columns)
            elif rows == 3 and columns == 3:
                missing = largest3(place, window, row, rows, columns)
            elif rows > 0 and columns > 0:
                missing = largest_any(place, window, row, rows, columns)
            else:  # the window is outside of the image
                missing = 0
                zero16(place)
                for lane in range(lanes_of(target_picture, plane)):
                    put(place + lane * 4, LEAST)
            if missing:
                mend(place, window, row, rows, columns)
            place += PIXEL


@compiled
def area_at(first, length, size, pad):
    """Return the part of AVE's area along one axis: the window's length, clipped one pad beyond the image."""
    return max(0, min(first + length, size + pad) - first)


@compiled
def average_cpu(first, last, numbers, source, source_picture, target, target_picture, y0, y1, x0, x1):
    """Rows [first, last) of the box, counted over images and blocks of channels."""
    height, width, row = source_picture.height, source_picture.width, source_picture.row
    for index in range(first, last):
        plane, y = index // (y1 - y0), y0 + index % (y1 - y0)
        top, bottom = clipped(y * numbers[2] - numbers[4], numbers[0], height)
        tall = area_at(y * numbers[2] - numbers[4], numbers[0], height, numbers[4])
        line = plane_of(source_picture, source, plane) + top * row
        place = plane_of(target_picture, target, plane) + y * target_picture.row + x0 * PIXEL
        for x in range(x0, x1):
            left, right = clipped(x * numbers[3] - numbers[5], numbers[1], width)
            area = tall * area_at(x * numbers[3] - numbers[5], numbers[1], width, numbers[5])
            if bottom > top and right > left:
                average(place, line + left * PIXEL, row, np.float64(area), bottom - top, right - left)
            else:
                zero16(place)
            place += PIXEL


@compiled
def touching(numbers, low, high, rows):
    """Return the rows [first, last) of windows, of `rows`, that touch rows [low, high) of the image."""
    kernel, stride, pad = numbers[0], numbers[2], numbers[4]
    first = max(0, (low + pad - kernel) // stride + 1)
    return first, max(first, min(rows, (high - 1 + pad) // stride + 1))


@compiled
def max_backward_cpu(first, last, numbers, source, source_picture, error, error_picture, image_error, image_error_picture,
                     bands, spare, threads):
    """Bands [first, last) of the bottom's rows, counted over images and blocks of channels."""
    height, width, row = source_picture.height, source_picture.width, source_picture.row
    error_row = image_error_picture.row
    count = image_error_picture.images * ((image_error_picture.channels + BLOCK - 1) // BLOCK) * bands
    places = own_part(spare, LINE, first, count, threads)
    tiled = numbers[0] == numbers[2] and numbers[1] == numbers[3]  # each pixel is in one window at most
    # Whence on no window reaches; what lies there gets zeros.
    edge = max(0, min(width, (error_picture.width - 1) * numbers[3] - numbers[5] + numbers[1]))
    for index in range(first, last):
        plane, band = index // bands, index % bands
        low, high = height * band // bands, height * (band + 1) // bands
        data = plane_of(source_picture, source, plane)
        below = plane_of(image_error_picture, image_error, plane)
        above = plane_of(error_picture, error, plane)
        begin, end = touching(numbers, low, high, error_picture.height)
        begun = low  # rows that have been set
        for y in range(begin, end):
            top, bottom = clipped(y * numbers[2] - numbers[4], numbers[0], height)
            from_row, to_row = max(top, low), min(bottom, high)
            while begun < to_row:
                skip = edge if tiled else 0
                zero(below + begun * error_row + skip * PIXEL, (width - skip) * BLOCK)
                begun += 1
            place = above + y * error_picture.row
            whole = from_row == top and to_row == bottom
            for x in range(error_picture.width):
                left, right = clipped(x * numbers[3] - numbers[5], numbers[1], width)
                rows, columns = bottom - top, right - left
                window, onto = data + top * row + left * PIXEL, below + from_row * error_row + left * PIXEL
                if rows <= 0 or columns <= 0:
                    continue
                if rows == 2 and columns == 2:
                    missing = winners2(places, window, row, rows, columns)
                elif rows == 3 and columns == 3:
                    missing = winners3(places, window, row, rows, columns)
                else:
                    missing = winners_any(places, window, row, rows, columns)
                if missing:
                    for lane in range(BLOCK):
                        if get(places + lane * 4) < 0:
                            offset = first_number(window + lane * 4, row, rows, columns)
                            put(places + lane * 4, np.float32(offset // row * columns + offset % row // PIXEL))
                number = np.float32((from_row - top) * columns)
                one = place + x * PIXEL
                if tiled:
                    if whole and rows == 2 and columns == 2:
                        write_winners2(onto, one, places, number, error_row, rows, columns)
                    else:
                        write_winners_any(onto, one, places, number, error_row, to_row - from_row, columns)
                elif whole and rows == 3 and columns == 3:
                    add_winners3(onto, one, places, number, error_row, rows, columns)
                else:
                    add_winners_any(onto, one, places, number, error_row, to_row - from_row, columns)
        for y in range(begun, high):
            zero(below + y * error_row, width * BLOCK)


@compiled
def average_backward_cpu(first, last, numbers, error, error_picture, image_error, image_error_picture, bands, spare, threads):
    """Bands [first, last) of the bottom's rows, counted over images and blocks of channels."""
    height, width, row = image_error_picture.height, image_error_picture.width, image_error_picture.row
    for index in range(first, last):
        plane, band = index // bands, index % bands
        low, high = height * band // bands, height * (band + 1) // bands
        below = plane_of(image_error_picture, image_error, plane)
        above = plane_of(error_picture, error, plane)
        begin, end = touching(numbers, low, high, error_picture.height)
        begun = low
        for y in range(begin, end):
            top, bottom = clipped(y * numbers[2] - numbers[4], numbers[0], height)
            tall = area_at(y * numbers[2] - numbers[4], numbers[0], height, numbers[4])
            from_row, to_row = max(top, low), min(bottom, high)
            while begun < to_row:
                zero(below + begun * row, width * BLOCK)
                begun += 1
            for x in range(error_picture.width):
                left, right = clipped(x * numbers[3] - numbers[5], numbers[1], width)
                area = tall * area_at(x * numbers[3] - numbers[5], numbers[1], width, numbers[5])
                if to_row > from_row and right > left:
                    add_shares(below + from_row * row + left * PIXEL, above + y * error_picture.row + x * PIXEL,
                               np.float32(area), row, to_row - from_row, right - left)
        for y in range(begun, high):
            zero(below + y * row, width * BLOCK)
