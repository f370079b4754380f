"""The loss per valid pixel: what a segmentation net's raw loss means, whatever its normalisation and image size."""

import collections
import math

from layers.core.loss import normalizer, split_axes
from solvers import log

LOWEST = -math.log(2.0**-126)  # 87.3365: SoftmaxWithLoss clamps a probability at the smallest normal float


class PixelLoss:
    """Sums a net's SoftmaxWithLoss over its labels that are not ignored.

    Parameters
    ----------
    net : Net
    window : int, optional
        How many forward passes the sums cover; all since `clear` by default.
    """

    def __init__(self, net, window=None):
        self.net = net
        self.heads = [number for number, layer in enumerate(net.layers) if layer.type == "SoftmaxWithLoss"]
        self.seen = {number: collections.deque(maxlen=window) for number in self.heads}

    def clear(self):
        """Forget what was added."""
        for seen in self.seen.values():
            seen.clear()

    def add(self, look=None, losses=None):
        """Take the labels of the forward pass that has just been, and its loss; or what was seen of another (see `look`)."""
        if losses is None:
            look, losses = self.look(), [float(self.net.top_vecs[number][0].peek().reshape(-1)[0]) for number in self.heads]
        for number, (divisor, valid, total), loss in zip(self.heads, look, losses):
            self.seen[number].append((loss * divisor, valid, total))

    def look(self):
        """Return, for each loss, (what it was divided by, pixels with a label that counts, pixels): the labels will be others."""
        return [_look(self.net, number) for number in self.heads]

    def rows(self):
        """Return (layer name, loss per valid pixel, valid pixels, pixels) of each loss with a valid pixel."""
        result = []
        for number, seen in self.seen.items():
            loss, valid, total = (math.fsum(column) for column in zip(*seen)) if seen else (0, 0, 0)
            if valid:
                result.append((self.net.layer_names[number], loss / valid, int(valid), int(total)))
        return result

    def say(self, place):
        """Log a line for each loss."""
        rows = self.rows()
        for name, loss, valid, total in rows:
            whose = f" of {name}" if len(self.heads) > 1 else ""
            log.info(place, f"    Loss per valid pixel{whose}: {log.number(loss)} ({valid} of {total} pixels)")
            if loss > 0.99 * LOWEST:
                log.warning(place, f"    Loss per valid pixel{whose} is at {LOWEST:.4f} = -log(FLT_MIN): the right "
                                   "class has probability 0 everywhere, the scores have grown too large; lower base_lr")

    def state(self):
        """Return the sums, JSON-able."""
        return [[list(sums) for sums in self.seen[number]] for number in self.heads]

    def set_state(self, state):
        """Take back what `state` returned."""
        for number, seen in zip(self.heads, state):
            self.seen[number].clear()
            self.seen[number].extend(tuple(sums) for sums in seen)


def _look(net, number):
    layer, (scores, label) = net.layers[number], net.bottom_vecs[number][:2]
    total = label.count
    valid = total if layer.ignore_label is None else int((label.peek() != layer.ignore_label).sum())
    outer, _, inner = split_axes(scores.shape, layer.axis(scores.num_axes))
    return normalizer(layer.mode, outer, inner, valid), valid, total
