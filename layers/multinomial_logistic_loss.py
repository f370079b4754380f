"""MultinomialLogisticLoss: L = -sum log(max(p[label], 1e-20)) / N, for probabilities p (N, C, ...) and N labels.

dp[label] = -loss weight / (N max(p[label], 1e-20)), 0 elsewhere; labels have no gradient, and one that is no class
number is an error. SoftmaxWithLoss is the better conditioned way. Source: Caffe's MultinomialLogisticLossLayer.
"""

import math

import numpy as np

from layers.core.loss import LossLayer, bad_label

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
