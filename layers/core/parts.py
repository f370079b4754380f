"""PartsLayer: what Concat and Slice have in common: a whole blob, and its parts side by side along one axis."""

import math

from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer


class PartsLayer(Layer):
    """Joins parts or cuts a whole along `axis`, or the older `<old_axis>`, which counts from the front only."""

    old_axis = ""  # the older name of `axis` in the layer's parameter message

    def own_param(self):
        """Return the layer's parameter message."""
        raise NotImplementedError(f"{type(self).__name__}.own_param")

    def check(self):
        """Refuse both forms of the axis at once."""
        param = self.own_param()
        if param.HasField("axis") and param.HasField(self.old_axis):
            self.fail(f"both 'axis' and '{self.old_axis}' are given; keep 'axis'")

    def axis(self, num_axes):
        """Return the axis along which the parts lie, counted from the front."""
        param = self.own_param()
        axis = getattr(param, self.old_axis) if param.HasField(self.old_axis) else param.axis
        return self.canonical_axis(axis, num_axes)

    def reshape(self, bottom, top):
        """Shape the tops; a single part is the whole and shares its memory."""
        super().reshape(bottom, top)
        if len(bottom) == len(top) == 1:
            top[0].share_data(bottom[0])
            top[0].share_diff(bottom[0])

    def pairs(self, parts, whole, values):
        """Yield (part, its place in `values`, rows x width) for each of the blobs `parts` of the blob `whole`."""
        axis = self.axis(whole.num_axes)
        rows = values.reshape(math.prod(whole.shape[:axis]), math.prod(whole.shape[axis:]))
        start = 0
        for blob in parts:
            width = math.prod(blob.shape[axis:])
            yield blob, rows[:, start:start + width]
            start += width

    def copy_on_card(self, parts, whole, joins, diff=False, wanted=None):
        """Copy the values (or gradients) of `parts` to their places in `whole` if it `joins`, else those `wanted` from there."""
        axis = self.axis(whole.num_axes)
        whole_width, start = math.prod(whole.shape[axis:]), 0
        whole_span = whole.write_on(self.card, diff) if joins else whole.on(self.card, diff)
        for number, blob in enumerate(parts):
            width = math.prod(blob.shape[axis:])
            if wanted is None or wanted[number]:
                span = blob.on(self.card, diff) if joins else blob.write_on(self.card, diff)
                self.card.run(part_cuda, blob.count, span, whole_span, width, whole_width, start, joins)
            start += width


@kernel("float*, float*, int, int, int, bool, int")
def part_cuda(values, whole, width, whole_width, start, joins, count):
    """Rows of `width` values of a part, to or from column `start` of rows of `whole_width`."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, width)
        place = row * whole_width + start + i - row * width
        if joins:
            whole[place] = values[i]
        else:
            values[i] = whole[place]
