"""BatchNorm: y = (x - mean) / sqrt(variance + eps), each channel (axis 1) by its own mean and variance.

x (N, C, ...) of any rank; with one axis there is one channel. With `use_global_stats` (default: in TEST) mean and variance are
those that training has gathered, else those of x itself over images and pixels (variance divided by their number), and then they
are gathered: three parameters hold running sums of the mean, of the variance and of 1, each forward multiplying them by
`moving_average_fraction` (default 0.999) before it adds. The variance is added times n / (n - 1). What is used is the first two
divided by the third, zeros if that is 0.

dx = (dy - mean(dy) - y mean(dy y)) / sqrt(variance + eps), with `use_global_stats` dy / sqrt(variance + eps). The parameters have
no gradient: rates (lr_mult) other than 0 are refused (files of old that list three of them are upgraded when they are read).
Works in place; a copy of y is kept, since a Scale often follows in place. Sums: `layers.core.moments`. `eps` is 1e-5 unless
given. Source: Caffe's BatchNormLayer.
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
    normalize_on_card,
)
from netspec import caffe_pb2


class BatchNorm(Layer):
    """Channels with mean 0 and variance 1."""

    exact_bottoms = exact_tops = 1
    works_in_place = True

    def check(self):
        """Hold the statistics fixed for solvers, as Caffe does, and refuse rates for them."""
        for number in range(3):
            if number == len(self.param.param):
                self.param.param.add(lr_mult=0)
            elif self.param.param[number].lr_mult != 0:
                self.fail(f"gathers its statistics and cannot learn them, but its param {number} has lr_mult "
                          f"{self.param.param[number].lr_mult:g}; give lr_mult: 0 three times, or no param")
        param = self.param.batch_norm_param
        self.uses_global = param.use_global_stats if param.HasField("use_global_stats") else self.phase == caffe_pb2.TEST

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape."""
        self._sizes(bottom_shapes[0])
        return [tuple(bottom_shapes[0])]

    def _sizes(self, shape):
        """Return (images, channels, pixels)."""
        if not shape:
            self.fail(f"needs a bottom of at least 1 axis, {self.called(0)} has none")
        return shape[0], shape[1] if len(shape) > 1 else 1, math.prod(shape[2:])

    def param_shapes(self, bottom_shapes):
        """Return the shapes of the sums of mean, variance and weight."""
        channels = self._sizes(bottom_shapes[0])[1]
        return [(channels,), (channels,), (1,)]

    def param_fillers(self):
        """Return None: all are zero."""
        return [None] * 3

    def setup(self, bottom, top):
        """Make the parameters."""
        super().setup(bottom, top)
        self.normal = Blob((), f"{self.name} y", self.dtype)
        self.mean, self.variance, self.deviation = (
            Blob((), f"{self.name} {what}", self.dtype) for what in ("mean", "variance", "deviation"))

    def reshape(self, bottom, top):
        """Shape the top."""
        self.sizes = self._sizes(bottom[0].shape)
        if self.sizes[1] != self.blobs[0].count:
            self.fail(f"has statistics of {self.blobs[0].count} channels, but {self.called(0)} {list(bottom[0].shape)} has "
                      f"{self.sizes[1]}")
        top[0].reshape(bottom[0].shape)
        for blob in (self.mean, self.variance, self.deviation):
            blob.reshape(self.sizes[1])
        if not self.uses_global:
            self.normal.reshape(bottom[0].shape)

    def forward(self, bottom, top):
        """Normalise, and gather statistics of the bottom."""
        param, (images, _, pixels) = self.param.batch_norm_param, self.sizes
        x, y = bottom[0].data, top[0].data
        if self.uses_global:
            weight = self.blobs[2].data[0]
            factor = self.dtype.type(1 / weight if weight else 0)
            mean, variance = self.blobs[0].data * factor, self.blobs[1].data * factor
        else:
            mean, variance = (values.astype(self.dtype) for values in moments(x, self.sizes))
            fraction, count = self.dtype.type(param.moving_average_fraction), images * pixels
            factors = 1, self.dtype.type(count / (count - 1) if count > 1 else 1), 1
            for blob, factor, value in zip(self.blobs, factors, (mean, variance, 1)):
                blob.data[...] = factor * value + fraction * blob.data
        deviation = np.sqrt(variance + self.dtype.type(param.eps))
        self.deviation.data[...] = deviation
        normalize(x, y, mean, deviation, self.sizes)
        if not self.uses_global:
            self.normal.data[...] = y

    def backward(self, top, propagate_down, bottom):
        """Write the bottom's gradient."""
        if not propagate_down[0]:
            return
        dy, dx = top[0].diff, bottom[0].diff
        if self.uses_global:
            normalize(dy, dx, np.zeros(self.sizes[1], self.dtype), self.deviation.data, self.sizes)
        else:
            normalize_backward(self.normal.data, dy, dx, self.deviation.data, self.sizes)

    @property
    def gathers(self):
        """Whether forward adds to the statistics."""
        return not self.uses_global

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the copy of y, statistics; means of gradients within a call."""
        return 4 * (3 * self.sizes[1] + (0 if self.uses_global else self.normal.count)), 8 * self.sizes[1]

    def forward_cuda(self, bottom, top):
        """Normalise, and gather statistics of the bottom."""
        card, param, (images, channels, pixels) = self.card, self.param.batch_norm_param, self.sizes
        x, y, mean, variance, deviation = bottom[0].on(card), top[0].write_on(card), *(
            blob.write_on(card) for blob in (self.mean, self.variance, self.deviation))
        if self.uses_global:
            card.run(global_statistics_cuda, channels, *(blob.on(card) for blob in self.blobs), param.eps, mean, deviation)
            normalize_on_card(card, x, y, mean, deviation, self.sizes)
            return
        center_on_card(card, x, y, mean, variance, self.sizes)
        count = images * pixels
        card.run(gather_statistics_cuda, channels, mean, variance, param.moving_average_fraction,
                 count / (count - 1) if count > 1 else 1, param.eps, *(blob.change_on(card) for blob in self.blobs), deviation)
        divide_on_card(card, y, deviation, y, self.sizes)
        card.copy(self.normal.write_on(card), y, 4 * bottom[0].count)

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the bottom's gradient."""
        if not propagate_down[0]:
            return
        card = self.card
        dy, deviation, dx = top[0].on(card, diff=True), self.deviation.on(card), bottom[0].write_on(card, diff=True)
        if self.uses_global:
            divide_on_card(card, dy, deviation, dx, self.sizes)
        else:
            normalize_backward_on_card(card, self.normal.on(card), dy, dx, deviation, self.sizes)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own, channels = param.batch_norm_param, export.bottoms[0][1]
        if own.HasField("use_global_stats") and not own.use_global_stats:
            export.fail("normalises with each batch's own statistics, which ONNX does in training only")
        total = float(np.ravel(export.arrays.get(param.name, [0, 0, [0]])[2])[0])
        factor = export.number(1 / total if total else 0)
        mean, variance = (export.node("Mul", export.parameter(number, channels), factor) for number in (0, 1))
        ones, zeros = export.constant(np.ones(channels, np.float32)), export.constant(np.zeros(channels, np.float32))
        return [export.node("BatchNormalization", source, ones, zeros, mean, variance, epsilon=own.eps)]


@cached(error_model="numpy")
def weight_factor_at(weight):
    """Return what gathered sums are multiplied by: 1 / their weight, 0 where nothing was gathered."""
    return np.float32(1) / weight if weight != 0 else np.float32(0)


@cached
def deviation_at(variance, eps):
    """Return sqrt(variance + eps) in float32."""
    return np.float32(math.sqrt(variance + eps))


@kernel("float*, float*, float*, float, float*, float*, int")
def global_statistics_cuda(means, variances, weight, eps, mean, deviation, count):
    """Mean and deviation of all channels, as they were gathered."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        factor = weight_factor_at(weight[0])
        mean[i] = means[i] * factor
        deviation[i] = deviation_at(variances[i] * factor, eps)


@kernel("float*, float*, float, float, float, float*, float*, float*, float*, int")
def gather_statistics_cuda(mean, variance, fraction, correction, eps, means, variances, weight, deviation, count):
    """Add the statistics of all channels to those gathered, and write the deviation; the first thread adds the weight."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        means[i] = mean[i] + fraction * means[i]
        variances[i] = correction * variance[i] + fraction * variances[i]
        deviation[i] = deviation_at(variance[i], eps)
        if i == 0:
            weight[0] = np.float32(1) + fraction * weight[0]
