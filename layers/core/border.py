"""Borders: the part of a blob that no image can change, and how it is not computed again.

The paper's nets pad their image by 100 pixels, so about a third of the first layers' work is done on zeros: outside of a box,
a blob's values follow from the weights and the sizes alone. In TEST they are kept from call to call, and for a new size
gathered from a small forward pass of an image of zeros, where they all occur. Both are bit-identical to computing them.

`Axis` says of one axis of a blob which pixels depend on the image, and where the others repeat themselves:

    0        left                low         high               size - right    size
    | edge   | repeats itself    | the image | repeats itself   | edge          |

An edge is what the blob's own end (its next layer's padding) has changed. Tiles (Winograd) are computed as one: a pixel that
shares a tile with others has their roundings in its bits, so all limits are rounded to tiles, and what repeats itself
does so with the tiles' period.

`Border` is that for both axes, with the chain of layers that made it; `Borders` keeps what was computed for a net.
"""

import collections
import math
from typing import NamedTuple

import numpy as np

from layers.core.cpu.blocked import fitting
from layers.core.cpu.gather import gather_around

PAYS = 0.95  # of a blob's pixels: with more than these depending on the image there is too little to win
SMALL = 0.35  # of a blob's pixels: the most that the forward pass of zeros may have, to pay for one image
PERIOD = 64  # pixels of the image by which the sizes of one class differ
KEPT = 1 << 26  # bytes of different pixels that are kept, of the sizes met last


