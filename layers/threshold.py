"""Threshold: y = 1 where x > threshold (0 by default), 0 elsewhere.

Any shape; works in place. There is no gradient. Source: Caffe's ThresholdLayer.
"""

import numpy as np

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

    def allow_force_backward(self, bottom):
        """There is no gradient."""
        return False
