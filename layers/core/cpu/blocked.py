"""Images in blocks of 16 channels: NCHW16c, and what moves between it and Caffe's NCHW.

A blocked image has, for each pixel, 16 channels side by side: vectors run over channels and every kernel's width divides
16. The array is (N, ceil(C / 16), H + 2 border, W + 2 border, 16); channels beyond C and the border are zero.

`Picture` describes a batch of images at an address in either layout. `read_patch` gives kernels a rectangle of a
picture in blocks, with zeros outside of the image, and `write_patch` puts one back, so that a kernel can be written once
for both layouts: from NCHW, 16 x 16 values at a time are transposed in registers on their way, at memory speed.
"""

import math
from typing import NamedTuple

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import compiled
from layers.core.cpu.isa import BLOCK, PIXEL
from layers.core.cpu.memory import address, aligned, scratch_at
from layers.core.cpu.moves import copy, copy16, copy_first, own_part, transpose16, zero, zero16

BORDER = 1  # zero pixels around a blocked image: what a 3 x 3 kernel's padding needs


class Picture(NamedTuple):
    """A batch of images in memory. `image`, `plane` and `row` are distances in bytes.

    `plane` lies between channels, or between blocks if `blocked`; a blocked image has `border` zero pixels around it,
    and its address is that of pixel (0, 0).
    """

    images: int
    channels: int
    height: int
    width: int
    image: int
    plane: int
    row: int
    blocked: int
    border: int


class Place(NamedTuple):
    """Images as kernels take them: the address of the first pixel and how they lie there."""

    address: int
    picture: Picture


def place(array):
    """Return the `Place` of a C-contiguous array (N, C, H, W); keep the array as long as it is used."""
    return Place(address(array), picture(array))


def picture(array):
    """Return the `Picture` of a C-contiguous array (N, C, H, W)."""
    return picture_of(array.shape)


def picture_of(shape):
    """Return the `Picture` of a C-contiguous array of shape (N, C, H, W)."""
    images, channels, height, width = shape
    return Picture(images, channels, height, width, channels * height * width * 4, height * width * 4, width * 4, 0, 0)


