"""Bias: y = x + b, with b spread over some axes of x.

b has the shape of the `num_axes` axes of x from `axis` on (defaults 1 and 1; -1 is all axes from `axis` on, 0 one
value for everything). It is a parameter (0 by default) or a second bottom. dx = dy; db = sum of dy over the other
axes, in float64. Works in place. Source: Caffe's BiasLayer.
"""

import math

import numpy as np

from layers.core.layer import Layer
from netspec.geometry import canonical_axis


class Bias(Layer):
    """Add values, learned or given."""

    min_bottoms, max_bottoms = 1, 2
    exact_tops = 1

    def check(self):
        """Refuse num_axes below -1."""
        if self.param.bias_param.num_axes < -1:
            self.fail(f"num_axes is {self.param.bias_param.num_axes}; give -1 (all axes from 'axis' on) or more")

    def bias_shape(self, bottom_shapes):
        """Return the shape of b."""
        param, shape = self.param.bias_param, tuple(bottom_shapes[0])
        if len(bottom_shapes) > 1:
            return tuple(bottom_shapes[1])
        if param.num_axes == 0:
            return ()
        axis = canonical_axis(param.axis, len(shape), "the bottom", self.fail)
        if axis + param.num_axes > len(shape):
            self.fail(f"axis {axis} and num_axes {param.num_axes} reach beyond the {len(shape)} axes of the bottom "
                      f"{list(shape)}")
        return shape[axis:] if param.num_axes == -1 else shape[axis:axis + param.num_axes]

    def _sizes(self, shape, bias):
        axis = canonical_axis(self.param.bias_param.axis, len(shape), "the bottom", self.fail) if bias else 0
        if tuple(shape[axis:axis + len(bias)]) != tuple(bias):
            self.fail(f"the bias {list(bias)} does not fit the bottom {list(shape)} from axis {axis} on, where it has "
                      f"{list(shape[axis:axis + len(bias)])}")
        return math.prod(shape[:axis]), math.prod(bias), math.prod(shape[axis + len(bias):])

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape."""
        self._sizes(tuple(bottom_shapes[0]), self.bias_shape(bottom_shapes))
        return [tuple(bottom_shapes[0])]

    def param_shapes(self, bottom_shapes):
        """Return the shape of b, unless it is a bottom."""
        return [self.bias_shape(bottom_shapes)] if len(bottom_shapes) == 1 else []

    def param_fillers(self):
        """Return the filler of b."""
        return [self.param.bias_param.filler]

    def reshape(self, bottom, top):
        """Shape the top; the parameter keeps its shape and must fit."""
        self.sizes = self._sizes(bottom[0].shape, self._bias(bottom).shape)
        top[0].reshape(bottom[0].shape)

    def _bias(self, bottom):
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def forward(self, bottom, top):
        """Add."""
        np.add(bottom[0].data.reshape(self.sizes), self._bias(bottom).data.reshape(-1, 1),
               out=top[0].data.reshape(self.sizes))

    def backward(self, top, propagate_down, bottom):
        """Add to b's gradient (write it, for a bottom), hand the top's on."""
        given = len(bottom) > 1
        if propagate_down[1] if given else self.param_propagate_down[0]:
            total = top[0].diff.reshape(self.sizes).sum((0, 2), dtype=np.float64)
            if given:
                bottom[1].diff.reshape(-1)[...] = total
            else:
                self.blobs[0].diff.reshape(-1)[...] += total
        if propagate_down[0] and top[0] is not bottom[0]:
            bottom[0].diff[...] = top[0].diff
