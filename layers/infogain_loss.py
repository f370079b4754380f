"""InfogainLoss: L = -sum over positions and classes of H[label, c] log(max(p[c], 1e-20)) / normaliser, p = softmax of the scores.

Bottoms: scores, e.g. (N, C, H, W), with their classes along `axis` (default 1); one label for each position, whole numbers 0 to
C - 1; and the matrix H, C x C values in any shape, unless `source` names a file that holds it (a BlobProto, ``.binaryproto``,
looked for as given, beside the prototxt, and from the project's root). Tops: the loss, one value, and optionally p. With the unit
matrix it is SoftmaxWithLoss but for the bound of p.

Gradient of the scores: (p[c] sum of H[label] - H[label, c]) * loss weight / normaliser, 0 where the label is `ignore_label`;
labels and matrix have none. Normaliser (at least 1): VALID counts the labels that are not ignored (default), FULL all, BATCH_SIZE
the images, NONE is 1. The loss and H's rows are summed in float64, positions in blocks in order. A label that is no class number
is an error. Source: Caffe's InfogainLossLayer, as of 1.0: older ones took probabilities.
"""

import math

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cpu.softmax import block_of, softmax_cpu, units
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.losses import THREADS, is_class, log_loss_at, write_piece
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
from netspec import binaryproto, files

SMALLEST = 1e-20  # Caffe's kLOG_THRESHOLD


