"""Accuracy: the share of positions whose label is among the `top_k` (default 1) best scores.

Bottoms: scores, e.g. (N, C, H, W) with classes along `axis` (default 1), and one label for each position. Tops: the
accuracy, one value, and optionally the accuracy of each class (C values, 0 for classes that no label names). Positions
whose label is `ignore_label` do not count; with nothing to count the accuracy is 0.

Ties count against the label, as in Caffe: it is among the best k when fewer than k other scores are greater or equal.
A NaN score of the label is wrong and a NaN rival is better (Caffe counts both as right). A label that is no class
number is an error. There is no gradient. Source: Caffe 1.0's AccuracyLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.layer import Layer
from layers.core.loss import bad_label, split_axes


class Accuracy(Layer):
    """How often the label wins."""

    exact_bottoms = 2
    min_tops, max_tops = 1, 2

    def check(self):
        """Refuse top_k 0."""
        if self.param.accuracy_param.top_k < 1:
            self.fail("top_k is 0; it must be at least 1")

    def allow_force_backward(self, bottom):
        """There is no gradient."""
        return False

    def _axis(self, num_axes):
        return self.canonical_axis(self.param.accuracy_param.axis, num_axes)

    def top_shapes(self, bottom_shapes):
        """Return one value, and one for each class."""
        scores, labels = tuple(bottom_shapes[0]), tuple(bottom_shapes[1])
        axis = self._axis(len(scores))
        outer, classes, inner = split_axes(scores, axis)
        if math.prod(labels) != outer * inner:
            self.fail(f"{self.called(1)} {list(labels)} holds {math.prod(labels)} labels, but {self.called(0)} "
                      f"{list(scores)} with its classes along axis {axis} needs {outer * inner}, one for each position")
        if self.param.accuracy_param.top_k > classes:
            self.fail(f"top_k {self.param.accuracy_param.top_k} exceeds the {classes} classes of {self.called(0)}")
        return [(), (classes,)]

    def forward(self, bottom, top):
        """Count."""
        param = self.param.accuracy_param
        axis = self._axis(bottom[0].num_axes)
        outer, classes, inner = split_axes(bottom[0].shape, axis)
        scores, labels = bottom[0].data.reshape(outer, classes, inner), bottom[1].data.reshape(-1)
        right, seen = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        bad = accuracy_cpu(scores, labels, param.top_k, param.HasField("ignore_label"), float(param.ignore_label),
                           right, seen)
        if bad >= 0:
            bad_label(self, float(labels[bad]), bad, bottom[0].shape, axis)
        top[0].data[...] = right.sum() / max(1, seen.sum())
        if len(top) > 1:
            top[1].data[...] = right / np.maximum(1, seen)

    def backward(self, top, propagate_down, bottom):
        """Fail where a gradient is asked for."""
        if any(propagate_down):
            self.fail("has no gradient; do not give it a loss_weight")


@cached
def accuracy_cpu(scores, labels, top_k, ignores, ignored, right, seen):
    """Count right and seen positions for each class; return the number of the first bad label, or -1."""
    outers, classes, inners = scores.shape
    for outer in range(outers):
        for inner in range(inners):
            label = float(labels[outer * inners + inner])
            if ignores and label == ignored:
                continue
            if not (label >= 0 and label < classes) or label != math.floor(label):
                return outer * inners + inner
            own = scores[outer, int(label), inner]
            better = -1  # its own score is counted too
            for c in range(classes):
                if not scores[outer, c, inner] < own:
                    better += 1
                    if better == top_k:
                        break
            seen[int(label)] += 1
            right[int(label)] += better < top_k and own == own
    return -1
