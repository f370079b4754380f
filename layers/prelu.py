"""PReLU: y = x for x > 0, a_c x otherwise, with a learned slope for each channel (axis 1), or one if `channel_shared`.

Any shape of 2 or more axes; slopes are 0.25 by default. dx = dy or a_c dy; da_c = sum of x dy where x <= 0, in float64.
Works in place (x is kept aside then). Source: Caffe's PReLULayer (He et al. 2015).
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda import sums
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron
from netspec import caffe_pb2


class PReLU(Neuron):
    """Rectifier with learned slopes."""

    needs_x = True

    def param_shapes(self, bottom_shapes):
        """Return one slope, or one for each channel."""
        shape = bottom_shapes[0]
        if len(shape) < 2:
            self.fail(f"needs a bottom of 2 or more axes, the second one the channels; got {list(shape)}")
        return [() if self.param.prelu_param.channel_shared else (shape[1],)]

    def param_fillers(self):
        """Return the filler of the slopes."""
        param = self.param.prelu_param
        return [param.filler if param.HasField("filler") else caffe_pb2.FillerParameter(type="constant", value=0.25)]

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape."""
        if self.blobs and self.blobs[0].shape and self.blobs[0].count != bottom_shapes[0][1]:
            self.fail(f"has {self.blobs[0].count} slopes, but the bottom {list(bottom_shapes[0])} has "
                      f"{bottom_shapes[0][1]} channels")
        return super().top_shapes(bottom_shapes)

    def _sizes(self, bottom):
        shape = bottom[0].shape
        return max(1, self.blobs[0].count), math.prod(shape[2:]) if self.blobs[0].shape else max(1, bottom[0].count)

    def forward(self, bottom, top):
        """Rectify."""
        self.keep(bottom, top)
        parallel.run(prelu_cpu, bottom[0].count, bottom[0].data.reshape(-1), self.blobs[0].data.reshape(-1),
                     top[0].data.reshape(-1), *self._sizes(bottom))

    def backward(self, top, propagate_down, bottom):
        """Add to the slopes' gradient, write the bottom's."""
        x, dy, slopes = self.x_of_forward(bottom, top), top[0].diff.reshape(-1), self.blobs[0].data.reshape(-1)
        channels, inner = self._sizes(bottom)
        if self.param_propagate_down[0]:
            total = np.zeros(channels)
            parallel.run(prelu_total_cpu, channels, x, dy, channels, inner, total, work=dy.size)
            self.blobs[0].diff.reshape(-1)[...] += total
        if propagate_down[0]:
            parallel.run(prelu_backward_cpu, dy.size, x, slopes, dy, bottom[0].diff.reshape(-1), channels, inner)

    def forward_cuda(self, bottom, top):
        """Rectify."""
        self.keep_on_card(bottom, top)
        x, y = bottom[0].on(self.card), top[0].write_on(self.card)
        self.card.run(prelu_cuda, bottom[0].count, x, self.blobs[0].on(self.card), x, y, *self._sizes(bottom))

    def backward_cuda(self, top, propagate_down, bottom):
        """Add to the slopes' gradient, write the bottom's."""
        x, dy = self.x_on_card(bottom, top), top[0].on(self.card, diff=True)
        channels, inner = self._sizes(bottom)
        if self.param_propagate_down[0] and bottom[0].count:
            sizes = bottom[0].count // (channels * inner), channels, inner
            slopes = self.blobs[0].change_on(self.card, diff=True)
            sums.add_up(self.card, sums.REST, dy, x, sizes, slopes, adds=True)
        if propagate_down[0]:
            dx = bottom[0].write_on(self.card, diff=True)
            self.card.run(prelu_cuda, bottom[0].count, x, self.blobs[0].on(self.card), dy, dx, channels, inner)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        shape = export.bottoms[0]
        slopes = (1,) if param.prelu_param.channel_shared else (shape[1], *[1] * (len(shape) - 2))
        return [export.node("PRelu", source, export.parameter(0, *slopes))]


@cached
def prelu_cpu(first, last, x, slopes, y, channels, inner):
    """Elements [first, last) of forward, row by row of `inner` values; y may be x."""
    at = first
    while at < last:
        row = at // inner
        end = min((row + 1) * inner, last)
        slope, part, result = slopes[row % channels], x[at:end], y[at:end]
        for i in range(part.size):
            result[i] = part[i] if part[i] > 0 else part[i] * slope
        at = end


@cached
def prelu_backward_cpu(first, last, x, slopes, dy, dx, channels, inner):
    """Elements [first, last) of backward; dx may be dy."""
    at = first
    while at < last:
        row = at // inner
        end = min((row + 1) * inner, last)
        slope, part, top, result = slopes[row % channels], x[at:end], dy[at:end], dx[at:end]
        for i in range(part.size):
            result[i] = top[i] if part[i] > 0 else top[i] * slope
        at = end


@cached
def prelu_total_cpu(first, last, x, dy, channels, inner, total):
    """For channels [first, last): the sum of x dy where x <= 0, in order."""
    for channel in range(first, last):
        value = 0.0
        for row in range(channel, x.size // inner, channels):
            part, top = x[row * inner:(row + 1) * inner], dy[row * inner:(row + 1) * inner]
            for i in range(part.size):
                value += float(part[i]) * float(top[i]) if part[i] <= 0 else 0.0
        total[channel] = value


@kernel("float*, float*, float*, float*, int, int, int")
def prelu_cuda(x, slopes, source, target, channels, inner, count):
    """All elements: source where x > 0, source times the channel's slope elsewhere: x for forward, dy for backward."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        slope = slopes[np.uint32(i) // np.uint32(inner) % np.uint32(channels)]
        target[i] = source[i] if x[i] > 0 else source[i] * slope
