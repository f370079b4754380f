"""Label maps in files: class numbers in palette, grey or colour pictures, checked before a net sees them."""

import numpy as np

from data import colors, pictures, transform
from data.colors import IGNORE
from netspec.errors import Error


def read_label_png(path):
    """Read a label picture; return ((H, W) integers, whether it was converted from colours).

    Palette (P) and grey (L, I, I;16, 1) pictures hold class numbers. A colour picture is read through VOC's palette
    when all its colours are in it, and is an error otherwise.
    """
    with pictures.opened(path, "label") as picture:
        if picture.mode in ("P", "L", "1", "I", "I;16"):
            return np.asarray(picture), False
        mode, (label, alien) = picture.mode, colors.from_colours(transform.rgb(picture))
        if label is not None:
            return label, True
        row, column = alien
        colour = tuple(transform.rgb(picture)[row, column].tolist())
        raise Error(f"label '{path}' is a colour picture (mode {mode}) and its colour {colour} at row {row}, "
                    f"column {column} is not in VOC's palette; save labels as palette or grey PNG "
                    "whose values are the class numbers")


def check_label(label, classes, path):
    """Return `label` as (H, W) uint8 after checking that every value is below `classes` or 255."""
    label = np.asarray(label)
    if label.ndim != 2 or label.dtype.kind not in "uib":
        raise Error(f"label '{path}' must be (H, W) integers, got {label.shape} {label.dtype}")
    bad = (label >= classes) & (label != IGNORE)
    if label.dtype.kind == "i":
        bad |= label < 0
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise Error(f"label {int(label[row, column])} at row {row}, column {column} of '{path}' is outside the "
                    f"{classes} classes (0 to {classes - 1}, or {IGNORE} to ignore); {int(bad.sum())} such pixels "
                    "here; mend the file, or set 'classes' in param_str and the net's score layers to the data's")
    return np.ascontiguousarray(label, np.uint8)


def from_one(numbers, classes, path, void=(0,)):
    """Return a label map that counts its classes from 1 as one that counts from 0, void as 255; (H, W) uint8.

    Parameters
    ----------
    numbers : (H, W) numbers 1 to `classes`, or of `void`; floats must be whole. Others are an error with their place.
    """
    numbers = np.asarray(numbers)
    if numbers.ndim != 2 or numbers.dtype.kind not in "uibf":
        raise Error(f"label '{path}' must be (H, W) numbers, got {numbers.shape} {numbers.dtype}")
    nothing = np.isin(numbers, void)
    good = nothing | ((numbers >= 1) & (numbers <= classes) & (numbers == np.floor(numbers)))
    if not good.all():
        row, column = (int(i) for i in np.argwhere(~good)[0])
        raise Error(f"label {numbers[row, column]:g} at row {row}, column {column} of '{path}' is outside the list (1 to "
                    f"{classes}, void is {' or '.join(map(str, void))}); {int((~good).sum())} such pixels here")
    return np.where(nothing, IGNORE, numbers - 1.0).astype(np.uint8)
