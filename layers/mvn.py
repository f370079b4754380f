"""MVN: y = (x - mean) / (deviation + eps), each channel of each image by its own mean and deviation.

With `across_channels` they are those of the whole image, without `normalize_variance` only the mean is taken away. The deviation
is the root of the mean square distance from the mean; `eps` is 1e-9 unless given, and 0 for a constant channel then.

    dx = (dy - mean(dy) - y mean(dy y)) / (deviation + eps)     or     dy - mean(dy)

which, as in Caffe, is the gradient without eps: off by a share of eps / deviation. Bottoms have up to 4 axes and the top always
has 4, the missing ones of length 1. Works in place (Caffe's gradient in place is wrong). Sums: `layers.core.moments`. Source:
Caffe's MVNLayer.
"""

import math

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer
from layers.core.moments import (
    center_on_card,
    divide_on_card,
    moments,
    normalize,
    normalize_backward,
    normalize_backward_on_card,
)


class MVN(Layer):
    """Images with mean 0 and variance 1."""

    exact_bottoms = exact_tops = 1
    works_in_place = True

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape with 4 axes."""
        shape = tuple(bottom_shapes[0])
        if len(shape) > 4:
            self.fail(f"takes up to 4 axes (num, channels, height, width), {self.called(0)} has {list(shape)}")
        return [shape + (1,) * (4 - len(shape))]

    def setup(self, bottom, top):
        """Take the parameters."""
        super().setup(bottom, top)
        self.scales = self.param.mvn_param.normalize_variance
        self.mean, self.deviation = (Blob((), f"{self.name} {what}", self.dtype) for what in ("mean", "deviation"))

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        images, channels, height, width = top[0].shape
        across = self.param.mvn_param.across_channels
        self.sizes = (1, images, channels * height * width) if across else (1, images * channels, height * width)
        for blob in (self.mean, self.deviation):
            blob.reshape(self.sizes[1])

    def forward(self, bottom, top):
        """Normalise."""
        mean, variance = moments(bottom[0].data, self.sizes)
        self.deviation.data[...] = np.sqrt(variance) + self.param.mvn_param.eps if self.scales else 1
        normalize(bottom[0].data, top[0].data, mean.astype(self.dtype), self.deviation.data, self.sizes)

    def backward(self, top, propagate_down, bottom):
        """Write the bottom's gradient."""
        if propagate_down[0]:
            normalize_backward(top[0].data, top[0].diff, bottom[0].diff, self.deviation.data, self.sizes, self.scales)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: statistics; means of gradients within a call."""
        return 8 * self.sizes[1], 8 * self.sizes[1]

    def forward_cuda(self, bottom, top):
        """Normalise."""
        card, groups = self.card, self.sizes[1]
        x, y, deviation = bottom[0].on(card), top[0].write_on(card), self.deviation.write_on(card)
        center_on_card(card, x, y, self.mean.write_on(card), deviation if self.scales else None, self.sizes)
        card.run(mvn_deviation_cuda, groups, deviation, self.scales, self.param.mvn_param.eps)
        if self.scales:
            divide_on_card(card, y, deviation, y, self.sizes)

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the bottom's gradient."""
        if propagate_down[0]:
            card = self.card
            y, dy, deviation = top[0].on(card), top[0].on(card, diff=True), self.deviation.on(card)
            normalize_backward_on_card(card, y, dy, bottom[0].write_on(card, diff=True), deviation, self.sizes, self.scales)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own, shape = param.mvn_param, export.tops[0]
        if len(export.bottoms[0]) != len(shape):
            export.needs_fixed_size()
            source = export.node("Reshape", source, export.constant(shape))
        axes = [1, 2, 3] if own.across_channels else [2, 3]
        centred = export.node("Sub", source, export.node("ReduceMean", source, axes=axes))
        if not own.normalize_variance:
            return [centred]
        variance = export.node("ReduceMean", export.node("Mul", centred, centred), axes=axes)
        return [export.node("Div", centred, export.node("Add", export.node("Sqrt", variance), export.number(own.eps)))]


@cached
def mvn_deviation_at(variance, eps):
    """Return what values are divided by, in float32."""
    return np.float32(math.sqrt(variance)) + eps


@kernel("float*, bool, float, int")
def mvn_deviation_cuda(deviation, scales, eps, count):
    """All groups' deviations from their variances, or 1."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        deviation[i] = mvn_deviation_at(deviation[i], eps) if scales else np.float32(1)
