"""LSTMUnit: one time step of long short-term memory, without its products (those are LSTM's).

Bottoms: the cells c' before (1, N, D); gate inputs x (1, N, 4 D): input, forget, output and modulation of D values each; cont
(1, N), 0 where a sequence begins. Tops: the cells c and the outputs h, both (1, N, D). Formulas: `layers.core.lstm`. cont has no
gradient; where it is neither 0 nor 1 that of the forget gate is f (1 - f) with f = cont sigmoid(x), as in Caffe. Source: Caffe's
LSTMUnitLayer.
"""

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu import parallel
from layers.core.layer import Layer
from layers.core.lstm import lstm_unit_backward_cpu, lstm_unit_backward_cuda, lstm_unit_cpu, lstm_unit_cuda


class LSTMUnit(Layer):
    """Gates and cells of one time step."""

    exact_bottoms = 3
    exact_tops = 2

    def allow_force_backward(self, bottom):
        """Cells and gates have a gradient."""
        return bottom != 2

    def top_shapes(self, bottom_shapes):
        """Return the cells' shape twice."""
        cells, gates, cont = (tuple(shape) for shape in bottom_shapes)
        if len(cells) != 3 or cells[0] != 1:
            self.fail(f"needs cells of 3 axes (1, streams, values), but {self.called(0)} has {list(cells)}")
        for number, shape, wanted in ((1, gates, (1, cells[1], 4 * cells[2])), (2, cont, (1, cells[1]))):
            if shape != wanted:
                self.fail(f"with cells {self.called(0)} {list(cells)} needs {('gates', 'cont')[number - 1]} {list(wanted)}, but "
                          f"{self.called(number)} has {list(shape)}")
        return [cells, cells]

    def setup(self, bottom, top):
        """Have a place for the activated gates."""
        super().setup(bottom, top)
        self.acts = Blob((), f"{self.name} gates", self.dtype)

    def reshape(self, bottom, top):
        """Shape the tops."""
        super().reshape(bottom, top)
        self.acts.reshape(bottom[1].shape)

    def forward(self, bottom, top):
        """Compute cells and outputs."""
        parallel.run(lstm_unit_cpu, bottom[0].shape[1], *(blob.data[0] for blob in bottom), self.acts.data[0], top[0].data[0],
                     top[1].data[0], work=bottom[1].count)

    def backward(self, top, propagate_down, bottom):
        """Write the gradients of cells and gates."""
        self._refuse_gradient(propagate_down)
        if any(propagate_down):
            cells, gates = (blob.diff[0] if wanted else np.empty(blob.shape[1:], self.dtype)
                            for blob, wanted in zip(bottom[:2], propagate_down))
            parallel.run(lstm_unit_backward_cpu, bottom[0].shape[1], bottom[0].data[0], self.acts.data[0], top[0].data[0],
                         top[0].diff[0], top[1].diff[0], cells, gates, self.dtype.type(1), work=bottom[1].count)

    def _refuse_gradient(self, propagate_down):
        if propagate_down[2]:
            self.fail(f"cannot backpropagate to sequence indicators ({self.called(2)}); set propagate_down: false for it")

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: activated gates; room for gradients that nobody wants."""
        return 4 * self.acts.count, 5 * self.acts.count

    def forward_cuda(self, bottom, top):
        """Compute cells and outputs."""
        self.card.run(lstm_unit_cuda, bottom[0].count, *(blob.on(self.card) for blob in bottom), self.acts.write_on(self.card),
                      top[0].write_on(self.card), top[1].write_on(self.card), bottom[0].shape[2])

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the gradients of cells and gates."""
        self._refuse_gradient(propagate_down)
        if any(propagate_down):
            spare = [self.card.arena.borrow(4 * blob.count) for blob in bottom[:2]]
            cells, gates = (blob.write_on(self.card, diff=True) if wanted else part.span
                            for blob, wanted, part in zip(bottom, propagate_down, spare))
            self.card.run(lstm_unit_backward_cuda, bottom[0].count, bottom[0].on(self.card), self.acts.on(self.card),
                          top[0].on(self.card), *(blob.on(self.card, diff=True) for blob in top), cells, gates, 1,
                          bottom[0].shape[2])
