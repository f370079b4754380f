"""Upper bounds on IU (section 6.3): labels downsampled by a factor and upsampled again; and the share of background (4.4).

The paper does not say how it samples. Each way here is two linear maps an axis, down to cells of `factor` pixels and up to pixels
again, on a picture a class (1 where the class is); a pixel gets the class with the largest value. The border (255) counts
as background when sampling, unless said otherwise, and is not scored.
"""

import functools
import os

import numpy as np

from data import labels, metrics
from netspec.errors import PathError
from paper.experiment import Row

TITLE = "Upper bounds on IU, and the share of background"
PLACE = "6.3"
MINUTES = 6
NEEDS = ("real",)
DEPENDS = ("data/metrics.py",)
PAPER = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}
FOLDER, CLASSES, IGNORED = "seg11valid_labels", 21, 255
# name: (down, up, whether a cell has one class, whether the border has no vote)
WAYS = {
    "first pixel of each cell": ("first", "repeat", False, False),
    "middle pixel of each cell": ("middle", "repeat", False, False),
    "commonest label of each cell": ("mean", "repeat", False, False),
    "commonest label, without the border": ("mean", "repeat", False, True),
    "commonest label, then bilinear": ("mean", "bilinear", True, False),
    "means, then bilinear": ("mean", "bilinear", False, False),
    "bilinear both ways": ("bilinear", "bilinear", False, False),
    "bilinear both ways, without the border": ("bilinear", "bilinear", False, True),
}


def run(context):
    """Sample with every way and factor."""
    found = read_labels(context.real)
    bounds, done = {}, 0
    for way in WAYS:
        bounds[way] = {}
        for factor in PAPER:
            bounds[way][factor] = 100 * bound(found, factor, way)
            done += 1
            context.progress(done / len(WAYS) / len(PAPER))
    off = {way: {factor: value - PAPER[factor] for factor, value in one.items()} for way, one in bounds.items()}
    mean = {way: float(np.sqrt(np.mean(np.square(list(one.values()))))) for way, one in off.items()}
    best = min(mean, key=mean.get)
    pixels = np.sum([np.bincount(label.ravel(), minlength=256) for label in found], axis=0)
    share = pixels[0] / pixels[:CLASSES].sum()
    count = len(found)
    rows = [Row(
        f"With prediction at a {factor}th of the resolution at most {paper} mean IU is reached", "6.3",
        f"the {count} labels, {best}, downsampled by {factor} and upsampled", paper, f"{bounds[best][factor]:.1f}",
        "reproduced" if abs(off[best][factor]) < 0.2 else "same shape",
        f"{off[best][factor]:+.2f}. Other ways: {min(one[factor] for one in bounds.values()):.1f} to "
        f"{max(one[factor] for one in bounds.values()):.1f}.") for factor, paper in PAPER.items()]
    every = "; ".join(f"{way} {', '.join(f'{value:.1f}' for value in one.values())} (off by {mean[way]:.1f})"
                      for way, one in sorted(bounds.items(), key=lambda one: mean[one[0]]))
    rows.append(Row(
        "Ground truth is downsampled and upsampled back (how is not said)", "6.3",
        f"{len(WAYS)} ways, the six factors, on the {count} labels", ", ".join(map(str, PAPER.values())), best,
        "same shape", f"By the root of the mean square of the six differences: {every}."))
    rows.append(Row(
        "About 3/4 of the labels are background", "4.4", f"pixels of the {count} labels, without the border", "about 3/4",
        f"{share:.3f}", "same shape", "The paper speaks of the training images; these are those it validates on."))
    curves = {"paper": curve(PAPER, "paper"), **{way: curve(one, way) for way, one in bounds.items()}}
    return {"rows": rows, "numbers": {"bounds": bounds, "rms": mean, "background": share, "images": count}, "curves": curves}


def curve(bounds, label):
    """Return the curve of one way."""
    return {"x": list(bounds), "y": list(bounds.values()), "label": label, "figure": "Upper bounds on mean IU",
            "x_label": "downsampling factor", "y_label": "mean IU, %"}


def read_labels(real):
    """Return the label maps, a list of (H, W) uint8."""
    folder = os.path.join(real, FOLDER)
    if not os.path.isdir(folder):
        raise PathError(f"folder '{folder}' not found; it holds the label PNGs of the paper's validation set (seg11valid)")
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".png")]
    if not paths:
        raise PathError(f"folder '{folder}' holds no label PNG")
    return [labels.check_label(labels.read_label_png(path)[0], CLASSES, path) for path in paths]


def bound(found, factor, way):
    """Return the mean IU that labels keep when sampled with this factor and way."""
    hist = np.zeros((CLASSES, CLASSES), np.int64)
    for label in found:
        hist += metrics.confusion(label, sampled(label, factor, way), CLASSES)
    return metrics.scores(hist)["mean_iu"]


def sampled(label, factor, way):
    """Return a label map after downsampling and upsampling, (H, W)."""
    down, up, hard, voteless = WAYS[way]
    if not voteless:
        label = np.where(label == IGNORED, 0, label)
    classes = np.unique(label)
    classes = classes[classes != IGNORED]
    if not classes.size:
        return np.zeros(label.shape, np.int64)
    vertical, horizontal = ((downsampling(size, factor, down), upsampling(size, factor, up)) for size in label.shape)
    cells = [vertical[0] @ (label == one).astype(np.float32) @ horizontal[0].T for one in classes]
    if hard:
        cells = np.argmax(cells, axis=0) == np.arange(len(classes))[:, None, None]
    if up == "repeat":
        winners = np.argmax(cells, axis=0)
        return classes[np.repeat(np.repeat(winners, factor, 0), factor, 1)[: label.shape[0], : label.shape[1]]].astype(np.int64)
    return classes[np.argmax([vertical[1] @ one.astype(np.float32) @ horizontal[1].T for one in cells], axis=0)].astype(np.int64)


@functools.cache
def downsampling(size, factor, how):
    """Return the matrix (cells, size) from pixels to cells of `factor` pixels; the last cell may reach beyond the image.

    first, middle    one pixel of the cell (the image's last where that is outside)
    mean             of the cell's pixels inside the image
    bilinear         weights that fall from the cell's middle to 0 at the neighbours' middles; sum 1 over the image's pixels
    """
    cells = -(-size // factor)
    pixel, corner = np.arange(size), factor * np.arange(cells)[:, None]
    if how in ("first", "middle"):
        weights = pixel == np.minimum(corner + (factor // 2 if how == "middle" else 0), size - 1)
    elif how == "mean":
        weights = (pixel >= corner) & (pixel < corner + factor)
    else:
        weights = np.maximum(0, 1 - abs(pixel - corner - (factor - 1) / 2) / factor)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def upsampling(size, factor, how):
    """Return the matrix (size, cells) of bilinear interpolation between the cells' middles; None for "repeat"."""
    if how == "repeat":
        return None
    cells = -(-size // factor)
    place = np.clip((np.arange(size) - (factor - 1) / 2) / factor, 0, cells - 1)[:, None]
    return np.maximum(0, 1 - abs(place - np.arange(cells))).astype(np.float32)
