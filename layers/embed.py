"""Embed: a row of a matrix for each whole number: y[..., j] = w[x[...], j] + b[j].

The bottom holds numbers 0 to `input_dim` - 1 in any shape; the top has one more axis, of `num_output`. Parameters: w (input_dim,
num_output), and with `bias_term` (default) b (num_output,). A row's gradients are added in order, in float32; numbers have none.
It is an InnerProduct of one-hot vectors without the zeros. A number out of range or not whole is an error. Source: Caffe's
EmbedLayer.
"""

import numpy as np

from layers.core.cuda import sums
from layers.core.layer import Layer
from layers.core.rows import RowsOnCard, add_rows, row_numbers, take_rows

INT64 = 7  # ONNX's number of the type


class Embed(Layer):
    """Learned vectors for numbers."""

    exact_bottoms = exact_tops = 1
    _rows_on_card = None

    def check(self):
        """Refuse a matrix without values."""
        param = self.param.embed_param
        for name, what in (("num_output", "the length of a vector"), ("input_dim", "how many numbers there are")):
            if getattr(param, name) < 1:
                self.fail(f"{name} is missing or 0; give {what}")

    def allow_force_backward(self, bottom):
        """Numbers have no gradient."""
        return False

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape with one more axis."""
        return [(*bottom_shapes[0], self.param.embed_param.num_output)]

    def param_shapes(self, bottom_shapes):
        """Return the shapes of matrix and bias."""
        param = self.param.embed_param
        return [(param.input_dim, param.num_output), (param.num_output,)][:1 + param.bias_term]

    def param_fillers(self):
        """Return their fillers."""
        param = self.param.embed_param
        return [param.weight_filler, param.bias_filler][:1 + param.bias_term]

    def _numbers(self, bottom):
        return row_numbers(self, 0, bottom[0].data, self.param.embed_param.input_dim, "there are")

    def _refuse_gradient(self, propagate_down):
        if propagate_down[0]:
            self.fail(f"cannot backpropagate to numbers ({self.called(0)}); set propagate_down: false for it")

    def forward(self, bottom, top):
        """Look up."""
        y = top[0].data.reshape(-1, self.param.embed_param.num_output)
        take_rows(self.blobs[0].data, self._numbers(bottom), y)
        if len(self.blobs) > 1:
            y += self.blobs[1].data

    def backward(self, top, propagate_down, bottom):
        """Add to the rows' gradients."""
        self._refuse_gradient(propagate_down)
        slopes = top[0].diff.reshape(-1, self.param.embed_param.num_output)
        if self.param_propagate_down[0]:
            add_rows(slopes, self._numbers(bottom), self.blobs[0].diff)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].diff += slopes.sum(0, dtype=np.float64).astype(self.dtype)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the numbers, and who follows whom."""
        return 12 * self._count, 0

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.embed_param
        rows = export.node("Gather", export.parameter(0, own.input_dim, own.num_output), export.node("Cast", source, to=INT64))
        return [export.node("Add", rows, export.parameter(1, own.num_output)) if own.bias_term else rows]

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self._count = bottom[0].count

    def _on_card(self):
        if self._rows_on_card is None:
            self._rows_on_card = RowsOnCard(self.card)
        return self._rows_on_card

    def forward_cuda(self, bottom, top):
        """Look up."""
        param, count = self.param.embed_param, bottom[0].count
        self._on_card().read(bottom[0].on(self.card), param.input_dim, count)
        self._on_card().take(self.blobs[0].on(self.card), top[0].write_on(self.card), count, param.num_output,
                                self.blobs[1].on(self.card) if len(self.blobs) > 1 else None)

    def flag_cuda(self):
        """Return the flag of a number that is none."""
        return self._on_card().flag.span

    def check_cuda(self, bottom, top):
        """Refuse a number that is none."""
        if self._on_card().flag.raised():
            self._numbers(bottom)

    def backward_cuda(self, top, propagate_down, bottom):
        """Add to the rows' gradients."""
        self._refuse_gradient(propagate_down)
        slopes, count, width = top[0].on(self.card, diff=True), bottom[0].count, self.param.embed_param.num_output
        if self.param_propagate_down[0]:
            self._on_card().add(slopes, self.blobs[0].change_on(self.card, diff=True), count, width)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            sums.add_up(self.card, sums.VALUES, slopes, slopes, (count, width, 1), self.blobs[1].change_on(self.card, diff=True),
                        adds=True)
