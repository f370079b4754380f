"""HingeLoss: L = sum over images and classes of max(0, 1 + x[c] (-1 for the label's class, 1 for the others)) / N, or of squares.

Scores x (N, C, ...), all axes but the first together being the classes, and N labels, whole numbers 0 to C - 1. `norm` L1 sums
the margins m, L2 their squares, in float64. dx = sign(m), or 2 m, times -1 for the label's class, times loss weight / N. Labels
have no gradient, and one that is no class number is an error. Source: Caffe's HingeLossLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.losses import THREADS, is_class, write_piece
from layers.core.loss import LossLayer, bad_label, find_bad_label
from netspec import caffe_pb2


class HingeLoss(LossLayer):
    """One-against-all margins, as for support vector machines."""

    def top_shapes(self, bottom_shapes):
        """Return one value."""
        self.check_first_axis(bottom_shapes)
        if not bottom_shapes[0] or math.prod(bottom_shapes[1][1:]) != 1:
            self.fail(f"{self.called(1)} {list(bottom_shapes[1])} must hold one label for each image of {self.called(0)} "
                      f"{list(bottom_shapes[0])}")
        return [()]

    @property
    def squares(self):
        """Whether margins count by their squares."""
        return self.param.hinge_loss_param.norm == caffe_pb2.HingeLossParameter.L2

    def _margins(self, bottom):
        """Return (margins (N, classes), signs of the scores in them)."""
        images = bottom[0].shape[0]
        scores, labels = bottom[0].data.reshape(images, -1), bottom[1].data.reshape(-1)
        good = (labels >= 0) & (labels < scores.shape[1]) & (labels == np.floor(labels))
        if not good.all():
            index = int(np.argmin(good))
            bad_label(self, float(labels[index]), index, scores.shape, 1)
        signs = np.ones_like(scores)
        signs[np.arange(images), labels.astype(np.int64)] = -1
        return np.maximum(1 + signs * scores, 0), signs

    def forward(self, bottom, top):
        """Compute the loss."""
        margins, _ = self._margins(bottom)
        total = np.einsum("ij,ij->", margins, margins, dtype=np.float64) if self.squares else margins.sum(dtype=np.float64)
        top[0].data[...] = total / len(margins)

    def backward(self, top, propagate_down, bottom):
        """Write the gradient."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            margins, signs = self._margins(bottom)
            slopes = 2 * margins if self.squares else np.sign(margins)
            scale = self.dtype.type(float(top[0].diff) / len(margins))
            bottom[0].diff.reshape(margins.shape)[...] = signs * slopes * scale

    def forward_cuda(self, bottom, top):
        """Compute the loss."""
        images, state = bottom[0].shape[0], self.loss_on_card()
        state.sum_up(hinge_loss_cuda, bottom[0].count, top[0].write_on(self.card), images, bottom[0].on(self.card),
                     bottom[1].on(self.card), bottom[0].count // max(1, images), self.squares, state.flag.lowered())

    def flag_cuda(self):
        """Return the flag of a label that is no class number."""
        return self.loss_on_card().flag.span

    def check_cuda(self, bottom, top):
        """Refuse a label that is no class number."""
        if self.loss_on_card().flag.raised():
            images = bottom[0].shape[0]
            find_bad_label(self, bottom[1].peek(), None, (images, bottom[0].count // images), 1)

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the gradient."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            images = bottom[0].shape[0]
            self.card.run(hinge_loss_backward_cuda, bottom[0].count, bottom[0].on(self.card), bottom[1].on(self.card),
                          top[0].on(self.card, diff=True), images, bottom[0].count // max(1, images), self.squares,
                          bottom[0].write_on(self.card, diff=True))


@cached
def margin_at(score, is_label):
    """Return the margin of one class; NaN stays."""
    margin = np.float32(1) + (-score if is_label else score)
    return np.float32(0) if margin <= 0 else margin


@cached
def margin_slope_at(margin, is_label, squares):
    """Return the slope of one score, without the factor."""
    slope = np.float32(2) * margin if squares else np.float32(1) if margin > 0 else margin
    return -slope if is_label else slope


@kernel("float*, float*, int, bool, int*, double*, int, int", threads=THREADS)
def hinge_loss_cuda(scores, labels, classes, squares, flag, partial, piece, count):
    """The margins' sum for each block a piece of the scores."""
    losses = cuda.shared.array(THREADS, np.float64)
    valids = cuda.shared.array(THREADS, np.float64)
    loss = 0.0
    first = np.int64(cuda.blockIdx.x) * piece
    for i in range(first + cuda.threadIdx.x, min(first + piece, count), cuda.blockDim.x):
        image = over(i, classes)
        label = labels[image]
        if not is_class(label, classes):
            flag[0] = 1
        # The class as 32 bits: with 64 the compiler spills a register for sm_80.
        margin = np.float64(margin_at(scores[i], label == np.int32(i - image * classes)))
        loss += margin * margin if squares else margin
    write_piece(loss, 0.0, partial, losses, valids)


@kernel("float*, float*, float*, int, int, bool, float*, int")
def hinge_loss_backward_cuda(scores, labels, weight, images, classes, squares, dx, count):
    """All elements of the scores' gradient."""
    scale = np.float32(weight[0] / np.float64(images))
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        image = over(i, classes)
        is_label = labels[image] == i - image * classes
        dx[i] = margin_slope_at(margin_at(scores[i], is_label), is_label, squares) * scale
