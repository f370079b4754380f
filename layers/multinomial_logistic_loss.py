"""MultinomialLogisticLoss: L = -sum log(max(p[label], 1e-20)) / N, for probabilities p (N, C, ...) and N labels.

dp[label] = -loss weight / (N max(p[label], 1e-20)), 0 elsewhere; labels have no gradient, and one that is no class
number is an error. SoftmaxWithLoss is the better conditioned way. Source: Caffe's MultinomialLogisticLossLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.losses import label_loss_cuda
from layers.core.loss import LossLayer, bad_label, find_bad_label

SMALLEST = 1e-20  # Caffe's kLOG_THRESHOLD


class MultinomialLogisticLoss(LossLayer):
    """Logistic loss of given probabilities."""

    def top_shapes(self, bottom_shapes):
        """Return one value."""
        self.check_first_axis(bottom_shapes)
        if math.prod(bottom_shapes[1][1:]) != 1:
            self.fail(f"{self.called(1)} {list(bottom_shapes[1])} must hold one label for each image")
        return [()]

    def _chosen(self, bottom):
        """Return (probabilities (N, classes), label numbers, the labels' probabilities)."""
        images = bottom[0].shape[0]
        prob = bottom[0].data.reshape(images, -1)
        labels = bottom[1].data.reshape(-1)
        good = (labels >= 0) & (labels < prob.shape[1]) & (labels == np.floor(labels))
        if not good.all():
            index = int(np.argmin(good))
            bad_label(self, float(labels[index]), index, prob.shape, 1)
        numbers = labels.astype(np.int64)
        return prob, numbers, np.maximum(prob[np.arange(images), numbers], SMALLEST)

    def forward(self, bottom, top):
        """Compute the loss."""
        _, _, chosen = self._chosen(bottom)
        top[0].data[...] = -np.log(chosen).sum(dtype=np.float64) / len(chosen)

    def backward(self, top, propagate_down, bottom):
        """Write the gradient."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            prob, numbers, chosen = self._chosen(bottom)
            diff = bottom[0].diff.reshape(prob.shape)
            diff.fill(0)
            diff[np.arange(len(chosen)), numbers] = -float(top[0].diff) / len(chosen) / chosen

    def forward_cuda(self, bottom, top):
        """Compute the loss."""
        images, state = bottom[0].shape[0], self.loss_on_card()
        state.sum_up(label_loss_cuda, images, top[0].write_on(self.card), images, bottom[0].on(self.card),
                     bottom[1].on(self.card), bottom[0].count // max(1, images), 1, False, 0, SMALLEST, state.flag.lowered())

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
            self.card.run(multinomial_backward_cuda, bottom[0].count, bottom[0].on(self.card), bottom[1].on(self.card),
                          top[0].on(self.card, diff=True), images, bottom[0].count // max(1, images), SMALLEST,
                          bottom[0].write_on(self.card, diff=True))


@cached(error_model="numpy")
def multinomial_slope_at(probability, smallest, weight, images):
    """Return dL / dp of a label's probability."""
    return -weight / images / max(probability, smallest)


@kernel("float*, float*, float*, int, int, float, float*, int")
def multinomial_backward_cuda(prob, labels, weight, images, classes, smallest, dx, count):
    """All elements: the gradient for the labels' probabilities, 0 for the others."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        image = over(i, classes)
        if labels[image] == i - image * classes:
            dx[i] = multinomial_slope_at(prob[i], smallest, weight[0], images)
        else:
            dx[i] = 0.0
