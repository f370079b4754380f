"""SoftmaxWithLoss: L = -sum log(p[label]) / normaliser, p = softmax of the scores along `axis` (default 1).

Bottoms: scores, e.g. (N, C, H, W), and one label for each position, e.g. (N, 1, H, W), whole numbers 0 to C - 1. Tops:
the loss, one value, and optionally p. Gradient of the scores: (p - [c = label]) * loss weight / normaliser, 0 where
the label is `ignore_label`; labels have none.

- Normaliser (at least 1): VALID counts the labels that are not ignored (default), FULL all, BATCH_SIZE the images,
  NONE is 1. The older `normalize: true` is VALID, `normalize: false` is BATCH_SIZE (the FCN nets' choice).
- p is held above FLT_MIN = 1.17549435e-38 in the loss only, so that the largest loss at one position is 87.3365.
- The loss is summed in float64 over blocks of positions in order; Caffe sums in float32, and is off by up to a per
  cent where many equal terms add up.
- A label that is no class number is always an error (a release build of Caffe reads beyond its memory).

Source: Caffe's SoftmaxWithLossLayer.
"""

import math

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cpu.softmax import BLOCK, block_of, softmax_cpu, units
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.losses import label_loss_cuda
from layers.core.cuda.softmax import softmax
from layers.core.loss import (
    VALID,
    LossLayer,
    bad_label,
    find_bad_label,
    normalization,
    normalizer,
    normalizer_on_card,
    split_axes,
)

SMALLEST = float(np.finfo(np.float32).tiny)  # FLT_MIN


class SoftmaxWithLoss(LossLayer):
    """Multinomial logistic loss of softmax probabilities."""

    exact_tops = None
    min_tops, max_tops = 1, 2

    def setup(self, bottom, top):
        """Take the parameters."""
        super().setup(bottom, top)
        self.mode = normalization(self.param.loss_param, VALID)
        self.prob = Blob((), f"{self.name} probabilities", self.dtype)
        self.valid = 0

    def axis(self, num_axes):
        """Return the classes' axis, counted from the front."""
        return self.canonical_axis(self.param.softmax_param.axis, num_axes)

    def top_shapes(self, bottom_shapes):
        """Return one value, and the scores' shape for the probabilities."""
        scores, labels = tuple(bottom_shapes[0]), tuple(bottom_shapes[1])
        axis = self.axis(len(scores))
        self.check_first_axis((scores, labels))
        outer, _, inner = split_axes(scores, axis)
        if math.prod(labels) != outer * inner:
            self.fail(f"{self.called(1)} {list(labels)} holds {math.prod(labels)} labels, but {self.called(0)} "
                      f"{list(scores)} with its classes along axis {axis} needs {outer * inner}, one for each position")
        return [(), scores]

    def reshape(self, bottom, top):
        """Shape the tops; the second one looks at the probabilities."""
        super().reshape(bottom, top)
        self.prob.reshape(bottom[0].shape)
        if len(top) > 1:
            top[1].share_data(self.prob)

    def forward(self, bottom, top):
        """Compute probabilities and loss."""
        axis = self.axis(bottom[0].num_axes)
        outer, channels, inner = split_axes(bottom[0].shape, axis)
        count = units(outer, inner)
        prob, labels = self.prob.data.reshape(-1), bottom[1].data.reshape(-1)
        parallel.run(softmax_cpu, count, bottom[0].data.reshape(-1), prob, channels, inner, work=prob.size)
        losses, valid, bad = np.zeros(count), np.zeros(count, np.int64), np.full(count, -1, np.int64)
        parallel.run(softmax_loss_cpu, count, prob, labels, channels, inner, self.ignore_label is not None,
                     self.dtype.type(self.ignore_label or 0), losses, valid, bad, work=labels.size)
        if (bad >= 0).any():
            index = int(bad[bad >= 0][0])
            bad_label(self, float(labels[index]), index, bottom[0].shape, axis)
        self.valid = int(valid.sum())
        top[0].data[...] = losses.sum() / normalizer(self.mode, outer, inner, self.valid)

    def backward(self, top, propagate_down, bottom):
        """Write the scores' gradient."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            outer, channels, inner = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
            scale = float(top[0].diff) / normalizer(self.mode, outer, inner, self.valid)
            parallel.run(softmax_loss_backward_cpu, units(outer, inner), self.prob.data.reshape(-1),
                         bottom[1].data.reshape(-1), bottom[0].diff.reshape(-1), channels, inner,
                         self.ignore_label is not None, self.dtype.type(self.ignore_label or 0), self.dtype.type(scale),
                         self.dtype.type(0), self.dtype.type(1), work=self.prob.count)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the probabilities."""
        return self.prob.count * 4, 0

    def forward_cuda(self, bottom, top):
        """Compute probabilities and loss."""
        outer, channels, inner = sizes = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
        prob, state = self.prob.write_on(self.card), self.loss_on_card()
        softmax(self.card, bottom[0].on(self.card), prob, *sizes)
        state.sum_up(label_loss_cuda, outer * inner, top[0].write_on(self.card), normalizer_on_card(self.mode, outer, inner),
                     prob, bottom[1].on(self.card), channels, inner, self.ignore_label is not None, self.ignore_label or 0,
                     SMALLEST, state.flag.lowered())

    def flag_cuda(self):
        """Return the flag of a label that is no class number."""
        return self.loss_on_card().flag.span

    def check_cuda(self, bottom, top):
        """Refuse a label that is no class number."""
        if self.loss_on_card().flag.raised():
            find_bad_label(self, bottom[1].peek(), self.ignore_label, bottom[0].shape, self.axis(bottom[0].num_axes))

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the scores' gradient."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            _, channels, inner = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
            self.card.run(softmax_loss_backward_cuda, self.prob.count, self.prob.on(self.card), bottom[1].on(self.card),
                          bottom[0].write_on(self.card, diff=True), channels, inner, self.ignore_label is not None,
                          self.ignore_label or 0, top[0].on(self.card, diff=True), self.loss_on_card().normalizer, 0, 1)


