"""Flatten: axes `axis` to `end_axis` (defaults 1 and -1, both included) become one.

The top shares the bottom's values and gradient. Source: Caffe's FlattenLayer.
"""

import math

from layers.core.view import View


class Flatten(View):
    """Join axes."""

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape with the axes joined."""
        param, shape = self.param.flatten_param, tuple(bottom_shapes[0])
        first = self.canonical_axis(param.axis, len(shape))
        last = self.canonical_axis(param.end_axis, len(shape))
        if last < first:
            self.fail(f"end_axis {last} lies before axis {first}")
        return [shape[:first] + (math.prod(shape[first:last + 1]),) + shape[last + 1:]]

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own, last = param.flatten_param, len(export.bottoms[0]) - 1
        if export.axis(own.axis) == 1 and export.axis(own.end_axis) == last:
            return [export.node("Flatten", source, axis=1)]
        export.needs_fixed_size()
        return [export.node("Reshape", source, export.constant(export.tops[0]))]
