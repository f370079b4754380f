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
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.losses import THREADS, write_piece
from layers.core.loss import BATCH_SIZE, LossLayer, normalization, normalizer, normalizer_on_card

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

    def forward_cuda(self, bottom, top):
        """Compute the loss."""
        shape = bottom[0].shape
        given = normalizer_on_card(self.mode, shape[0] if shape else 1, math.prod(shape[1:]))
        self.loss_on_card().sum_up(sigmoid_loss_cuda, bottom[0].count, top[0].write_on(self.card), given,
                                   bottom[0].on(self.card), bottom[1].on(self.card), self.ignore_label is not None,
                                   self.ignore_label or 0)

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the scores' gradient."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            x, target, dx = bottom[0].on(self.card), bottom[1].on(self.card), bottom[0].write_on(self.card, diff=True)
            self.card.run(sigmoid_loss_backward_cuda, bottom[0].count, x, target, dx, self.ignore_label is not None,
                          self.ignore_label or 0, top[0].on(self.card, diff=True), self.loss_on_card().normalizer, 0)

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


@cached
def sigmoid_loss_at(score, target):
    """Return the loss of one value, in float64."""
    score = float(score)
    return math.log1p(math.exp(-abs(score))) - score * (float(target) - (score >= 0))


@cached(error_model="numpy")
def sigmoid_loss_slope_at(score, target, weight, normalizer):
    """Return the gradient of one value."""
    return (1 / (1 + math.exp(-float(score))) - target) * (weight / normalizer)


@cached
def is_ignored(target, ignored):
    """Whether a target is `ignored` after dropping its fraction."""
    return math.trunc(target) == ignored


@kernel("float*, float*, bool, float, double*, int, int", threads=THREADS)
def sigmoid_loss_cuda(x, target, ignores, ignored, partial, piece, count):
    """The loss of a piece of the values for each block."""
    losses = cuda.shared.array(THREADS, np.float64)
    valids = cuda.shared.array(THREADS, np.float64)
    loss = valid = 0.0
    first = np.int64(cuda.blockIdx.x) * piece
    for i in range(first + cuda.threadIdx.x, min(first + piece, count), cuda.blockDim.x):
        if not (ignores and is_ignored(target[i], ignored)):
            loss += sigmoid_loss_at(x[i], target[i])
            valid += 1.0
    write_piece(loss, valid, partial, losses, valids)


@kernel("float*, float*, float*, bool, float, float*, double*, float, int")
def sigmoid_loss_backward_cuda(x, target, dx, ignores, ignored, weight, normalizer, zero, count):
    """All elements: dx = (s - t) * weight / normaliser, 0 where the target is ignored."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        if ignores and is_ignored(target[i], ignored):
            dx[i] = zero
        else:
            dx[i] = sigmoid_loss_slope_at(x[i], target[i], weight[0], normalizer[0])
