"""What the trained experiments on drawn pictures have in common: the pictures, the net to compare with, seeds, verdicts.

The reference is `fcn_sample`, trained from a classifier's weights (`paper.classifier`), one picture an update, a loss summed over
pixels, a fixed rate. Its momentum is 0.9: with as few images as here, 0.99 is behind it, and its last weights differ by much more
from seed to seed (`experiments.learning`). It is an FCN-8s with all streams at once: drawn pictures have about
130 pixels a side and a photograph of VOC about 400, so that FCN-8s sees here about as many cells as FCN-32s there (16 and 13).
A seed decides the order of the pictures; the pictures and the first weights are the same for all.
"""

import dataclasses

import numpy as np

from data import colors
from paper import classifier, training
from paper.experiment import Row

DEPENDS = ("paper/drawn.py", "paper/training.py", "paper/classifier.py")
WIDTHS = (16, 32, 64, 96, 128)  # of fcn_sample
RATE = 1.5e-7  # the best of three (`experiments.learning`)
# Of the streams when all learn at once: the root mean square of fc6 (1.45) over those of pool4 (1.22) and pool3 (0.77) in the
# classifier. They differ little; in VGG16 it takes 0.01 and 0.0001.
SCALES = {"pool4": 1.2, "pool3": 1.9}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is trained; the tests train next to nothing."""

    images: int = 800
    seeds: tuple = (1, 2, 3)
    pictures: int = 200
    held_out: int = 60
    points: int = 4
    crops: int = 960
    steps: int = 600


SIZE = Size()


def reference(context, seed):
    """Return the run that others differ from: FCN-8s at once, online learning, softmax."""
    folder = training.sample(context, SIZE.pictures, SIZE.held_out)
    weights, _ = classifier.pretrained(context, WIDTHS, pictures=SIZE.crops, held_out=SIZE.crops // 10, iterations=SIZE.steps)
    return training.Run(
        f"reference-{seed}", "fcn_sample", {"finest": 8, "normalization": "BATCH_SIZE", "learning": "online"},
        {"scales": SCALES}, seed=seed, images=SIZE.images, fields={"base_lr": RATE}, train={"voc_dir": folder},
        val={"voc_dir": folder}, weights=weights, points=SIZE.points)


def pictures_of(times=1, seeds=None):
    """Return what was drawn and trained, in words; `times` are the images of a run over those of `SIZE`."""
    return (f"fcn_sample from a classifier of drawn objects; {SIZE.images * times} images a run, of {SIZE.pictures} drawn ones; "
            f"{SIZE.held_out} others scored; {len(seeds or SIZE.seeds)} seeds")


# --- from runs to rows -----------------------------------------------------------------------------------------------


def shape(claim, place, ran, paper, ours, holds, note=""):
    """Return the Row of a claim on the order of trained nets: "same shape" when it `holds` here."""
    return Row(claim, place, ran, paper, ours, "same shape" if holds else "not reproduced", note)


def told_once(ran, rows):
    """Return the rows; what was run (with which their `ran` begins) is told in the first of each place only."""
    told, found = set(), []
    for row in rows:
        found.append(dataclasses.replace(row, ran=row.ran.replace(ran, "the same runs", 1)) if row.place in told else row)
        told.add(row.place)
    return found


def mean(values):
    """Return the mean as a float."""
    return float(np.mean(list(values)))


def ratio(some, whole):
    """Return the mean of `some` over the mean of `whole`; nan when that is 0."""
    return mean(some) / mean(whole) if mean(whole) else float("nan")


def percent(values):
    """Return mean and range of scores as text: "61.2 (59.0 to 63.1)"."""
    values = [100 * one for one in values]
    return f"{np.mean(values):.1f}" + (f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else "")


def listed(scores):
    """Return {name: values} as text: "accum 51.9 (50.0 to 53.0), online ..."."""
    return ", ".join(f"{name} {percent(values)}" for name, values in scores.items())


def ordered(scores, *names):
    """Whether the means of `scores` ({name: values by seed}) rise strictly along `names`."""
    means = [mean(scores[name]) for name in names]
    return all(a < b for a, b in zip(means, means[1:]))


def in_every_seed(scores, *names):
    """Return in how many seeds the order holds, as text: "in 2 of 3 seeds"."""
    rows = list(zip(*(scores[name] for name in names)))
    return f"in {sum(all(a < b for a, b in zip(row, row[1:])) for row in rows)} of {len(rows)} seeds"


def curve(trained, figure, label, key="mean_iu", x="images"):
    """Return a curve of the page: mean over the seeds of the mean IU at every point, over images or seconds."""
    return {"x": [float(np.mean(one)) for one in zip(*([point[x] for point in each.points] for each in trained))],
            "y": [float(np.mean(one)) for one in zip(*(each.iu() for each in trained))], "label": label, "figure": figure,
            "x_label": {"images": "images seen", "seconds": "seconds"}[x], "y_label": "mean IU on held-out pictures"}


def sheet(columns, height=128):
    """Return one picture of rows [(picture, truth, prediction, ...)]: labels in the palette, all cut or filled to a height."""
    rows = []
    for row in columns:
        cells = [one if one.ndim == 3 else colors.colorize(one) for one in row]
        rows.append(np.concatenate([_fitted(cell, height) for cell in cells], axis=1))
    return np.concatenate(rows)


def _fitted(cell, side):
    # Cut or fill with white to a square, from the middle, and a white line around it.
    out = np.full((side + 4, side + 4, 3), 255, np.uint8)
    top, left = (max(0, (length - side) // 2) for length in cell.shape[:2])
    cell = cell[top:top + side, left:left + side]
    down, right = ((side + 4 - length) // 2 for length in cell.shape[:2])
    out[down:down + cell.shape[0], right:right + cell.shape[1]] = cell
    return out
