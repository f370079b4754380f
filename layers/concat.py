"""Concat: the bottoms one after the other along one axis.

Any shape; all lengths but the one along `axis` (default 1; the older `concat_dim` counts from the front only) must
agree. With a single bottom the top shares its memory. Source: Caffe's ConcatLayer.
"""

import math

from layers.core.layer import Layer
from netspec.geometry import canonical_axis


class Concat(Layer):
    """Join blobs."""

    min_bottoms = 1
    exact_tops = 1

    def check(self):
        """Refuse both forms of the axis at once."""
        param = self.param.concat_param
        if param.HasField("axis") and param.HasField("concat_dim"):
            self.fail("both 'axis' and 'concat_dim' are given; keep 'axis'")

    def axis(self, num_axes):
        """Return the axis along which the bottoms are joined."""
        param = self.param.concat_param
        axis = param.concat_dim if param.HasField("concat_dim") else param.axis
        return canonical_axis(axis, num_axes, "the bottoms", self.fail)

    def top_shapes(self, bottom_shapes):
        """Return bottom 0's shape with the lengths along the axis added up."""
        first = tuple(bottom_shapes[0])
        axis = self.axis(len(first))
        for i, shape in enumerate(bottom_shapes[1:], 1):
            shape = tuple(shape)
            if len(shape) != len(first) or shape[:axis] + shape[axis + 1:] != first[:axis] + first[axis + 1:]:
                names = self.param.bottom or [f"bottom_{n}" for n in range(len(bottom_shapes))]
                self.fail(f"'{names[i]}' {list(shape)} does not fit '{names[0]}' {list(first)}: all axes but axis "
                          f"{axis} must agree")
        return [first[:axis] + (sum(shape[axis] for shape in bottom_shapes),) + first[axis + 1:]]

    def reshape(self, bottom, top):
        """Shape the top; a single bottom is shared."""
        super().reshape(bottom, top)
        if len(bottom) == 1:
            top[0].share_data(bottom[0])
            top[0].share_diff(bottom[0])

    def forward(self, bottom, top):
        """Copy the bottoms side by side."""
        if len(bottom) > 1:
            for blob, part in self._parts(bottom, top[0], top[0].data):
                part[...] = blob.data.reshape(part.shape)

    def backward(self, top, propagate_down, bottom):
        """Hand each bottom its part of the gradient."""
        if len(bottom) > 1:
            for i, (blob, part) in enumerate(self._parts(bottom, top[0], top[0].diff)):
                if propagate_down[i]:
                    blob.diff.reshape(part.shape)[...] = part

    def _parts(self, bottom, top, values):
        axis = self.axis(top.num_axes)
        rows = values.reshape(math.prod(top.shape[:axis]), math.prod(top.shape[axis:]))
        start = 0
        for blob in bottom:
            width = math.prod(blob.shape[axis:])
            yield blob, rows[:, start:start + width]
            start += width
