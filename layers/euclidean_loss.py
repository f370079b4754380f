"""EuclideanLoss: L = sum (a - b)^2 / (2 N), N the first axis; da = (a - b) / N, db = -da, times the loss weight.

Two bottoms of as many values for each image. Both may have a gradient. Summed in float64. Source: Caffe's
EuclideanLossLayer.
"""

import math

import numpy as np

from layers.core.cuda import sums
from layers.core.cuda.kernel import cuda, kernel
from layers.core.loss import LossLayer


class EuclideanLoss(LossLayer):
    """Half the mean squared distance."""

    distance_on_card = None

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

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self._count = bottom[0].count

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

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the distance."""
        return 4 * self._count, 0

    def forward_cuda(self, bottom, top):
        """Compute the loss."""
        count = bottom[0].count
        if self.distance_on_card is None or self.distance_on_card.span.nbytes < 4 * count:
            self.distance_on_card = None  # first it goes back
            self.distance_on_card = self.card.arena.take(4 * count)
        distance = self.distance_on_card.span
        self.card.run(distance_cuda, count, bottom[0].on(self.card), bottom[1].on(self.card), distance)
        sums.add_up(self.card, sums.PRODUCTS, distance, distance, (1, 1, count), top[0].write_on(self.card),
                    1 / (2 * self._images(bottom)))

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the gradients."""
        for blob, wanted, sign in zip(bottom, propagate_down, (1, -1)):
            if wanted:
                self.card.run(scaled_distance_cuda, blob.count, self.distance_on_card.span, top[0].on(self.card, diff=True),
                              sign / self._images(bottom), blob.write_on(self.card, diff=True))

    @staticmethod
    def _images(bottom):
        return max(1, bottom[0].shape[0] if bottom[0].shape else 1)


@kernel("float*, float*, float*, int")
def distance_cuda(a, b, distance, count):
    """All elements: a - b."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        distance[i] = a[i] - b[i]


@kernel("float*, float*, double, float*, int")
def scaled_distance_cuda(distance, weight, factor, target, count):
    """All elements: distance * loss weight * factor."""
    scale = np.float32(weight[0] * factor)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        target[i] = distance[i] * scale
