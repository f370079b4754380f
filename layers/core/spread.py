"""SpreadLayer: what Scale and Bias have in common: an operand that is spread over some axes of the bottom."""

import math

from layers.core.cuda import sums
from layers.core.layer import Layer


class SpreadLayer(Layer):
    """Combines bottom 0 with an operand that has the shape of the `num_axes` axes of it from `axis` on.

    Defaults 1 and 1: one value a channel; `num_axes: -1` is all axes from `axis` on, `num_axes: 0` one value for
    everything. The operand is parameter 0, or bottom 1, whose own shape then says num_axes. Works in place.
    """

    min_bottoms, max_bottoms = 1, 2
    exact_tops = 1
    works_in_place = True
    operand_name = ""  # for messages

    def own_param(self):
        """Return the layer's parameter message."""
        raise NotImplementedError(f"{type(self).__name__}.own_param")

    def check(self):
        """Refuse num_axes below -1."""
        if self.own_param().num_axes < -1:
            self.fail(f"num_axes is {self.own_param().num_axes}; give -1 (all axes from 'axis' on) or more")

    def operand_shape(self, bottom_shapes):
        """Return the operand's shape."""
        param, shape = self.own_param(), tuple(bottom_shapes[0])
        if len(bottom_shapes) > 1:
            return tuple(bottom_shapes[1])
        if param.num_axes == 0:
            return ()
        axis = self.canonical_axis(param.axis, len(shape))
        if axis + param.num_axes > len(shape):
            self.fail(f"axis {axis} and num_axes {param.num_axes} reach beyond the {len(shape)} axes of "
                      f"{self.called(0)} {list(shape)}")
        return shape[axis:] if param.num_axes == -1 else shape[axis:axis + param.num_axes]

    def lay_out(self, shape, operand):
        """Return (outer, length, inner): how an operand of shape `operand` lies along a bottom of shape `shape`."""
        axis = self.canonical_axis(self.own_param().axis, len(shape)) if operand else 0
        end = axis + len(operand)
        if tuple(shape[axis:end]) != tuple(operand):
            self.fail(f"the {self.operand_name} {list(operand)} does not fit {self.called(0)} {list(shape)} from axis "
                      f"{axis} on, where it has {list(shape[axis:end])}")
        return math.prod(shape[:axis]), math.prod(operand), math.prod(shape[end:])

    def top_shapes(self, bottom_shapes):
        """Return bottom 0's shape."""
        self.lay_out(tuple(bottom_shapes[0]), self.operand_shape(bottom_shapes))
        return [tuple(bottom_shapes[0])]

    def reshape(self, bottom, top):
        """Shape the top; a parameter keeps its shape and must fit."""
        self.sizes = self.lay_out(bottom[0].shape, self.operand(bottom).shape)
        top[0].reshape(bottom[0].shape)

    def operand(self, bottom):
        """Return the operand's blob."""
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def wants_operand_gradient(self, propagate_down):
        """Whether the operand has a gradient, given what backward is asked for."""
        return propagate_down[1] if len(propagate_down) > 1 else self.param_propagate_down[0]

    def give_operand_gradient(self, bottom, gradient):
        """Write the operand's gradient (`length` values) when it is a bottom, add it when it is a parameter."""
        diff = self.operand(bottom).diff.reshape(-1)
        if len(bottom) > 1:
            diff[...] = gradient
        else:
            diff += gradient

    def give_operand_gradient_on_card(self, bottom, kind, a, b):
        """The same for sums over outer and inner positions of what `layers.core.cuda.sums` calls `kind`."""
        operand, is_bottom = self.operand(bottom), len(bottom) > 1
        target = (operand.write_on if is_bottom else operand.change_on)(self.card, diff=True)
        sums.add_up(self.card, kind, a, b, self.sizes, target, adds=not is_bottom)
