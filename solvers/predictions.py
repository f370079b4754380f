"""From scores to classes: the arg max of every position, and palette PNGs of it."""

import os

import numpy as np

from data import colors
from netspec.errors import Error


def predict(scores, name="score", net=None):
    """Return the class of highest score, (N, ...) uint8 or wider, of (N, classes, ...); ties go to the lower class."""
    if scores.ndim < 2 or scores.shape[1] < 1:
        raise Error(f"'{name}' {list(scores.shape)} is no score: it needs the axes (N, classes, ...)")
    # A NaN spoils the sum, which is quicker to see than every element.
    with np.errstate(all="ignore"):
        if np.isnan(scores.sum()) and np.isnan(scores).any():
            raise Error(f"'{name}' holds NaN{sample_of(net)}; the weights are damaged or training has diverged")
    return scores.argmax(axis=1).astype(np.uint8 if scores.shape[1] <= 256 else np.int32)


def sample_of(net):
    """Return " (sample ID)" of the sample that a net with a data layer has run last, or ""; for messages."""
    sample = getattr(net, "current_sample", None)
    return f" (sample {sample})" if sample else ""


class Saver:
    """Writes predictions as palette PNGs, named after the data set's ids where they are known."""

    def __init__(self, folder, dataset=None, several=False, ids=None):
        self.folder, self.several = os.fspath(folder), several
        self.ids = ids if ids is not None else getattr(dataset, "ids", None)
        self.counts = {}

    def __call__(self, net, prediction, head):
        """Write one file for each picture of the batch."""
        for one in prediction:
            number = self.counts.get(head, 0)
            self.counts[head] = number + 1
            name = str(self.ids[number]) if self.ids is not None and number < len(self.ids) else f"{number:06d}"
            label = one.reshape(1, -1) if one.ndim < 2 else one.reshape(-1, one.shape[-1])
            colors.save_palette_png(path_of(self.folder, name + (f"_{head}" if self.several else "")), label)


def path_of(folder, name):
    """Return where the prediction of the sample `name` is; ids such as those of ImageData lists may be paths."""
    return os.path.join(folder, f"{name.replace(os.path.sep, '_')}.png")
