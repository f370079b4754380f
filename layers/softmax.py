"""Softmax: y = exp(x - max x) / sum exp(x - max x) along one axis; dx = (dy - sum(dy y)) y.

Any shape; `axis` defaults to 1. Works in place. Source: Caffe's SoftmaxLayer.
"""

from layers.core.cpu import parallel
from layers.core.cpu.softmax import softmax_backward_cpu, softmax_cpu, units
from layers.core.cuda.softmax import softmax, softmax_backward
from layers.core.loss import split_axes
from layers.core.neuron import Neuron


class Softmax(Neuron):
    """Probabilities from scores."""

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape."""
        self.axis(len(bottom_shapes[0]))
        return super().top_shapes(bottom_shapes)

    def axis(self, num_axes):
        """Return the classes' axis, counted from the front."""
        return self.canonical_axis(self.param.softmax_param.axis, num_axes)

    def forward(self, bottom, top):
        """Compute the probabilities."""
        outer, channels, inner = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
        parallel.run(softmax_cpu, units(outer, inner), bottom[0].data.reshape(-1), top[0].data.reshape(-1), channels,
                     inner, work=bottom[0].count)

    def backward(self, top, propagate_down, bottom):
        """Compute the scores' gradient."""
        if propagate_down[0]:
            outer, channels, inner = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
            parallel.run(softmax_backward_cpu, units(outer, inner), top[0].data.reshape(-1), top[0].diff.reshape(-1),
                         bottom[0].diff.reshape(-1), channels, inner, work=bottom[0].count)

    def forward_cuda(self, bottom, top):
        """Compute the probabilities."""
        sizes = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
        softmax(self.card, bottom[0].on(self.card), top[0].write_on(self.card), *sizes)

    def backward_cuda(self, top, propagate_down, bottom):
        """Compute the scores' gradient."""
        if propagate_down[0]:
            sizes = split_axes(bottom[0].shape, self.axis(bottom[0].num_axes))
            y, dy = top[0].on(self.card), top[0].on(self.card, diff=True)
            softmax_backward(self.card, y, dy, bottom[0].write_on(self.card, diff=True), *sizes)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        return [export.node("Softmax", source, axis=export.axis(param.softmax_param.axis))]
