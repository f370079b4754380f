"""SigmoidCrossEntropyLoss: L = -sum (t log s + (1 - t) log(1 - s)) / normaliser, s = 1 / (1 + exp(-x)).

Bottoms: scores x and targets t in [0, 1], the same number of values. Top: the loss, one value. Gradient of the scores:
(s - t) * loss weight / normaliser, 0 where the target is `ignore_label`; targets have none. Computed without overflow
as x (t - [x >= 0]) - log(1 + exp(-|x|)), summed in float64.

The normaliser is BATCH_SIZE unless said otherwise (SoftmaxWithLoss: VALID); `normalize: true` is VALID. As in Caffe a
target is compared with `ignore_label` after dropping its fraction. Source: Caffe's SigmoidCrossEntropyLossLayer.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.loss import BATCH_SIZE, LossLayer, normalization, normalizer

BLOCK = 4096  # values whose losses are summed together


class SigmoidCrossEntropyLoss(LossLayer):
    """Logistic loss of independent yes-or-no predictions."""

    def setup(self, bottom, top):
        """Take the parameters."""
        super().setup(bottom, top)
        self.mode = normalization(self.param.loss_param, BATCH_SIZE)
        self.valid = 0

    def top_shapes(self, bottom_shapes):
        """Return one value."""
        if math.prod(bottom_shapes[0]) != math.prod(bottom_shapes[1]):
            self.fail(f"{self.called(0)} {list(bottom_shapes[0])} and {self.called(1)} {list(bottom_shapes[1])} must "
                      "hold as many values: one target for each score")
        return super().top_shapes(bottom_shapes)

    def forward(self, bottom, top):
        """Compute the loss."""
        count = bottom[0].count
        blocks = -(-count // BLOCK)
        losses, valid = np.zeros(blocks), np.zeros(blocks, np.int64)
        parallel.run(sigmoid_loss_cpu, blocks, bottom[0].data.reshape(-1), bottom[1].data.reshape(-1),
                     self.ignore_label is not None, self.dtype.type(self.ignore_label or 0), losses, valid, work=count)
        self.valid = int(valid.sum())
        top[0].data[...] = losses.sum() / self._normalizer(bottom[0].shape)

    def backward(self, top, propagate_down, bottom):
        """Write the scores' gradient."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            scale = float(top[0].diff) / self._normalizer(bottom[0].shape)
            parallel.run(sigmoid_loss_backward_cpu, bottom[0].count, bottom[0].data.reshape(-1),
                         bottom[1].data.reshape(-1), bottom[0].diff.reshape(-1), self.ignore_label is not None,
                         self.dtype.type(self.ignore_label or 0), scale)

    def _normalizer(self, shape):
        outer = shape[0] if shape else 1
        return normalizer(self.mode, outer, math.prod(shape[1:]), self.valid)


@cached
def sigmoid_loss_cpu(first, last, x, target, ignores, ignored, losses, valid):
    """For blocks [first, last): the loss's sum and how many targets count."""
    for block in range(first, last):
        for i in range(block * BLOCK, min((block + 1) * BLOCK, x.size)):
            if ignores and math.trunc(target[i]) == ignored:
                continue
            score = float(x[i])
            losses[block] -= score * (target[i] - (score >= 0)) - math.log1p(math.exp(-abs(score)))
            valid[block] += 1


@cached(error_model="numpy")
def sigmoid_loss_backward_cpu(first, last, x, target, dx, ignores, ignored, scale):
    """Elements [first, last): dx = (s - t) * scale, 0 where the target is ignored."""
    x, target, dx = x[first:last], target[first:last], dx[first:last]
    for i in range(x.size):
        if ignores and math.trunc(target[i]) == ignored:
            dx[i] = 0
        else:
            dx[i] = (1 / (1 + math.exp(-float(x[i]))) - target[i]) * scale
