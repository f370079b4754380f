"""ContrastiveLoss: L = sum over pairs of d^2 (alike) or max(margin - d, 0)^2 (unlike), / (2 N), d = |a - b|.

Bottoms: a and b (N, C) or (N, C, 1, 1), and for each pair whether it is alike (N,): a number that is not 0 once its fraction is
cut off. With `legacy_version` an unlike pair costs max(margin - d^2, 0) instead. `margin` is 1 unless given. The gradient of a is
(a - b) times loss weight / N times 1 for a pair that is alike, -(margin - d) / (d + 1e-4) for one that is not and nearer than
the margin (legacy: -1), else 0; that of b is its opposite. As in Caffe the 1e-4 stands in the gradient only. Sums are float64.
Source: Caffe's ContrastiveLossLayer (Hadsell, Chopra and LeCun 2006).
"""

import math

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu.compiled import cached
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.loss import LossLayer

NEAR = 1e-4  # keeps the gradient finite where both are the same


class ContrastiveLoss(LossLayer):
    """Pairs that are alike shall lie near each other, others far apart."""

    exact_bottoms = 3

    def allow_force_backward(self, bottom):
        """Whether pairs are alike has no gradient."""
        return bottom != 2

    def top_shapes(self, bottom_shapes):
        """Return one value."""
        a, b, alike = (tuple(shape) for shape in bottom_shapes)
        for number, shape in enumerate((a, b)):
            if not 2 <= len(shape) <= 4 or math.prod(shape[2:]) != 1:
                self.fail(f"compares vectors (N, C) or (N, C, 1, 1), but {self.called(number)} has {list(shape)}")
        if a[:2] != b[:2]:
            self.fail(f"compares vectors in pairs, but {self.called(0)} has {list(a)} and {self.called(1)} {list(b)}")
        if alike[:1] != a[:1] or math.prod(alike) != a[0]:
            self.fail(f"needs one value for each of the {a[0]} pairs, but {self.called(2)} has {list(alike)}")
        return [()]

    def setup(self, bottom, top):
        """Have a place for distances."""
        super().setup(bottom, top)
        self.distance, self.square, self.cost = (
            Blob((), f"{self.name} {what}", self.dtype) for what in ("distance", "squared distance", "cost"))

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self.distance.reshape(bottom[0].shape[:2])
        self.square.reshape(bottom[0].shape[0])
        self.cost.reshape(bottom[0].shape[0])

    def _settings(self):
        param = self.param.contrastive_loss_param
        return self.dtype.type(param.margin), param.legacy_version

    def _refuse_gradient(self, propagate_down):
        if propagate_down[2]:
            self.fail(f"cannot backpropagate to {self.called(2)}, which says what is alike; set propagate_down: false for it")

    def forward(self, bottom, top):
        """Compute the loss."""
        margin, legacy = self._settings()
        distance = np.subtract(*(blob.data.reshape(self.distance.shape) for blob in bottom[:2]), out=self.distance.data)
        square = np.einsum("ij,ij->i", distance, distance, dtype=np.float64)
        self.square.data[...] = square
        apart = np.maximum(margin - square, 0) if legacy else np.maximum(margin - np.sqrt(square), 0) ** 2
        total = np.where(self._alike(bottom), square, apart).sum()
        top[0].data[...] = total / (2 * max(1, len(square)))

    def backward(self, top, propagate_down, bottom):
        """Write the gradients."""
        self._refuse_gradient(propagate_down)
        margin, legacy = self._settings()
        square, images = self.square.data, max(1, len(self.square.data))
        root = np.sqrt(square)
        room = margin - square if legacy else margin - root
        apart = np.where(room > 0, -1 if legacy else -room / (root + self.dtype.type(NEAR)), 0)
        factor = np.where(self._alike(bottom), 1, apart).astype(self.dtype)
        for blob, wanted, sign in zip(bottom[:2], propagate_down, (1, -1)):
            if wanted:
                scale = factor * self.dtype.type(sign * float(top[0].diff) / images)
                np.multiply(self.distance.data, scale[:, None], out=blob.diff.reshape(self.distance.shape))

    @staticmethod
    def _alike(bottom):
        return abs(bottom[2].data.reshape(-1)) >= 1

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the distances."""
        return 4 * (self.distance.count + 2 * self.square.count), 0

    def forward_cuda(self, bottom, top):
        """Compute the loss."""
        card, (images, values) = self.card, self.distance.shape
        distance, square, cost = (blob.write_on(card) for blob in (self.distance, self.square, self.cost))
        card.run(pair_distance_cuda, self.distance.count, bottom[0].on(card), bottom[1].on(card), distance)
        sums.add_up(card, sums.PRODUCTS, distance, distance, (1, images, values), square)
        card.run(pair_cost_cuda, images, square, bottom[2].on(card), *self._settings(), cost)
        sums.add_up(card, sums.VALUES, cost, cost, (1, 1, images), top[0].write_on(card), 1 / (2 * max(1, images)))

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the gradients."""
        self._refuse_gradient(propagate_down)
        card, (images, values) = self.card, self.distance.shape
        for blob, wanted, sign in zip(bottom[:2], propagate_down, (1, -1)):
            if wanted:
                card.run(pair_backward_cuda, blob.count, self.distance.on(card), self.square.on(card), bottom[2].on(card),
                         top[0].on(card, diff=True), sign / max(1, images), *self._settings(), NEAR, values,
                         blob.write_on(card, diff=True))


@cached
def pair_cost_at(square, alike, margin, legacy):
    """Return twice what a pair costs."""
    if abs(alike) >= 1:
        return square
    if legacy:
        return max(margin - square, np.float32(0))
    room = max(margin - np.float32(math.sqrt(square)), np.float32(0))
    return room * room


@cached
def pair_slope_at(square, alike, margin, legacy, near):
    """Return what the difference of a pair is multiplied by in the gradient."""
    if abs(alike) >= 1:
        return np.float32(1)
    if legacy:
        return np.float32(-1) if margin - square > 0 else np.float32(0)
    root = np.float32(math.sqrt(square))
    return -(margin - root) / (root + near) if margin - root > 0 else np.float32(0)


@kernel("float*, float*, float*, int")
def pair_distance_cuda(a, b, distance, count):
    """All elements: a - b."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        distance[i] = a[i] - b[i]


@kernel("float*, float*, float, bool, float*, int")
def pair_cost_cuda(square, alike, margin, legacy, cost, count):
    """All pairs: what each costs."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        cost[i] = pair_cost_at(square[i], alike[i], margin, legacy)


@kernel("float*, float*, float*, float*, double, float, bool, float, int, float*, int")
def pair_backward_cuda(distance, square, alike, weight, share, margin, legacy, near, values, target, count):
    """All elements of a bottom's gradient."""
    scale = np.float32(weight[0] * share)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        pair = over(i, values)
        target[i] = distance[i] * (pair_slope_at(square[pair], alike[pair], margin, legacy, near) * scale)
