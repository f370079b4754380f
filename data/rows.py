"""Rows of pictures to look at, (id, picture, truth, prediction): what the contact sheet and the page both show."""

import numpy as np

from data import colors, metrics
from data.transform import rgb
from netspec.errors import Error

COLUMNS = ("input", "truth", "prediction", "overlay")


def checked(row, classes):
    """Return a row with arrays for what is like one; sizes that differ and predictions without a name are refused."""
    name, image, truth, prediction = row
    image, prediction = np.ascontiguousarray(rgb(image), np.uint8), np.asarray(prediction)
    truth = None if truth is None else np.asarray(truth)
    for what, label in (("truth", truth), ("prediction", prediction)):
        if label is not None and label.shape != image.shape[:2]:
            raise Error(f"report row '{name}': {what} is {label.shape}, its picture {image.shape[:2]}")
    if prediction.size and not (prediction.min() >= 0 and prediction.max() < max(classes, 1)):
        raise Error(f"report row '{name}': prediction {int(prediction.max())} has no name among the {classes} classes")
    return str(name), image, truth, prediction


def cells(image, truth, prediction):
    """Return the pictures of a row, one for each of COLUMNS: (H, W, 3) uint8 RGB, None for a missing truth."""
    return (image, None if truth is None else colors.colorize(truth), colors.colorize(prediction),
            colors.overlay(image, prediction, 0.55))


def classes_shown(rows, count):
    """Return the numbers of the classes that the rows hold, the background first, the ignored border last."""
    held = np.zeros(256, bool)
    for _, _, truth, prediction in rows:
        for label in (truth, prediction):
            if label is not None:
                held[np.unique(label)] = True
    return [i for i in range(256) if held[i] and (i < count or i == colors.IGNORE)]


def class_name(number, classes):
    """Return the name of a class number, or of the ignored border."""
    return classes[number] if number < len(classes) else "ignored"


def caption_of(name, truth, prediction, classes):
    """Return what is said below a row: its id and, where the truth is known, its scores; parts by four spaces."""
    if truth is None:
        return name
    score = metrics.scores(metrics.confusion(truth, prediction, classes))
    if not score["pixels"]:
        return name
    return f"{name}    pixels right {score['pixel_accuracy']:.1%}    mean IU {score['mean_iu']:.3f}"