class Blocked:
    """A batch of images (N, C, H, W) in blocks.

    Attributes
    ----------
    array : ndarray (N, ceil(C / 16), H + 2 border, W + 2 border, 16) float32
    picture : Picture
    address : int
        Of pixel (0, 0) of the first block.
    place : Place
        Both.
    kept : object
        What somebody wrote down about the values; nothing here reads it. None after `reshape`.
    whole : Blocked or None
        What this is a `part` of.
    """

    whole = None

    def __init__(self, shape, border=BORDER):
        self.border = border
        self._memory = aligned((0,), np.float32)
        self.shape = None
        self.reshape(shape)

    def reshape(self, shape):
        """Take another shape; the values are then anything, the border and the missing channels zero."""
        self.kept = None
        if shape == self.shape:
            return
        images, channels, height, width = self.shape = tuple(shape)
        border = self.border
        blocks, high, wide = -(-channels // BLOCK), height + 2 * border, width + 2 * border
        size = images * blocks * high * wide * BLOCK
        fresh = size > self._memory.size
        if fresh:
            self._memory = None  # before the new one is taken
            self._memory = aligned((size,), zero=True)
        self.array = self._memory[:size].reshape(images, blocks, high, wide, BLOCK)
        row, plane = wide * PIXEL, high * wide * PIXEL
        self.picture = Picture(images, channels, height, width, blocks * plane, plane, row, 1, border)
        start = address(self._memory)
        self.address = start + border * (row + PIXEL)
        self.place = Place(self.address, self.picture)
        if not fresh and border:
            parallel.run(zero_edges_cpu, images * blocks * high, start, high, wide, border,
                         work=images * blocks * (high + wide) * BLOCK)
        if not fresh and channels % BLOCK:
            self.array[:, -1, :, :, channels % BLOCK :] = 0

    def __reduce__(self):
        """Copies have memory of their own: an address is nobody else's."""
        return _copied, (self.get(), self.border)

    def part(self, channel, channels):
        """Return some of the channels, from a multiple of 16 on, as a Blocked that lies in this one's memory."""
        made = object.__new__(Blocked)
        made.whole, made.kept, made.border = self, None, self.border
        images, _, height, width = self.shape
        made.shape = images, channels, height, width
        made._memory = self._memory[:0]
        made.array = self.array[:, channel // BLOCK : -(-(channel + channels) // BLOCK)]
        made.picture = self.picture._replace(channels=channels)
        made.address = self.address + channel // BLOCK * self.picture.plane
        made.place = Place(made.address, made.picture)
        made._part_of = channel, channels, self.place
        return made

    def has_part(self, part, channel, channels):
        """Whether `part` is what `part` would return now."""
        return part is not None and part.whole is self and part._part_of == (channel, channels, self.place)

    @property
    def nbytes(self):
        """Bytes of memory taken, which may be more than this shape needs."""
        return self._memory.nbytes

    def put(self, array):
        """Take the values of an array (N, C, H, W)."""
        convert(array, address(array), picture(array), self.address, self.picture)
        return self

    def get(self, out=None):
        """Return the values as an array (N, C, H, W), written to `out` if given."""
        out = np.empty(self.shape, np.float32) if out is None else out
        convert(self.array, self.address, self.picture, address(out), picture(out))
        return out


def in_blocks(source, source_picture, border=BORDER):
    """Return a `Blocked` with the values of images at an address, in whatever layout they are."""
    made = Blocked(source_picture[:4], border)
    convert(None, source, source_picture, made.address, made.picture)
    return made


def _copied(values, border):
    return Blocked(values.shape, border).put(values)


def fitting(shape, spare):
    """Return a Blocked of `shape`: of the list `spare` the smallest that is large enough, or the largest; or a new one."""
    if not spare:
        return Blocked(shape)
    size = math.prod(shape) * 4
    spare.sort(key=lambda blocked: (blocked.nbytes < size, blocked.nbytes if blocked.nbytes >= size else -blocked.nbytes))
    blocked = spare.pop(0)
    blocked.reshape(shape)
    return blocked


def convert(owner, source, source_picture, target, target_picture):
    """Copy images between addresses and layouts. `owner` is whatever must stay in memory meanwhile."""
    images, channels, height, width = source_picture[:4]
    if images * channels * height * width == 0:
        return
    bands = -(-height // BAND)
    own = BAND * RUN * PIXEL + 2 * BLOCK * PIXEL
    memory, spare = scratch_at(parallel.threads() * own, "convert")
    parallel.run(convert_cpu, images * -(-channels // BLOCK) * bands, source, source_picture, target, target_picture,
                 spare, own, parallel.threads(), work=images * channels * height * width)


@compiled
def zero_edges_cpu(first, last, start, high, wide, border):
    """Zero the `border` pixels around pictures, one behind the other from `start` on; rows [first, last), counted over all.

    A picture is high x wide pixels with the border. With a row's right end goes the left one of the next: they lie side by side.
    """
    for index in range(first, last):
        y = index % high
        begin = index * wide if y < border or y >= high - border else index * wide + wide - border
        end = (index + 1) * wide + (border if border <= y + 1 < high - border else 0)
        zero(start + begin * PIXEL, (end - begin) * BLOCK)


BAND = 4  # rows of an image that are converted at a time
RUN = 64  # pixels of a row


@compiled
def convert_cpu(first, last, source, source_picture, target, target_picture, spare, own, threads):
    """Copy bands [first, last) of rows, counted over images and blocks of channels."""
    height, width = source_picture.height, source_picture.width
    bands = (height + BAND - 1) // BAND
    blocks = (source_picture.channels + BLOCK - 1) // BLOCK
    mine = own_part(spare, own, first, source_picture.images * blocks * bands, threads)
    for index in range(first, last):
        band, block, image = index % bands, index // bands % blocks, index // (bands * blocks)
        y = band * BAND
        rows = min(BAND, height - y)
        for x in range(0, width, RUN):
            columns = min(RUN, width - x)
            read_patch(source_picture, source, image, block, y, x, rows, columns, mine + 2 * BLOCK * PIXEL, RUN * PIXEL,
                       mine)
            write_patch(target_picture, target, image, block, y, x, rows, columns, mine + 2 * BLOCK * PIXEL, RUN * PIXEL,
                        mine)


@compiled
def read_patch(picture, start, image, block, y, x, rows, columns, patch, patch_row, spare):
    """Write 16 channels of the rectangle at (y, x) to `patch`, [row][column][16]; zeros outside of the image.

    `start` is the picture's address, `patch_row` the bytes between the patch's rows, `spare` the address of 2 KiB.
    """
    start += image * picture.image
    low, high = min(max(0, -x), columns), max(0, min(columns, picture.width - x))
    high = max(low, high)
    for i in range(rows):
        line = patch + i * patch_row
        if y + i < 0 or y + i >= picture.height:
            zero(line, columns * BLOCK)
            continue
        zero(line, low * BLOCK)
        if picture.blocked:
            copy(line + low * PIXEL, start + block * picture.plane + (y + i) * picture.row + (x + low) * PIXEL,
                 (high - low) * BLOCK)
        else:
            channels = min(BLOCK, picture.channels - block * BLOCK)
            source = start + block * BLOCK * picture.plane + (y + i) * picture.row + x * 4
            j = low
            while j < high:
                take = min(BLOCK, high - j)
                if take < BLOCK and high - low >= BLOCK:
                    j, take = high - BLOCK, BLOCK  # some of them once more: no cases
                if channels == BLOCK and take == BLOCK:
                    transpose16(source + j * 4, picture.plane, line + j * PIXEL, PIXEL)
                else:
                    zero(spare, BLOCK * BLOCK)
                    for c in range(channels):
                        copy_first(spare + c * PIXEL, source + c * picture.plane + j * 4, take)
                    transpose16(spare, PIXEL, spare, PIXEL)
                    copy(line + j * PIXEL, spare, take * BLOCK)
                j += take
        zero(line + high * PIXEL, (columns - high) * BLOCK)


@compiled
def write_patch(picture, start, image, block, y, x, rows, columns, patch, patch_row, spare):
    """Write a patch of 16 channels, [row][column][16], to the rectangle at (y, x), as far as it is in the image.

    y and x are not negative. Channels beyond the picture's are not written to NCHW.
    """
    start += image * picture.image
    rows, columns = min(rows, picture.height - y), min(columns, picture.width - x)
    for i in range(rows):
        line = patch + i * patch_row
        if picture.blocked:
            copy(start + block * picture.plane + (y + i) * picture.row + x * PIXEL, line, columns * BLOCK)
            continue
        channels = min(BLOCK, picture.channels - block * BLOCK)
        target = start + block * BLOCK * picture.plane + (y + i) * picture.row + x * 4
        j = 0
        while j < columns:
            take = min(BLOCK, columns - j)
            if take < BLOCK and columns >= BLOCK:
                j, take = columns - BLOCK, BLOCK
            if channels == BLOCK and take == BLOCK:
                transpose16(line + j * PIXEL, PIXEL, target + j * 4, picture.plane)
            else:
                for p in range(BLOCK):
                    if p < take:
                        copy16(spare + p * PIXEL, line + (j + p) * PIXEL)
                    else:
                        zero16(spare + p * PIXEL)
                transpose16(spare, PIXEL, spare, PIXEL)
                for c in range(channels):
                    copy_first(target + c * picture.plane + j * 4, spare + c * PIXEL, take)
            j += take
