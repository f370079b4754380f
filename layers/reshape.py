"""Reshape: the same values in another shape.

In `shape` a dim of 0 copies the bottom's length on that axis, and one dim of -1 takes what is left. The shape replaces
`num_axes` axes (default -1: all) of the bottom from `axis` (default 0) on. The top shares the bottom's values and
gradient. Source: Caffe's ReshapeLayer.
"""

import math

from layers.core.view import View


class Reshape(View):
    """Change the shape."""

    def check(self):
        """Refuse impossible dims."""
        dims = list(self.param.reshape_param.shape.dim)
        if dims.count(-1) > 1:
            self.fail(f"shape {dims} has more than one -1; only one length can be inferred")
        if any(dim < -1 for dim in dims):
            self.fail(f"shape {dims} has a length below -1")
        if self.param.reshape_param.num_axes < -1:
            self.fail(f"num_axes is {self.param.reshape_param.num_axes}; give -1 (all axes from 'axis' on) or more")

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape with the replaced axes."""
        param, shape = self.param.reshape_param, tuple(bottom_shapes[0])
        # An axis of -1 is behind the last one: new axes may be appended.
        first = param.axis if param.axis >= 0 else len(shape) + param.axis + 1
        if not 0 <= first <= len(shape):
            self.fail(f"axis {param.axis} is out of range for the bottom {list(shape)}")
        last = len(shape) if param.num_axes == -1 else first + param.num_axes
        if last > len(shape):
            self.fail(f"axis {first} and num_axes {param.num_axes} reach beyond the {len(shape)} axes of the bottom "
                      f"{list(shape)}")
        dims = list(param.shape.dim)
        for i, dim in enumerate(dims):
            if dim == 0:
                if first + i >= len(shape):
                    self.fail(f"shape {dims} copies axis {first + i} (a dim of 0), but the bottom {list(shape)} has only "
                              f"{len(shape)} axes")
                dims[i] = shape[first + i]
        count = math.prod(shape[first:last])
        if -1 in dims:
            known = -math.prod(dims)
            if not known or count % known:
                self.fail(f"the {count} values of the bottom {list(shape)} cannot be divided by the {known} of shape "
                          f"{list(param.shape.dim)}")
            dims[dims.index(-1)] = count // known
        if math.prod(dims) != count:
            self.fail(f"shape {dims} holds {math.prod(dims)} values, but it replaces {count} of the bottom {list(shape)}")
        return [shape[:first] + tuple(dims) + shape[last:]]

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        export.needs_fixed_size()
        return [export.node("Reshape", source, export.constant(export.tops[0]))]