class InfogainLoss(LossLayer):
    """Logistic loss in which a matrix says how much each mistake costs."""

    exact_bottoms = exact_tops = None
    min_bottoms, max_bottoms = 2, 3
    min_tops, max_tops = 1, 2
    prototxt = ""  # set by the net: the file beside which the matrix is looked for

    def check(self):
        """Refuse what Caffe refuses."""
        if self.param.loss_param.HasField("normalize"):
            self.fail("knows no loss_param.normalize; give 'normalization': VALID for true, BATCH_SIZE for false")
        if len(self.param.bottom) == 2 and not self.param.infogain_loss_param.source:
            self.fail("has no matrix; give infogain_loss_param { source: ... }, a .binaryproto file, or a third bottom")

    def allow_force_backward(self, bottom):
        """Only the scores have a gradient."""
        return bottom == 0

    def axis(self, num_axes):
        """Return the classes' axis, counted from the front."""
        return self.canonical_axis(self.param.infogain_loss_param.axis, num_axes)

    def top_shapes(self, bottom_shapes):
        """Return one value, and the scores' shape for the probabilities."""
        scores, labels = tuple(bottom_shapes[0]), tuple(bottom_shapes[1])
        axis = self.axis(len(scores))
        self.check_first_axis((scores, labels))
        outer, classes, inner = split_axes(scores, axis)
        if math.prod(labels) != outer * inner:
            self.fail(f"{self.called(1)} {list(labels)} holds {math.prod(labels)} labels, but {self.called(0)} "
                      f"{list(scores)} with its classes along axis {axis} needs {outer * inner}, one for each position")
        if len(bottom_shapes) > 2:
            self._check_matrix(self.called(2), bottom_shapes[2], classes)
        return [(), scores]

    def _check_matrix(self, name, shape, classes):
        if math.prod(shape) != classes * classes:
            self.fail(f"the matrix {name} {list(shape)} must hold {classes} x {classes} values, one for each pair of the classes "
                      f"of {self.called(0)}")

    def setup(self, bottom, top):
        """Take the parameters, read the matrix."""
        super().setup(bottom, top)
        self.mode = normalization(self.param.loss_param, VALID)
        self.prob = Blob((), f"{self.name} probabilities", self.dtype)
        self.row_sums = Blob((), f"{self.name} sums of the matrix's rows", self.dtype)
        self.valid, self.matrix = 0, None
        if len(bottom) < 3:
            path = files.find(self.param.infogain_loss_param.source, self.prototxt, "infogain matrix")
            values = binaryproto.read_mean(path)
            self.matrix = Blob(values.shape, f"'{path}'", self.dtype)
            self.matrix.data[...] = values

    def reshape(self, bottom, top):
        """Shape the tops; the second one looks at the probabilities."""
        super().reshape(bottom, top)
        classes = bottom[0].shape[self.axis(bottom[0].num_axes)]
        if self.matrix is not None:
            self._check_matrix(self.matrix.name, self.matrix.shape, classes)
        self.prob.reshape(bottom[0].shape)
        self.row_sums.reshape(classes)
        if len(top) > 1:
            top[1].share_data(self.prob)

    def _gains(self, bottom):
        """Return the blob that holds the matrix."""
        return bottom[2] if self.matrix is None else self.matrix

    def forward(self, bottom, top):
        """Compute probabilities and loss."""
        axis = self.axis(bottom[0].num_axes)
        outer, channels, inner = split_axes(bottom[0].shape, axis)
        count = units(outer, inner)
        prob, labels = self.prob.data.reshape(-1), bottom[1].data.reshape(-1)
        parallel.run(softmax_cpu, count, bottom[0].data.reshape(-1), prob, channels, inner, work=prob.size)
        losses, valid, bad = np.zeros(count), np.zeros(count, np.int64), np.full(count, -1, np.int64)
        parallel.run(infogain_loss_cpu, count, prob, labels, self._gains(bottom).peek().reshape(-1), channels, inner,
                     self.ignore_label is not None, self.dtype.type(self.ignore_label or 0), losses, valid, bad, work=prob.size)
        if (bad >= 0).any():
            index = int(bad[bad >= 0][0])
            bad_label(self, float(labels[index]), index, bottom[0].shape, axis)
        self.valid = int(valid.sum())
        top[0].data[...] = losses.sum() / normalizer(self.mode, outer, inner, self.valid)

    def backward(self, top, propagate_down, bottom):
        """Write the scores' gradient."""
        self._refuse_gradients(propagate_down)
        if propagate_down[0]:
            outer, channels, inner = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
            scale = float(top[0].diff) / normalizer(self.mode, outer, inner, self.valid)
            gains = self._gains(bottom).peek().reshape(channels, channels)
            parallel.run(infogain_loss_backward_cpu, units(outer, inner), self.prob.data.reshape(-1),
                         bottom[1].data.reshape(-1), gains.reshape(-1), gains.sum(1, dtype=np.float64).astype(self.dtype),
                         bottom[0].diff.reshape(-1), channels, inner, self.ignore_label is not None,
                         self.dtype.type(self.ignore_label or 0), self.dtype.type(scale), self.dtype.type(0),
                         work=self.prob.count)

    def _refuse_gradients(self, propagate_down):
        self.refuse_label_gradient(propagate_down)
        if len(propagate_down) > 2 and propagate_down[2]:
            self.fail(f"cannot backpropagate to the matrix ({self.called(2)}); set propagate_down: false for it")

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: probabilities, matrix, sums of its rows."""
        classes = self.row_sums.count
        return 4 * (self.prob.count + classes + (0 if self.matrix is None else classes * classes)), 0

    def forward_cuda(self, bottom, top):
        """Compute probabilities and loss."""
        outer, channels, inner = sizes = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
        prob, state = self.prob.write_on(self.card), self.loss_on_card()
        softmax(self.card, bottom[0].on(self.card), prob, *sizes)
        state.sum_up(infogain_loss_cuda, outer * inner, top[0].write_on(self.card), normalizer_on_card(self.mode, outer, inner),
                     prob, bottom[1].on(self.card), self._gains(bottom).on(self.card), channels, inner,
                     self.ignore_label is not None, self.ignore_label or 0, SMALLEST, state.flag.lowered())

    def flag_cuda(self):
        """Return the flag of a label that is no class number."""
        return self.loss_on_card().flag.span

    def check_cuda(self, bottom, top):
        """Refuse a label that is no class number."""
        if self.loss_on_card().flag.raised():
            find_bad_label(self, bottom[1].peek(), self.ignore_label, bottom[0].shape, self.axis(bottom[0].num_axes))

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the scores' gradient."""
        self._refuse_gradients(propagate_down)
        if propagate_down[0]:
            _, channels, inner = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
            gains, totals = self._gains(bottom).on(self.card), self.row_sums.write_on(self.card)
            sums.add_up(self.card, sums.VALUES, gains, gains, (1, channels, channels), totals)
            self.card.run(infogain_loss_backward_cuda, self.prob.count, self.prob.on(self.card), bottom[1].on(self.card), gains,
                          totals, bottom[0].write_on(self.card, diff=True), channels, inner, self.ignore_label is not None,
                          self.ignore_label or 0, top[0].on(self.card, diff=True), self.loss_on_card().normalizer, 0)


