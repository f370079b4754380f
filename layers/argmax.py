"""ArgMax: the numbers of the `top_k` (default 1) greatest values, or the values themselves.

With `axis`: along it, top shape as the bottom's with top_k there; holds values with `out_max_val`, else numbers.
Without: over all axes but the first; top (N, 1, top_k) numbers, or (N, 2, top_k) numbers and values with
`out_max_val`, followed by axes of length 1 up to the bottom's number of axes. Of equal values the later one comes
first, as in Caffe. No gradient. Source: Caffe's ArgMaxLayer.
"""

import math

import numpy as np

from layers.core.layer import Layer


class ArgMax(Layer):
    """Where the greatest values are."""

    exact_bottoms = exact_tops = 1

    def allow_force_backward(self, bottom):
        """There is no gradient."""
        return False

    def _lay_out(self, shape):
        """Return (outer, length, inner) of the values that are compared."""
        param = self.param.argmax_param
        if param.HasField("axis"):
            axis = self.canonical_axis(param.axis, len(shape))
            sizes = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1:])
        else:
            sizes = shape[0] if shape else 1, math.prod(shape[1:]), 1
        if not 1 <= param.top_k <= sizes[1]:
            self.fail(f"top_k {param.top_k} must lie within 1 and the {sizes[1]} values that are compared")
        return sizes

    def top_shapes(self, bottom_shapes):
        """Return the shape of the result."""
        param, shape = self.param.argmax_param, tuple(bottom_shapes[0])
        self._lay_out(shape)
        if param.HasField("axis"):
            axis = self.canonical_axis(param.axis, len(shape))
            return [shape[:axis] + (param.top_k,) + shape[axis + 1:]]
        return [(shape[0] if shape else 1, 2 if param.out_max_val else 1, param.top_k) + (1,) * max(0, len(shape) - 3)]

    def forward(self, bottom, top):
        """Rank."""
        param = self.param.argmax_param
        outer, length, inner = sizes = self._lay_out(bottom[0].shape)
        x = bottom[0].data.reshape(sizes)
        # From the back, so that of equal values the later one is found first.
        back = x[:, ::-1]
        if param.top_k == 1:
            ranks = back.argmax(1)[:, None]
        else:
            ranks = np.argsort(-back, axis=1, kind="stable")[:, :param.top_k]
        numbers = length - 1 - ranks
        y = top[0].data
        if param.HasField("axis"):
            chosen = np.take_along_axis(x, numbers, 1) if param.out_max_val else numbers
            y.reshape(outer, param.top_k, inner)[...] = chosen
        else:
            y = y.reshape(outer, -1, param.top_k)
            y[:, 0] = numbers[:, :, 0]
            if param.out_max_val:
                y[:, 1] = np.take_along_axis(x, numbers, 1)[:, :, 0]

    def backward(self, top, propagate_down, bottom):
        """Fail where a gradient is asked for."""
        if propagate_down[0]:
            self.fail("has no gradient; set propagate_down: false for it")
