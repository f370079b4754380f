"""Crop: the part of bottom 0 that has bottom 1's size, from an offset on.

Axes before `axis` (default 2) stay as they are in bottom 0; the others take bottom 1's lengths. `offset` is 0, one
value for all cropped axes, or one for each. Any number of axes. The gradient is 0 outside the part. Source: Caffe's
CropLayer; the offsets that align an FCN's streams come from `netspec.coord_map`.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda import small
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer


class Crop(Layer):
    """Cut bottom 0 to the size of bottom 1 (whose values are not read)."""

    exact_bottoms = 2
    exact_tops = 1
    _made_for = _tables_for = None

    def top_shapes(self, bottom_shapes):
        """Return bottom 0's lengths before the axis, bottom 1's from there on."""
        source, size = bottom_shapes
        axis = self._axis(source)
        self.offsets(source, size)  # refuses what does not fit
        return [tuple(source[:axis]) + tuple(size[axis:])]

    def offsets(self, source, size):
        """Return the offset along every axis; what does not fit is refused."""
        axis = self._axis(source)
        given = list(self.param.crop_param.offset)
        if len(given) > 1 and len(given) != len(source) - axis:
            self.fail(f"{len(given)} offsets are given for the {len(source) - axis} axes from axis {axis} on; "
                      f"give one, or {len(source) - axis}")
        if len(size) != len(source):
            self.fail(f"{self.called(0)} {list(source)} and {self.called(1)} {list(size)} must have the same number "
                      "of axes")
        if len(given) < 2:
            given = (given or [0]) * (len(source) - axis)
        for i, offset in enumerate(given, axis):
            if offset + size[i] > source[i]:
                names = {(4, 1): "channels", (4, 2): "height", (4, 3): "width"}
                what = names.get((len(source), i), f"axis {i} of length")
                self.fail(f"offset {offset} + size {size[i]} exceeds {what} {source[i]} of {self.called(0)}")
        return [0] * axis + given

    def _axis(self, source):
        return self.canonical_axis(self.param.crop_param.axis, len(source))

    def reshape(self, bottom, top):
        """Shape the top and list where its rows lie in bottom 0, when a shape changed."""
        shapes = bottom[0].shape, bottom[1].shape
        if shapes != self._made_for:
            offsets = self.offsets(*shapes)
            shape = self.top_shapes(shapes)[0]
            self.rows, self._targets = row_numbers(shapes[0], shape, offsets), None
            self.first_column, self.shape, self._made_for = offsets[-1], shape, shapes
        top[0].reshape(self.shape)

    @property
    def targets(self):
        """For backward: the top's row that each row of bottom 0 goes to, or -1."""
        if self._targets is None:
            targets = np.full(math.prod(self._made_for[0][:-1]), -1, np.int64)
            targets[self.rows] = np.arange(self.rows.size)
            self._targets = targets
        return self._targets

    def forward(self, bottom, top):
        """Copy the rows."""
        if top[0].count:
            parallel.run(crop_cpu, self.rows.size, bottom[0].data.reshape(-1), top[0].data.reshape(-1), self.rows,
                         bottom[0].shape[-1], top[0].shape[-1], self.first_column, work=top[0].count)

    def backward(self, top, propagate_down, bottom):
        """Put the gradient back to its place; bottom 1 gets none."""
        if propagate_down[0]:
            targets = self.targets
            parallel.run(crop_backward_cpu, targets.size, top[0].diff.reshape(-1), bottom[0].diff.reshape(-1), targets,
                         bottom[0].shape[-1], top[0].shape[-1], self.first_column, work=bottom[0].count)
        # A gradient that nobody touched is zero already and takes no memory.
        if propagate_down[1] and bottom[1].has_diff:
            bottom[1].diff.fill(0)

    def bytes_cuda(self):
        """Return the bytes on the card beside the blobs: the tables."""
        return 4 * (self.rows.size + self.targets.size), 0

    def _tables(self):
        """Return the spans of `rows` and `targets`, int32, on the card."""
        if self._tables_for != self._made_for:
            self._tables_on_card = [small.uploaded(self.card, table.astype(np.int32)) for table in (self.rows, self.targets)]
            self._tables_for = self._made_for
        return [part.span for part in self._tables_on_card]

    def forward_cuda(self, bottom, top):
        """Copy the rows."""
        x, y = bottom[0].on(self.card), top[0].write_on(self.card)
        self.card.run(crop_cuda, top[0].count, x, y, self._tables()[0], bottom[0].shape[-1], top[0].shape[-1], self.first_column)

    def backward_cuda(self, top, propagate_down, bottom):
        """Put the gradient back to its place; bottom 1 gets none."""
        if propagate_down[0]:
            dy, dx = top[0].on(self.card, diff=True), bottom[0].write_on(self.card, diff=True)
            self.card.run(crop_backward_cuda, bottom[0].count, dy, dx, self._tables()[1], bottom[0].shape[-1], top[0].shape[-1],
                          self.first_column, 0)
        if propagate_down[1] and bottom[1].has_diff:
            self.card.clear(bottom[1].write_on(self.card, diff=True))

    @staticmethod
    def onnx(export, param, source, reference):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own, shape = param.crop_param, export.bottoms[0]
        axis = export.axis(own.axis)
        offsets = list(own.offset) or [0]
        offsets = np.array(offsets * (len(shape) - axis) if len(offsets) == 1 else offsets)
        axes = export.constant(np.arange(axis, len(shape)))
        if export.free:
            size = export.node("Shape", reference, start=axis)
            ends = export.node("Add", size, export.constant(offsets))
        else:
            ends = export.constant(offsets + export.bottoms[1][axis:])
        return [export.node("Slice", source, export.constant(offsets), ends, axes)]