@cached
def softmax_loss_cpu(first, last, prob, labels, channels, inner, ignores, ignored, losses, valid, bad):
    """For units [first, last): the loss's sum, how many labels count, and the first bad label's number (or -1)."""
    for unit in range(first, last):
        base, width, start = block_of(unit, channels, inner)
        for p in range(width):
            label = labels[start + p]
            if ignores and label == ignored:
                continue
            # The first comparison is false for NaN.
            if not (label >= 0 and label < channels) or label != math.floor(label):
                bad[unit] = start + p
                break
            losses[unit] -= math.log(max(float(prob[base + int(label) * inner + p]), SMALLEST))
            valid[unit] += 1


@cached
def softmax_loss_backward_cpu(first, last, prob, labels, dx, channels, inner, ignores, ignored, scale, zero, one):
    """For units [first, last): dx = (prob - [c = label]) * scale, 0 where the label is ignored."""
    keep = np.empty(BLOCK, np.bool_)
    for unit in range(first, last):
        base, width, start = block_of(unit, channels, inner)
        for p in range(width):
            keep[p] = not (ignores and labels[start + p] == ignored)
        for c in range(channels):
            row, result = prob[base + c * inner:base + c * inner + width], dx[base + c * inner:base + c * inner + width]
            for p in range(width):
                result[p] = row[p] * scale if keep[p] else zero
        for p in range(width):
            if keep[p]:
                at = base + int(labels[start + p]) * inner + p
                dx[at] = (prob[at] - one) * scale


@cached(error_model="numpy")
def scale_at(weight, normalizer):
    """Return what gradients are multiplied by, in float32."""
    return np.float32(weight / normalizer)


@kernel("float*, float*, float*, int, int, bool, float, float*, double*, float, float, int")
def softmax_loss_backward_cuda(prob, labels, dx, channels, inner, ignores, ignored, weight, normalizer, zero, one, count):
    """All elements: dx = (prob - [c = label]) * weight / normaliser, 0 where the label is ignored."""
    scale = scale_at(weight[0], normalizer[0])
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        out = over(row, channels)
        label = labels[(out - row) * inner + i]
        if ignores and label == ignored:
            dx[i] = zero
        else:
            dx[i] = (prob[i] - (one if label == np.float32(row - out * channels) else zero)) * scale
