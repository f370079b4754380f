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
from layers.core.cuda import sums
from layers.core.cuda.counts import count_up
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.losses import THREADS, is_class
from layers.core.cuda.small import Flag
from layers.core.cuda.sums import two_trees
from layers.core.layer import Layer
from layers.core.loss import bad_label, find_bad_label, split_axes


class Accuracy(Layer):
    """How often the label wins."""

    exact_bottoms = 2
    min_tops, max_tops = 1, 2
    _flag = None

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

    def reshape(self, bottom, top):
        """Shape the tops."""
        super().reshape(bottom, top)
        self._positions = bottom[1].count

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

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: codes within a call."""
        return 0, 4 * self._positions

    def forward_cuda(self, bottom, top):
        """Count."""
        param, card = self.param.accuracy_param, self.card
        outer, classes, inner = split_axes(bottom[0].shape, self._axis(bottom[0].num_axes))
        if self._flag is None:
            self._flag = Flag(card)
        codes, counts = card.arena.borrow(4 * outer * inner), card.arena.borrow(8 * classes)
        card.run(accuracy_cuda, outer * inner, bottom[0].on(card), bottom[1].on(card), classes, inner, param.top_k,
                 param.HasField("ignore_label"), param.ignore_label, self._flag.lowered(), codes.span)
        count_up(card, codes.span, outer * inner, 2 * classes, counts.span)
        total, each = top[0].write_on(card), top[-1].write_on(card)
        card.launch(accuracy_finish_cuda, 1, counts.span, classes, total, each, len(top) > 1, threads=sums.threads(card))

    def flag_cuda(self):
        """Return the flag of a label that is no class number."""
        return self._flag.span

    def check_cuda(self, bottom, top):
        """Refuse a label that is no class number."""
        if self._flag.raised():
            param = self.param.accuracy_param
            ignored = param.ignore_label if param.HasField("ignore_label") else None
            find_bad_label(self, bottom[1].peek(), ignored, bottom[0].shape, self._axis(bottom[0].num_axes))

    backward_cuda = backward


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


@kernel("float*, float*, int, int, int, bool, float, int*, int*, int")
def accuracy_cuda(scores, labels, classes, inner, top_k, ignores, ignored, flag, codes, count):
    """Write 2 label + [right] for each position, -1 where nothing counts."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        label, code = labels[i], -1
        if not (ignores and label == ignored):
            if is_class(label, classes):
                first = over(i, inner) * (classes - 1) * inner + i
                own = scores[first + np.int64(label) * inner]
                better = -1  # its own score is counted too
                for c in range(classes):
                    if not scores[first + c * inner] < own:
                        better += 1
                code = 2 * np.int64(label) + (1 if better < top_k and own == own else 0)
            else:
                flag[0] = 1
        codes[i] = code


@kernel("int*, int, float*, float*, bool", threads=THREADS)
def accuracy_finish_cuda(counts, classes, total, each, has_each):
    """One block: from counts of wrong and right positions of each class to shares."""
    rights = cuda.shared.array(THREADS, np.float64)
    seens = cuda.shared.array(THREADS, np.float64)
    thread, together = cuda.threadIdx.x, cuda.blockDim.x
    right = seen = 0.0
    for c in range(thread, classes, together):
        right += counts[2 * c + 1]
        seen += counts[2 * c] + counts[2 * c + 1]
        if has_each:
            each[c] = counts[2 * c + 1] / max(1.0, np.float64(counts[2 * c] + counts[2 * c + 1]))
    two_trees(right, seen, rights, seens)
    if thread == 0:
        total[0] = rights[0] / max(1.0, seens[0])
