"""Upper bounds on IU (section 6.3): labels downsampled by a factor and upsampled again; and the share of background (4.4).

The paper does not say how it samples. Each way here is two linear maps an axis, down to cells of `factor` pixels and up to pixels
again, on a picture a class (1 where the class is); a pixel gets the class with the largest value. The border (255) counts
as background when sampling, unless said otherwise, and is not scored.
"""

import functools
import os

import numpy as np
from scipy import sparse

from data import labels, metrics
from netspec.errors import PathError
from paper.experiment import Row

TITLE = "Upper bounds on IU, and the share of background"
PLACE = "6.3"
MINUTES = 3
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
    bounds = {way: {factor: 100 * value for factor, value in one.items()}
              for way, one in bounds_of(found, PAPER, WAYS, context.progress).items()}
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
        f"{off[best][factor]:+.2f}; up to 0.2 is called reproduced. Other ways: "
        f"{min(one[factor] for one in bounds.values()):.1f} to "
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


def bounds_of(found, factors, ways, progress=lambda fraction: None):
    """Return {way: {factor: mean IU}} that labels keep when sampled."""
    hist = {(way, factor): np.zeros((CLASSES, CLASSES), np.int64) for way in ways for factor in factors}
    for number, label in enumerate(found):
        drawn = pictures(label)
        for way, factor in hist:
            hist[way, factor] += metrics.confusion(label, sampled(*drawn, factor, way), CLASSES)
        progress((number + 1) / len(found))
    return {way: {factor: metrics.scores(hist[way, factor])["mean_iu"] for factor in factors} for way in ways}


def pictures(label):
    """Return (classes of a label map and background, a picture of each (H, W) float32, background's with the border)."""
    there = np.bincount(label.ravel(), minlength=256)
    classes = np.array([0, *(one for one in range(1, CLASSES) if there[one])])
    drawn = [(label == one).astype(np.float32) for one in classes]
    return classes, drawn, drawn[0] + (label == IGNORED)


def sampled(classes, drawn, with_border, factor, way):
    """Return a label map after downsampling and upsampling, (H, W); the first three are what `pictures` returns."""
    down, up, hard, voteless = WAYS[way]
    shape = drawn[0].shape
    rows, columns = ((downsampling(size, factor, down), upsampling(size, factor, up)) for size in shape)
    cells = [mapped(rows[0], one, columns[0]) for one in (drawn if voteless else [with_border, *drawn[1:]])]
    if hard or up == "repeat":
        winners = np.argmax(cells, axis=0)
        if up == "repeat":
            return classes[np.repeat(np.repeat(winners, factor, 0), factor, 1)[: shape[0], : shape[1]]]
        cells = [(winners == number).astype(np.float32) for number in range(len(classes))]
    return classes[np.argmax([mapped(rows[1], one, columns[1]) for one in cells], axis=0)]


def mapped(rows, picture, columns):
    """Return rows @ picture @ columns.T; both matrices are sparse."""
    return (columns @ (rows @ picture).T).T


@functools.cache
def downsampling(size, factor, how):
    """Return the sparse matrix (cells, size) from pixels to cells of `factor` pixels; the last cell may reach beyond the image.

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
    return sparse.csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


@functools.cache
def upsampling(size, factor, how):
    """Return the sparse matrix (size, cells) of bilinear interpolation between the cells' middles; None for "repeat"."""
    if how == "repeat":
        return None
    cells = -(-size // factor)
    place = np.clip((np.arange(size) - (factor - 1) / 2) / factor, 0, cells - 1)[:, None]
    return sparse.csr_array(np.maximum(0, 1 - abs(place - np.arange(cells))).astype(np.float32))