def row_numbers(source, shape, offsets):
    """Return, for each row (last axis) of an array of `shape`, the number of the row of `source` it lies in; int64."""
    numbers = np.zeros(1, np.int64)
    for axis in range(len(source) - 1):
        numbers = numbers[:, None] * source[axis] + (offsets[axis] + np.arange(shape[axis], dtype=np.int64))
        numbers = numbers.reshape(-1)
    return numbers


@cached
def crop_cpu(first, last, x, y, rows, x_width, y_width, first_column):
    """Rows [first, last) of the top."""
    for row in range(first, last):
        start = rows[row] * x_width + first_column
        source, target = x[start:start + y_width], y[row * y_width:(row + 1) * y_width]
        for column in range(y_width):
            target[column] = source[column]


@cached
def crop_backward_cpu(first, last, dy, dx, targets, x_width, y_width, first_column):
    """Rows [first, last) of bottom 0's gradient: gathered, so that each is written once."""
    for row in range(first, last):
        target = dx[row * x_width:(row + 1) * x_width]
        if targets[row] < 0:
            target[:] = 0
            continue
        source = dy[targets[row] * y_width:(targets[row] + 1) * y_width]
        target[:first_column] = 0
        middle = target[first_column:first_column + y_width]
        for column in range(y_width):
            middle[column] = source[column]
        target[first_column + y_width:] = 0


@kernel("float*, float*, int*, int, int, int, int")
def crop_cuda(x, y, rows, x_width, y_width, first_column, count):
    """All elements of the top."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, y_width)
        y[i] = x[np.int64(rows[row]) * x_width + first_column + i - row * y_width]


@kernel("float*, float*, int*, int, int, int, float, int")
def crop_backward_cuda(dy, dx, targets, x_width, y_width, first_column, zero, count):
    """All elements of bottom 0's gradient: gathered, so that each is written once."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, x_width)
        column, target = i - row * x_width - first_column, targets[row]
        dx[i] = dy[np.int64(target) * y_width + column] if target >= 0 and 0 <= column < y_width else zero
