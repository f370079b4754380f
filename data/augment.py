"""What is done to a sample between its files and the net: masks, mirroring, jitter, loss sampling, one-hot labels.

All of it is off by default. In this order, on pictures (C, H, W) whose mean is subtracted and labels (1, H, W):

mask            pixels become 0, the mean's value; Table 8 of the paper, see `CONDITIONS`
mirror          left and right change places with probability 1/2 (paper 4.4)
jitter          a shift by up to that many pixels in each direction, drawn evenly; 0 and label 255 come in (paper 4.4)
sampling        a cell of the final layer keeps its labels with probability p, else they become 255 (paper 3.4, 4.4)
one_hot         a label becomes a channel a class, for the sigmoid loss (paper 4.4, 6.1)
null_background and the background none

The draws belong to a place in the data order (`order.Place`): the seed and the number of samples before it. So they do not
depend on reading ahead, a resumed run sees those of an unbroken one, and the order of the pictures stays what it is
without them.
"""

import math
from typing import NamedTuple

import numpy as np

from data.colors import IGNORE
from netspec.errors import Error, UnknownName, nearest

# Table 8: what is masked (in training, in testing). "both" leaves the shapes: a picture of foreground and background.
CONDITIONS = {
    "Reference": (None, None),
    "Reference-FG": (None, "background"),
    "Reference-BG": (None, "foreground"),
    "FG-only": ("background", "background"),
    "BG-only": ("foreground", "foreground"),
    "Shape": ("both", "both"),
}
MASKS = ("foreground", "background", "both")
KEYS = ("mask", "mirror", "jitter", "sampling", "cell", "one_hot", "null_background")
DRAWN = ("mirror", "jitter", "sampling")  # the keys that draw: scoring leaves them out
WHITE = 255.0  # minus the mean: the foreground of a masked picture of which only the shapes are left
ABOVE = 99  # pixels that a net of the paper sees before row 0 at the output of its first layer: pad 100, kernel 3


class Augmentation(NamedTuple):
    """The keys of a param_str, with their defaults.

    Attributes
    ----------
    mask : None, "foreground", "background" or "both". The border (255) is masked with either: it holds pixels of both.
        With "both" the foreground is white and all else 0.
    mirror : bool.
    jitter : pixels.
    sampling : probability to keep a cell; None keeps all without a draw.
    cell : rows and columns of a cell, the final layer's stride: 32 is that of FCN-32s, 1 draws every pixel. Cells lie
        where those of the paper's VGG nets do (pad 100): the first of 32 ends after 29 rows.
    one_hot : labels (1, H, W) become (classes, H, W), 1 for the class, 0 for others, 255 for all where the label is 255.
    null_background : with `one_hot`, without the channel of class 0.
    """

    mask: str | None = None
    mirror: bool = False
    jitter: int = 0
    sampling: float | None = None
    cell: int = 32
    one_hot: bool = False
    null_background: bool = False

    @property
    def active(self):
        """Whether anything is done at all."""
        return bool(self.mask or self.mirror or self.jitter or self.sampling is not None or self.one_hot)

    def apply(self, images, labels, place, mean, classes):
        """Return (images, labels), new arrays where something is done.

        Parameters
        ----------
        images : list of (C, H, W) float32. labels : list of (1, H, W) uint8, the first says what is foreground.
        place : `order.Place` of the sample, for the draws.
        mean : what was subtracted from each channel of the first image.
        classes : number of classes, one for each label.
        """
        if not self.active:
            return images, labels
        if self.mask:
            images = [masked(image, labels[0][0], self.mask, mean) for image in images]
        draw = place.generator()
        # Always drawn in the same order, so that one key does not change what another draws.
        flipped = draw.random() < 0.5
        down, right = (int(n) for n in draw.integers(-self.jitter, self.jitter, 2, endpoint=True))
        if self.mirror and flipped:
            images, labels = ([one[:, :, ::-1] for one in some] for some in (images, labels))
        if down or right:
            images = [shifted(image, down, right, 0) for image in images]
            labels = [shifted(label, down, right, IGNORE) for label in labels]
        if self.sampling is not None and labels:
            kept = kept_pixels(draw, labels[0].shape[1:], self.sampling, self.cell)
            labels = [np.where(kept, label, np.uint8(IGNORE)) for label in labels]
        if self.one_hot:
            labels = [one_hot(label[0], count, self.null_background) for label, count in zip(labels, classes, strict=True)]
        return images, labels


def masked(image, label, mask, mean):
    """Return a copy of `image` (C, H, W) with the pixels that `mask` names at 0; `label` is (H, W), class 0 background."""
    border = label == IGNORE
    if mask == "both":
        white = np.float32(WHITE) - np.resize(np.asarray(mean, np.float32), len(image))
        return np.where((label > 0) & ~border, white[:, None, None], np.float32(0))
    gone = (label == 0) | border if mask == "background" else label > 0
    return np.where(gone, np.float32(0), image)


def shifted(array, down, right, outside):
    """Return `array` (C, H, W) moved `down` rows and `right` columns (negative: up, left); `outside` comes in."""
    out = np.full_like(array, outside)
    height, width = array.shape[1:]
    if abs(down) < height and abs(right) < width:
        out[:, max(down, 0):height + min(down, 0), max(right, 0):width + min(right, 0)] = \
            array[:, max(-down, 0):height - max(down, 0), max(-right, 0):width - max(right, 0)]
    return out


def kept_pixels(draw, shape, probability, cell):
    """Return (H, W) bool, whether a pixel's cell is kept: one draw a cell, in rows."""
    rows, columns = ((np.arange(length) + ABOVE) // cell - ABOVE // cell for length in shape)
    kept = draw.random((rows[-1] + 1, columns[-1] + 1)) < probability
    return kept[rows[:, None], columns]


def one_hot(label, classes, null_background=False):
    """Return `label` (H, W) as (classes, H, W) uint8: 1 at its class, 0 elsewhere, 255 everywhere where it is 255."""
    numbers = np.arange(1 if null_background else 0, classes)[:, None, None]
    return np.where(label == IGNORE, np.uint8(IGNORE), (label == numbers).astype(np.uint8))


def augmentation(params, has_background, where):
    """Return the `Augmentation` that the keys of a param_str (a dict) describe; wrong values are an `Error`."""
    def need(key, good, what):
        if not good:
            raise Error(f"{where}: '{key}' in param_str must be {what}, got {params[key]!r}")

    given = {key: params[key] for key in KEYS if key in params}
    found = Augmentation(**given)
    if found.mask is not None and found.mask not in MASKS:
        raise UnknownName(f"{where}: 'mask' in param_str is {found.mask!r}{nearest(str(found.mask), MASKS)}; it may be "
                          f"None or say what is masked: {', '.join(MASKS)}")
    for key in ("mirror", "one_hot", "null_background"):
        need(key, getattr(found, key) in (0, 1), "True or False")
    need("jitter", _whole(found.jitter) and 0 <= found.jitter <= 4096, "0 to 4096 pixels")
    need("sampling", found.sampling is None or (_number(found.sampling) and 0 < found.sampling <= 1),
         "a probability above 0, at most 1, or None")
    need("cell", _whole(found.cell) and 1 <= found.cell <= 4096, "1 to 4096 pixels")
    if found.null_background and not found.one_hot:
        raise Error(f"{where}: 'null_background' in param_str leaves out a channel of one-hot labels; set 'one_hot' too")
    for key in ("mask", "null_background"):
        if getattr(found, key) and not has_background:
            raise Error(f"{where}: '{key}' in param_str needs a background, and this data set has no such class")
    return found


def _whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
