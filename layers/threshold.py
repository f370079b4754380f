"""Threshold: y = 1 where x > threshold (0 by default), 0 elsewhere.

Any shape; works in place. There is no gradient. Source: Caffe's ThresholdLayer.
"""

import numpy as np

from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class Threshold(Neuron):
    """Binarise."""

    def forward(self, bottom, top):
        """Compare."""
        np.greater(bottom[0].data, self.dtype.type(self.param.threshold_param.threshold), out=top[0].data, casting="unsafe")

    def backward(self, top, propagate_down, bottom):
        """Fail where a gradient is asked for."""
        if propagate_down[0]:
            self.fail("has no gradient; set propagate_down: false for it")

    def forward_cuda(self, bottom, top):
        """Compare."""
        x, y = bottom[0].on(self.card), top[0].write_on(self.card)
        self.card.run(threshold_cuda, bottom[0].count, x, y, self.param.threshold_param.threshold, 1, 0)

    backward_cuda = backward

    def allow_force_backward(self, bottom):
        """There is no gradient."""
        return False

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        above = export.node("Greater", source, export.number(param.threshold_param.threshold))
        return [export.node("Cast", above, to=export.onnx.TensorProto.FLOAT)]


@kernel("float*, float*, float, float, float, int")
def threshold_cuda(x, y, threshold, one, zero, count):
    """All elements; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = one if x[i] > threshold else zero
