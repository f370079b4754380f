"""RNN: a plain recurrent net over sequences.

    h_t = tanh(x_t W_x^T + b + static W_s^T + (cont_t h_{t-1}) W_h^T)      o_t = tanh(h_t W_o^T + b_o)

Bottoms: x (T, N, ...), cont (T, N), maybe a static input (N, ...), with `expose_hidden` h_0 (1, N, D). Tops: o (T, N, D), with
`expose_hidden` h_T. D is `num_output`. Parameters: W_x (D, inputs), b (D,), W_s (D, static inputs) if there are any, W_h (D, D),
W_o (D, D), b_o (D,). The state goes on from forward to forward: see `layers.core.recurrent`, also for gradients. Source: Caffe's
RNNLayer.
"""

import math

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.lstm import square_slope_at, tangents_cpu
from layers.core.recurrent import RecurrentLayer, add_product, multiply


class RNN(RecurrentLayer):
    """Sequences; `gates` becomes h, `outputs` (T, N, D) is o, which others may change in the top."""

    def more_shapes(self):
        """Return the shapes of W_o and b_o."""
        size = self.param.recurrent_param.num_output
        return [(size, size), (size,)]

    def setup(self, bottom, top):
        """Have a place for the outputs."""
        super().setup(bottom, top)
        self.outputs = Blob((), f"{self.name} outputs", self.dtype)

    def reshape(self, bottom, top):
        """Shape the tops and the outputs."""
        super().reshape(bottom, top)
        self.outputs.reshape(top[0].shape)

    def activate(self, step, bottom, top):
        """Compute a step's hidden state."""
        hidden = self.gates.data[step]
        flat = hidden.reshape(-1)
        parallel.run(tangents_cpu, flat.size, flat, flat)
        return hidden

    def finish(self, top):
        """Compute the outputs, write the state."""
        hidden, outputs = self.gates.data, self.outputs.data
        multiply(hidden.reshape(-1, self.size), self.blobs[-2].data.T, outputs.reshape(-1, self.size))
        outputs += self.blobs[-1].data
        flat = outputs.reshape(-1)
        parallel.run(tangents_cpu, flat.size, flat, flat)
        top[0].data[...] = outputs
        self.ends(top)[0].data[0] = hidden[-1]

    def output_slopes(self, top):
        """Go back through the outputs."""
        slopes = top[0].diff * square_slope_at(self.outputs.data, self.dtype.type(1))
        flat = slopes.reshape(-1, self.size)
        if self.param_propagate_down[-2]:
            add_product(flat, self.gates.data.reshape(-1, self.size), self.blobs[-2])
        if self.param_propagate_down[-1]:
            self.blobs[-1].diff += flat.sum(0)
        hidden = np.empty_like(slopes)
        multiply(flat, self.blobs[-2].data, hidden.reshape(-1, self.size))
        return hidden

    def activate_backward(self, step, slope, target):
        """Write the gradient of what a step's hidden state is made of."""
        np.multiply(slope, square_slope_at(self.gates.data[step], self.dtype.type(1)), out=target)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: also the outputs, and their gradient."""
        kept, most = super().bytes_cuda()
        return kept + 4 * self.outputs.count, most + 4 * self.outputs.count

    def activate_on_card(self, step, bottom, top):
        """As `activate`."""
        hidden = self.at(self.gates.change_on(self.card), step, self.size)
        self.card.run(tangent_cuda, self.streams * self.size, hidden)
        return hidden

    def finish_on_card(self, top):
        """As `finish`."""
        card, size, count = self.card, self.size, self.outputs.count
        hidden, outputs = self.gates.on(card), self.outputs.write_on(card)
        self.product(hidden, self.blobs[-2].on(card), outputs, count // size, size, size, transpose_b=True,
                     bias=self.blobs[-1].on(card))
        card.run(tangent_cuda, count, outputs)
        card.copy(top[0].write_on(card), outputs, 4 * count)
        card.copy(self.ends(top)[0].write_on(card), self.at(hidden, self.steps - 1, size), 4 * self.streams * size)

    def output_slopes_on_card(self, top):
        """As `output_slopes`."""
        card, size, count = self.card, self.size, self.outputs.count
        slopes, hidden = card.arena.borrow(4 * count), card.arena.borrow(4 * count)
        card.run(tangent_backward_cuda, count, self.outputs.on(card), top[0].on(card, diff=True), slopes.span, 1)
        if self.param_propagate_down[-2]:
            self.add_product_on_card(slopes.span, self.gates.on(card), self.blobs[-2], count // size)
        if self.param_propagate_down[-1]:
            self.add_rows_on_card(slopes.span, self.blobs[-1], count // size)
        self.product(slopes.span, self.blobs[-2].on(card), hidden.span, count // size, size, size)
        return hidden.span, hidden

    def activate_backward_on_card(self, step, slope, target):
        """As `activate_backward`."""
        hidden = self.at(self.gates.on(self.card), step, self.size)
        self.card.run(tangent_backward_cuda, self.streams * self.size, hidden, slope, target, 1)


@cached
def tangent_at(x):
    """Return one value of tanh."""
    return math.tanh(x)


@kernel("float*, int")
def tangent_cuda(x, count):
    """All elements: x = tanh(x)."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        x[i] = tangent_at(x[i])


@kernel("float*, float*, float*, float, int")
def tangent_backward_cuda(y, dy, dx, one, count):
    """All elements of the gradient of x, of y = tanh(x)."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * square_slope_at(y[i], one)
