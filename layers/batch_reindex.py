"""BatchReindex: y[i] = x[index[i]]: images picked by number, in any order, some several times and some never.

Bottoms: x (M, ...) and index (K,), whole numbers 0 to M - 1; top (K, ...). The gradients of an image's copies are added in order,
in float32; an image that nobody picked gets 0. The index has none. A number out of range or not whole is an error. Source:
Caffe's BatchReindexLayer.
"""

import math

from layers.core.layer import Layer
from layers.core.rows import RowsOnCard, add_rows, row_numbers, take_rows

INT64 = 7  # ONNX's number of the type


class BatchReindex(Layer):
    """Pick images."""

    exact_bottoms = 2
    exact_tops = 1
    _rows_on_card = None

    def allow_force_backward(self, bottom):
        """The index has no gradient."""
        return bottom == 0

    def top_shapes(self, bottom_shapes):
        """Return as many images as the index picks."""
        images, index = (tuple(shape) for shape in bottom_shapes)
        if not images:
            self.fail(f"needs a bottom of at least 1 axis, {self.called(0)} has none")
        if len(index) != 1:
            self.fail(f"needs an index of 1 axis, {self.called(1)} has {list(index)}")
        return [(*index, *images[1:])]

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self._count, self._width = bottom[1].count, math.prod(bottom[0].shape[1:])

    def _numbers(self, bottom):
        return row_numbers(self, 1, bottom[1].data, bottom[0].shape[0], f"{self.called(0)} has")

    def _refuse_gradient(self, propagate_down):
        if propagate_down[1]:
            self.fail(f"cannot backpropagate to an index ({self.called(1)}); set propagate_down: false for it")

    def forward(self, bottom, top):
        """Copy."""
        x, y = (blob.data.reshape(blob.shape[0], self._width) for blob in (bottom[0], top[0]))
        take_rows(x, self._numbers(bottom), y)

    def backward(self, top, propagate_down, bottom):
        """Add up."""
        self._refuse_gradient(propagate_down)
        if propagate_down[0]:
            dx, dy = (blob.diff.reshape(blob.shape[0], self._width) for blob in (bottom[0], top[0]))
            dx.fill(0)
            add_rows(dy, self._numbers(bottom), dx)

    @staticmethod
    def onnx(export, param, source, index):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        return [export.node("Gather", source, export.node("Cast", index, to=INT64))]

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the numbers, and who follows whom."""
        return 12 * self._count, 0

    def _on_card(self):
        if self._rows_on_card is None:
            self._rows_on_card = RowsOnCard(self.card)
        return self._rows_on_card

    def forward_cuda(self, bottom, top):
        """Copy."""
        self._on_card().read(bottom[1].on(self.card), bottom[0].shape[0], self._count)
        self._on_card().take(bottom[0].on(self.card), top[0].write_on(self.card), self._count, self._width)

    def flag_cuda(self):
        """Return the flag of a number that is none."""
        return self._on_card().flag.span

    def check_cuda(self, bottom, top):
        """Refuse a number that is none."""
        if self._on_card().flag.raised():
            self._numbers(bottom)

    def backward_cuda(self, top, propagate_down, bottom):
        """Add up."""
        self._refuse_gradient(propagate_down)
        if propagate_down[0]:
            dx = bottom[0].write_on(self.card, diff=True)
            self.card.clear(dx, 4 * bottom[0].count)
            self._on_card().add(top[0].on(self.card, diff=True), dx, self._count, self._width)