class Axis(NamedTuple):
    """One axis of a blob; see the file's head. All in the blob's pixels, but `stride`: pixels of the image to one."""

    size: int
    low: int
    high: int
    left: int = 0
    right: int = 0
    period: int = 1
    stride: int = 1
    uniform: bool = True  # zeros everywhere outside of the image, also beyond the ends: the image itself

    def slide(self, size, kernel, stride, pad, dilation=1, tile=1):
        """Return the axis of what a window makes of this one: `size` outputs, computed `tile` at a time."""
        reach = dilation * (kernel - 1)
        low = max(0, -((reach - self.low - pad) // stride))
        high = max(low, min(size, (self.high - 1 + pad) // stride + 1))
        left = right = 0
        if not self.uniform:
            left = min(size, -(-(self.left + pad) // stride))
            right = size - min(size, max(0, -((reach - pad - self.size + self.right) // stride)))
        period = math.lcm(self.period // math.gcd(self.period, stride), tile)
        return Axis(size, low // tile * tile, min(size, _up(high, tile)), min(size, _up(left, tile)),
                    size - (size - right) // tile * tile, period, self.stride * stride, False)

    def like(self, small):
        """Whether, outside of the image, axis `small` has the value of every pixel."""
        return (small.size >= small.left + small.right + self.period and self.size >= self.left + self.right
                and small[3:] == self[3:] and (self.size - small.size) % self.period == 0)

    @property
    def different(self):
        """The pixels that have all values: both edges, and one period of what lies between."""
        return np.r_[: self.left + self.period, self.size - self.right : self.size]

    @property
    def places(self):
        """For each pixel, where in `different` (of an axis that `like` accepts) its value is."""
        i = np.arange(self.size)
        end = self.left + self.period
        return np.where(i < self.left, i, np.where(i < self.size - self.right, self.left + (i - self.left) % self.period,
                                                   i - (self.size - self.right) + end))


def _up(value, step):
    return -(-value // step) * step


class Step(NamedTuple):
    """How one layer makes a blob's border from another's.

    `version` tells weights apart; ``compute(source, target)`` runs the layer on whole pictures (`Place`), ``slide(axis,
    number, size)`` is `Axis.slide` for axis number 0 or 1, ``out(height, width)`` are the sizes of its output.
    """

    version: object
    channels: int
    compute: object
    slide: object
    out: object


class Border:
    """What of a blob depends on the image, and how the rest came to be.

    Attributes
    ----------
    axes : (Axis, Axis)
    step, below : Step and Border, or None for the image itself
    channels : int
    key : tuple
        Equal for borders with equal values: the sizes and the weights of all layers below.
    """

    def __init__(self, axes, step=None, below=None, channels=0):
        self.axes, self.step, self.below, self.channels = axes, step, below, channels
        sizes = tuple(axis.size for axis in axes)
        self.key = (sizes, step.version, below.key) if step else sizes

    @classmethod
    def image(cls, channels, height, width):
        """Return the border of an image: none, but zeros around it."""
        return cls((Axis(height, 0, height), Axis(width, 0, width)), channels=channels)

    def after(self, step):
        """Return the border of what a step makes of this."""
        sizes = step.out(*(axis.size for axis in self.axes))
        axes = tuple(step.slide(axis, number, size) for number, (axis, size) in enumerate(zip(self.axes, sizes)))
        return Border(axes, step, self, step.channels)

    @property
    def box(self):
        """(y0, y1, x0, x1): the pixels that depend on the image."""
        (_, top, bottom, *_), (_, left, right, *_) = self.axes
        return top, bottom, left, right

    @property
    def part(self):
        """The part of the pixels that depends on the image."""
        whole = math.prod(axis.size for axis in self.axes)
        return math.prod(axis.high - axis.low for axis in self.axes) / whole if whole else 1

    @property
    def pays(self):
        """Whether enough is kept to be worth the trouble."""
        return self.part <= PAYS

    def resized(self, height, width):
        """Return the same border for an image of another size."""
        if self.below is None:
            return Border.image(self.channels, height, width)
        return self.below.resized(height, width).after(self.step)

    @property
    def image_size(self):
        """(height, width) of the image at the chain's beginning."""
        return tuple(axis.size for axis in self.axes) if self.below is None else self.below.image_size


class Borders:
    """What a net's layers make of zeros, for images of sizes to come.

    Sizes whose pixels differ by multiples of `PERIOD` form a class. When one is first met, a small image of zeros goes through
    the layers, if that is less work than it saves for this one image; all sizes of the class take their borders from what it
    made. (FCN-8s at 160 x 200: 9.8 billion multiplications save 15.4; at 500 x 500, 12.9 save 33.)
    """

    def __init__(self):
        self._different = collections.OrderedDict()  # key of a border: its different pixels, [block, y, x, 16]
        self._whole = {}  # key: Blocked, while a forward pass goes on
        self._spare = []  # Blocked of passes before
        self._more = 0  # periods that the image of zeros needs beyond the smallest

    def fill(self, border, blocked):
        """Write what lies outside of `border.box` to `blocked`; return whether it could be had for less than computing it."""
        small = self._small(border)
        if small is None:
            return False
        gather_around(self._values(small), *(axis.places for axis in border.axes), blocked.address, blocked.picture, border.box)
        return True

    def done(self):
        """A forward pass is over: give back what only one needs."""
        self._spare = list(self._whole.values()) or self._spare
        self._whole.clear()

    def _small(self, border):
        """Return the border of the smallest image of zeros that has all values, or None if it is not small."""
        size = border.image_size
        for more in range(self._more, self._more + 4):
            small = border.resized(*(1 + (n - 1) % PERIOD + PERIOD * more for n in size))
            if math.prod(axis.size for axis in small.axes) > SMALL * math.prod(axis.size for axis in border.axes):
                return None
            if all(axis.like(other) for axis, other in zip(border.axes, small.axes)):
                self._more = more
                return small
        return None

    def _values(self, small):
        """Return the different pixels of the border of an image of zeros."""
        values = self._different.pop(small.key, None)
        if values is None:
            whole = self._compute(small)
            inside = whole.border
            rows, columns = (axis.different + inside for axis in small.axes)
            values = np.ascontiguousarray(whole.array[0][:, rows][:, :, columns])
        self._different[small.key] = values
        while sum(each.nbytes for each in self._different.values()) > KEPT and len(self._different) > 1:
            self._different.popitem(last=False)
        return values

    def _compute(self, small):
        if small.key not in self._whole:
            values = fitting((1, small.channels, *(axis.size for axis in small.axes)), self._spare)
            if small.below is None:
                values.array[...] = 0
            else:
                source = self._compute(small.below)
                small.step.compute(source.place, values.place)
            self._whole[small.key] = values
        return self._whole[small.key]
