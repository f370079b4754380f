"""LSTM: long short-term memory over sequences.

    gates_t = x_t W_x^T + b + static W_s^T + (cont_t h_{t-1}) W_h^T      i, f, o, g in this order
    c_t = cont_t sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)                 h_t = sigmoid(o) tanh(c_t)

Bottoms: x (T, N, ...), cont (T, N), maybe a static input (N, ...), with `expose_hidden` h_0 and c_0 (1, N, D). Tops: h (T, N, D),
with `expose_hidden` h_T and c_T. D is `num_output`. Parameters: W_x (4 D, inputs), b (4 D,), W_s (4 D, static inputs) if there
are any, W_h (4 D, D). States go on from forward to forward: see `layers.core.recurrent`, also for gradients. Source: Caffe's
LSTMLayer.
"""

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu import parallel
from layers.core.lstm import lstm_unit_backward_cpu, lstm_unit_backward_cuda, lstm_unit_cpu, lstm_unit_cuda
from layers.core.recurrent import RecurrentLayer


class LSTM(RecurrentLayer):
    """Sequences with a memory; `cells` (T + 1, N, D) holds c from before the first step on."""

    gate_count, state_count = 4, 2

    def setup(self, bottom, top):
        """Have a place for the cells."""
        super().setup(bottom, top)
        self.cells = Blob((), f"{self.name} cells", self.dtype)
        self._cell_slopes = self._cell_slopes_on_card = None  # their gradient, while backward runs

    def reshape(self, bottom, top):
        """Shape the tops and the cells."""
        super().reshape(bottom, top)
        self.cells.reshape(self.steps + 1, self.streams, self.size)

    def activate(self, step, bottom, top):
        """Compute a step's cells and hidden state."""
        gates, cells = self.gates.data[step], self.cells.data
        if step == 0:
            cells[0] = self.begins(bottom)[1].data[0]
        hidden = top[0].data[step]
        parallel.run(lstm_unit_cpu, self.streams, cells[step], gates, bottom[1].data[step], gates, cells[step + 1], hidden,
                     work=gates.size)
        return hidden

    def finish(self, top):
        """Write the states."""
        for blob, values in zip(self.ends(top), (top[0].data[-1], self.cells.data[-1])):
            blob.data[0] = values

    def output_slopes(self, top):
        """Return the top's gradient; that of the last cells is 0."""
        self._cell_slopes = np.zeros((self.streams, self.size), self.dtype)
        return top[0].diff

    def activate_backward(self, step, slope, target):
        """Write the gradient of a step's gates, and that of the cells before."""
        cells = self.cells.data
        parallel.run(lstm_unit_backward_cpu, self.streams, cells[step], self.gates.data[step], cells[step + 1], self._cell_slopes,
                     slope, self._cell_slopes, target, self.dtype.type(1), work=target.size)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: also the cells, and their gradient."""
        kept, most = super().bytes_cuda()
        return kept + 4 * self.cells.count, most + 4 * self.streams * self.size

    def activate_on_card(self, step, bottom, top):
        """As `activate`."""
        card, size = self.card, self.size
        if step == 0:
            card.copy(self.cells.write_on(card), self.begins(bottom)[1].on(card), 4 * self.streams * size)
        cells, gates = self.cells.change_on(card), self.at(self.gates.change_on(card), step, self.width)
        hidden = self.at(top[0].write_on(card) if step == 0 else top[0].change_on(card), step, size)
        card.run(lstm_unit_cuda, self.streams * size, self.at(cells, step, size), gates, self.at(bottom[1].on(card), step, 1),
                 gates, self.at(cells, step + 1, size), hidden, size)
        return hidden

    def finish_on_card(self, top):
        """As `finish`."""
        card = self.card
        for blob, source, last in zip(self.ends(top), (top[0], self.cells), (self.steps - 1, self.steps)):
            card.copy(blob.write_on(card), self.at(source.on(card), last, self.size), 4 * self.streams * self.size)

    def output_slopes_on_card(self, top):
        """As `output_slopes`."""
        self._cell_slopes_on_card = self.card.arena.borrow(4 * self.streams * self.size)
        self.card.clear(self._cell_slopes_on_card.span)
        return top[0].on(self.card, diff=True), None

    def activate_backward_on_card(self, step, slope, target):
        """As `activate_backward`."""
        size, cells, before = self.size, self.cells.on(self.card), self._cell_slopes_on_card.span
        self.card.run(lstm_unit_backward_cuda, self.streams * size, self.at(cells, step, size),
                      self.at(self.gates.on(self.card), step, self.width), self.at(cells, step + 1, size), before, slope, before,
                      target, 1, size)
        if step == 0:
            self._cell_slopes_on_card = None  # it goes back
