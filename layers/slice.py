"""Slice: the bottom cut along one axis into the tops, the reverse of Concat.

Any shape. `axis` (default 1; the older `slice_dim` counts from the front only); the cuts are at `slice_point`,
increasing, one less than there are tops, or evenly spaced when left out. A single top shares the bottom's memory.
Source: Caffe's SliceLayer.
"""

from layers.core.parts import PartsLayer


class Slice(PartsLayer):
    """Cut a blob into several."""

    exact_bottoms = 1
    min_tops = 1
    old_axis = "slice_dim"

    def own_param(self):
        """Return slice_param."""
        return self.param.slice_param

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

    def forward(self, bottom, top):
        """Copy the parts."""
        if len(top) > 1:
            for blob, place in self.pairs(top, bottom[0], bottom[0].data):
                blob.data.reshape(place.shape)[...] = place

    def backward(self, top, propagate_down, bottom):
        """Put the parts' gradients side by side."""
        if propagate_down[0] and len(top) > 1:
            for blob, place in self.pairs(top, bottom[0], bottom[0].diff):
                place[...] = blob.diff.reshape(place.shape)

    def forward_cuda(self, bottom, top):
        """Copy the parts."""
        if len(top) > 1:
            self.copy_on_card(top, bottom[0], joins=False)

    def backward_cuda(self, top, propagate_down, bottom):
        """Put the parts' gradients side by side."""
        if propagate_down[0] and len(top) > 1:
            self.copy_on_card(top, bottom[0], joins=True, diff=True)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.slice_param
        axis = own.slice_dim if own.HasField("slice_dim") else export.axis(own.axis)
        lengths = export.constant([shape[axis] for shape in export.tops])
        values = export.node("Split", source, lengths, outputs=len(export.tops), axis=axis)
        return [values] if len(export.tops) == 1 else values
