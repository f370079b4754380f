"""EuclideanLoss: L = sum (a - b)^2 / (2 N), N the first axis; da = (a - b) / N, db = -da, times the loss weight.

Two bottoms of as many values for each image. Both may have a gradient. Summed in float64. Source: Caffe's
EuclideanLossLayer.
"""

import math

import numpy as np

from layers.core.loss import LossLayer


class EuclideanLoss(LossLayer):
    """Half the mean squared distance."""

    def allow_force_backward(self, bottom):
        """Both bottoms may have a gradient."""
        return True

    def top_shapes(self, bottom_shapes):
        """Return one value."""
        a, b = bottom_shapes
        self.check_first_axis(bottom_shapes)
        if math.prod(a[1:]) != math.prod(b[1:]):
            self.fail(f"{self.called(0)} {list(a)} and {self.called(1)} {list(b)} must hold as many values")
        return [()]

    def forward(self, bottom, top):
        """Compute the loss."""
        self.distance = bottom[0].data.reshape(-1) - bottom[1].data.reshape(-1)
        total = np.einsum("i,i->", self.distance, self.distance, dtype=np.float64)
        top[0].data[...] = total / (2 * self._images(bottom))

    def backward(self, top, propagate_down, bottom):
        """Write the gradients."""
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                scale = self.dtype.type(sign * float(top[0].diff) / self._images(bottom))
                np.multiply(self.distance, scale, out=blob.diff.reshape(-1))

    @staticmethod
    def _images(bottom):
        return max(1, bottom[0].shape[0] if bottom[0].shape else 1)
