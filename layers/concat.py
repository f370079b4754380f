"""Concat: the bottoms one after the other along one axis.

Any shape; all lengths but the one along `axis` (default 1; the older `concat_dim` counts from the front only) must
agree. With a single bottom the top shares its memory. Source: Caffe's ConcatLayer.
"""

from layers.core.parts import PartsLayer


class Concat(PartsLayer):
    """Join blobs."""

    min_bottoms = 1
    exact_tops = 1
    old_axis = "concat_dim"

    def own_param(self):
        """Return concat_param."""
        return self.param.concat_param

    def top_shapes(self, bottom_shapes):
        """Return bottom 0's shape with the lengths along the axis added up."""
        first = tuple(bottom_shapes[0])
        axis = self.axis(len(first))
        for i, shape in enumerate(bottom_shapes[1:], 1):
            shape = tuple(shape)
            if len(shape) != len(first) or shape[:axis] + shape[axis + 1:] != first[:axis] + first[axis + 1:]:
                self.fail(f"{self.called(i)} {list(shape)} does not fit {self.called(0)} {list(first)}: all axes but "
                          f"axis {axis} must agree")
        return [first[:axis] + (sum(shape[axis] for shape in bottom_shapes),) + first[axis + 1:]]

    def forward(self, bottom, top):
        """Copy the bottoms side by side."""
        if len(bottom) > 1:
            for blob, place in self.pairs(bottom, top[0], top[0].data):
                place[...] = blob.data.reshape(place.shape)

    def backward(self, top, propagate_down, bottom):
        """Hand each bottom its part of the gradient."""
        if len(bottom) > 1:
            for (blob, place), wanted in zip(self.pairs(bottom, top[0], top[0].diff), propagate_down):
                if wanted:
                    blob.diff.reshape(place.shape)[...] = place