@cached
def infogain_slope_at(probability, total, gain):
    """Return dL / dx of one score, without the factor."""
    return probability * total - gain


@cached
def infogain_loss_cpu(first, last, prob, labels, gains, channels, inner, ignores, ignored, losses, valid, bad):
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
            row = int(label) * channels
            for c in range(channels):
                losses[unit] -= float(gains[row + c]) * math.log(max(float(prob[base + c * inner + p]), SMALLEST))
            valid[unit] += 1


@cached
def infogain_loss_backward_cpu(first, last, prob, labels, gains, totals, dx, channels, inner, ignores, ignored, scale, zero):
    """For units [first, last): the scores' gradient, 0 where the label is ignored."""
    for unit in range(first, last):
        base, width, start = block_of(unit, channels, inner)
        for c in range(channels):
            at = base + c * inner
            for p in range(width):
                label = labels[start + p]
                if ignores and label == ignored:
                    dx[at + p] = zero
                else:
                    number = int(label)
                    dx[at + p] = infogain_slope_at(prob[at + p], totals[number], gains[number * channels + c]) * scale


@kernel("float*, float*, float*, int, int, bool, float, float, int*, double*, int, int", threads=THREADS)
def infogain_loss_cuda(prob, labels, gains, channels, inner, ignores, ignored, smallest, flag, partial, piece, count):
    """The losses' sum, (outer, channels, inner), for each block a piece of the labels; a label's classes in order."""
    losses = cuda.shared.array(THREADS, np.float64)
    valids = cuda.shared.array(THREADS, np.float64)
    loss = valid = 0.0
    first = np.int64(cuda.blockIdx.x) * piece
    for i in range(first + cuda.threadIdx.x, min(first + piece, count), cuda.blockDim.x):
        label = labels[i]
        if not (ignores and label == ignored):
            if is_class(label, channels):
                place = over(i, inner) * (channels - 1) * inner + i
                row = np.int64(label) * channels
                for c in range(channels):
                    loss += gains[row + c] * log_loss_at(prob[place + c * inner], smallest)
                valid += 1.0
            else:
                flag[0] = 1
    write_piece(loss, valid, partial, losses, valids)


@kernel("float*, float*, float*, float*, float*, int, int, bool, float, float*, double*, float, int")
def infogain_loss_backward_cuda(prob, labels, gains, totals, dx, channels, inner, ignores, ignored, weight, normalizer, zero,
                                count):
    """All elements of the scores' gradient; a label that is no class number, which is said elsewhere, has none."""
    scale = np.float32(weight[0] / normalizer[0])
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        out = over(row, channels)
        label = labels[(out - row) * inner + i]
        if (ignores and label == ignored) or not is_class(label, channels):
            dx[i] = zero
        else:
            number = np.int64(label)
            dx[i] = infogain_slope_at(prob[i], totals[number], gains[number * channels + row - out * channels]) * scale
