"""PASCAL VOC's colours: a class number as a colour, a label map as a picture, and as a palette PNG."""

import numpy as np
from PIL import Image

from data.transform import rgb
from netspec import files
from netspec.errors import Error

IGNORE = 255  # the label of the border: pixels that nobody is asked about


def palette(count=256):
    """Return the first `count` colours of PASCAL VOC, (count, 3) uint8 RGB.

    The bits of the class number are dealt out in turn to red, green and blue, the lowest three to the highest bit of
    each channel: neighbours in number are far apart in colour. 255, the ignored border, is the cream (224, 224, 192).
    """
    number = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((number >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


PALETTE = palette()


def colorize(label):
    """Return the (H, W) label map in VOC's colours, (H, W, 3) uint8 RGB."""
    return PALETTE[_label(label)]


def overlay(image, label, alpha=0.5, background=0):
    """Blend the colours of `label` over `image`; alpha 1 shows only colours. Returns (H, W, 3) uint8 RGB.

    The class `background` leaves the picture as it is (None: every class is painted).
    """
    image, label = np.asarray(rgb(image), np.float64), _label(label)
    if image.shape[:2] != label.shape:
        raise Error(f"image {image.shape[:2]} and label {label.shape} differ in size")
    weight = np.full(label.shape, float(alpha))
    if background is not None:
        weight[label == background] = 0.0
    weight = weight[:, :, None]
    return np.rint(image * (1 - weight) + PALETTE[label] * weight).astype(np.uint8)


def from_colours(pixels):
    """Turn an (H, W, 3) RGB picture in VOC's colours back into labels: the inverse of `colorize`.

    Returns (label, None), or (None, (row, column)) of the first pixel whose colour is not of the palette.
    """
    pixels = np.asarray(rgb(pixels)).astype(np.int32)
    code = pixels[:, :, 0] << 16 | pixels[:, :, 1] << 8 | pixels[:, :, 2]
    known = PALETTE.astype(np.int32)
    known = known[:, 0] << 16 | known[:, 1] << 8 | known[:, 2]
    order = np.argsort(known)
    place = np.clip(np.searchsorted(known[order], code), 0, 255)
    alien = known[order][place] != code
    if alien.any():
        return None, tuple(int(i) for i in np.argwhere(alien)[0])
    return order[place].astype(np.uint8), None


def palette_image(label):
    """Return `label` as a PIL picture of mode P with VOC's palette, as the data set's own labels are."""
    picture = Image.fromarray(_label(label))
    picture.putpalette(PALETTE.tobytes())
    return picture


def save_palette_png(path, label):
    """Write `label` as a palette PNG: viewers show colours, readers get the class numbers. Atomic."""
    with files.atomic(path) as file:
        palette_image(label).save(file, "PNG", optimize=True)


def _label(label):
    # An (H, W) map of 0 to 255 as contiguous uint8.
    label = np.asarray(label)
    if label.ndim != 2:
        raise Error(f"a label map is (H, W); got {label.shape}")
    if label.dtype.kind not in "uib":
        raise Error(f"a label map holds integers; got {label.dtype}")
    if label.dtype != np.uint8:
        if label.size and not (label.min() >= 0 and label.max() <= 255):
            raise Error(f"label map values run from {label.min()} to {label.max()}; a PNG holds 0 to 255")
        label = label.astype(np.uint8)
    return np.ascontiguousarray(label)
