"""Flatten: axes `axis` to `end_axis` (defaults 1 and -1, both included) become one.

The top shares the bottom's values and gradient. Source: Caffe's FlattenLayer.
"""

import math

from layers.core.layer import Layer
from netspec.geometry import canonical_axis


class Flatten(Layer):
    """Join axes."""

    exact_bottoms = exact_tops = 1

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape with the axes joined."""
        param, shape = self.param.flatten_param, tuple(bottom_shapes[0])
        first = canonical_axis(param.axis, len(shape), "the bottom", self.fail)
        last = canonical_axis(param.end_axis, len(shape), "the bottom", self.fail)
        if last < first:
            self.fail(f"end_axis {last} lies before axis {first}")
        return [shape[:first] + (math.prod(shape[first:last + 1]),) + shape[last + 1:]]

    def reshape(self, bottom, top):
        """Let the top look at the bottom's memory."""
        if top[0] is bottom[0]:
            self.fail(f"cannot work in place: top '{top[0].name}' is its bottom; give the top a name of its own")
        super().reshape(bottom, top)
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])

    def forward(self, bottom, top):
        """Do nothing: the values are shared."""

    def backward(self, top, propagate_down, bottom):
        """Do nothing: the gradient is shared."""
