"""Slice: the bottom cut along one axis into the tops, the reverse of Concat.

Any shape. `axis` (default 1; the older `slice_dim` counts from the front only); the cuts are at `slice_point`,
increasing, one less than there are tops, or evenly spaced when left out. A single top shares the bottom's memory.
Source: Caffe's SliceLayer.
"""

import math

from layers.core.layer import Layer
from netspec.geometry import canonical_axis


class Slice(Layer):
    """Cut a blob into several."""

    exact_bottoms = 1
    min_tops = 1

    def check(self):
        """Refuse both forms of the axis at once."""
        param = self.param.slice_param
        if param.HasField("axis") and param.HasField("slice_dim"):
            self.fail("both 'axis' and 'slice_dim' are given; keep 'axis'")

    def axis(self, num_axes):
        """Return the axis that is cut."""
        param = self.param.slice_param
        axis = param.slice_dim if param.HasField("slice_dim") else param.axis
        return canonical_axis(axis, num_axes, "the bottom", self.fail)

    def top_shapes(self, bottom_shapes):
        """Return the parts' shapes."""
        shape = tuple(bottom_shapes[0])
        axis, tops = self.axis(len(shape)), max(1, len(self.param.top))
        points, length = list(self.param.slice_param.slice_point), shape[axis]
        if not points:
            if length % tops:
                self.fail(f"axis {axis} of length {length} cannot be cut into {tops} equal tops; give slice_point")
            points = [length // tops * i for i in range(1, tops)]
        elif len(points) != tops - 1:
            self.fail(f"{len(points)} slice_point values cut into {len(points) + 1} parts, but there are {tops} tops")
        edges = [0, *points, length]
        if any(a >= b for a, b in zip(edges[:-1], edges[1:])) and self.param.slice_param.slice_point:
            self.fail(f"slice_point values {points} must increase and lie within axis {axis} of length {length}")
        return [shape[:axis] + (b - a,) + shape[axis + 1:] for a, b in zip(edges[:-1], edges[1:])]

    def reshape(self, bottom, top):
        """Shape the tops; a single top shares the bottom."""
        super().reshape(bottom, top)
        if len(top) == 1:
            top[0].share_data(bottom[0])
            top[0].share_diff(bottom[0])

    def forward(self, bottom, top):
        """Copy the parts."""
        if len(top) > 1:
            for blob, part in self._parts(top, bottom[0], bottom[0].data):
                blob.data.reshape(part.shape)[...] = part

    def backward(self, top, propagate_down, bottom):
        """Put the parts' gradients side by side."""
        if propagate_down[0] and len(top) > 1:
            for blob, part in self._parts(top, bottom[0], bottom[0].diff):
                part[...] = blob.diff.reshape(part.shape)

    def _parts(self, top, bottom, values):
        axis = self.axis(bottom.num_axes)
        rows = values.reshape(math.prod(bottom.shape[:axis]), math.prod(bottom.shape[axis:]))
        start = 0
        for blob in top:
            width = math.prod(blob.shape[axis:])
            yield blob, rows[:, start:start + width]
            start += width
