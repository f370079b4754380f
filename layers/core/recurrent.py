"""RecurrentLayer: what RNN and LSTM have in common: sequences, hidden states, and products with shared weights.

Bottoms: x (T, N, ...), T time steps of N independent streams; cont (T, N), 0 where a sequence begins and 1 where it goes on;
maybe a static input (N, ...), the same for all steps. With the hidden h (N, D) of the step before, W as wide as a type asks:

    gates_t = x_t W_x^T + b + static W_s^T + (cont_t h_{t-1}) W_h^T

Before the first step stands the state in which the layer's last forward ended, whatever batch that was (cont 0 forgets it); zeros
at first. With `expose_hidden` it is taken from further bottoms (1, N, D) instead, and the last one given out as further tops. As
in Caffe no gradient goes from one forward to the one before, through exposed states neither: that of such bottoms is 0, that of
such tops is not looked at. cont has none.

Caffe unrolls a net of T steps inside. Here the products with x and the gradients of weights are one for all steps. Sums of
products are BLAS's, on a card those of `layers.core.cuda.gemm`; the number of steps may change from call to call.
"""

import base64
import math

import numpy as np

from layers.core.blob import Blob
from layers.core.cpu import blas
from layers.core.cpu.compiled import cached
from layers.core.cuda import sums, tiles
from layers.core.cuda.gemm import gemm
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer

STEP = 512  # columns that one product makes


class RecurrentLayer(Layer):
    """Steps through time.

    A subclass says how many `gates` of D values and how many `states` it has, activates the gates of a step and finds their
    gradient, on arrays and on spans of the card.

    Attributes
    ----------
    gates : Blob
        (T, N, gates D): inputs of gates; what a subclass makes of them. Its diff: the gradient of their inputs.
    conted : Blob
        (T, N, D): hidden states that reached each step.
    carried : list of Blob
        (1, N, D) each, the hidden one first: where the last forward ended.
    """

    gate_count = state_count = 1

    def check(self):
        """Count bottoms and tops."""
        param = self.param.recurrent_param
        if param.num_output < 1:
            self.fail("num_output is missing or 0; give recurrent_param { num_output: ... }, the values of a hidden state")
        self.exposed = self.state_count if param.expose_hidden else 0
        self.min_bottoms, self.max_bottoms = 2 + self.exposed, 3 + self.exposed
        self.exact_tops = 1 + self.exposed

    def allow_force_backward(self, bottom):
        """All but the sequence indicators have a gradient."""
        return bottom != 1

    def top_shapes(self, bottom_shapes):
        """Return (T, N, D), and the exposed states' shapes."""
        x, cont, *more = (tuple(shape) for shape in bottom_shapes)
        size = self.param.recurrent_param.num_output
        if len(x) < 3 or not x[0]:
            self.fail(f"needs sequences of 3 or more axes (time steps, streams, values), at least one step, but {self.called(0)} "
                      f"has {list(x)}")
        if cont != x[:2]:
            self.fail(f"needs a sequence indicator for each step and stream of {self.called(0)}, {list(x[:2])}, but "
                      f"{self.called(1)} has {list(cont)}")
        if len(more) > self.exposed and (len(more[0]) < 2 or more[0][0] != x[1]):
            self.fail(f"needs a static input of {x[1]} streams (streams, values), but {self.called(2)} has {list(more[0])}")
        for number, shape in enumerate(more[len(more) - self.exposed:], len(bottom_shapes) - self.exposed):
            if shape != (1, x[1], size):
                self.fail(f"needs hidden states {[1, x[1], size]}, but {self.called(number)} has {list(shape)}")
        return [(*x[:2], size)] + [(1, x[1], size)] * self.exposed

    def _widths(self, bottom_shapes):
        """Return the values of a gate input, of x and of the static input (None without)."""
        static = math.prod(bottom_shapes[2][1:]) if len(bottom_shapes) > 2 + self.exposed else None
        return self.gate_count * self.param.recurrent_param.num_output, math.prod(bottom_shapes[0][2:]), static

    def param_shapes(self, bottom_shapes):
        """Return the shapes of W_x, b, W_s (with a static input), W_h and of what a subclass adds."""
        width, inputs, static = self._widths(bottom_shapes)
        shapes = [(width, inputs), (width,), (width, self.param.recurrent_param.num_output), *self.more_shapes()]
        return shapes if static is None else [*shapes[:2], (width, static), *shapes[2:]]

    def more_shapes(self):
        """Return the shapes of parameters after W_h."""
        return []

    def param_fillers(self):
        """Return weight_filler for matrices, bias_filler for vectors."""
        param = self.param.recurrent_param
        static = len(self.param.bottom) > 2 + self.exposed
        weights = [param.weight_filler, param.bias_filler] + [param.weight_filler] * (1 + static)
        return weights + [param.weight_filler if len(shape) > 1 else param.bias_filler for shape in self.more_shapes()]

    def macs(self, bottom_shapes, top_shapes):
        """Return the multiply-accumulates of one forward pass."""
        streams = math.prod(bottom_shapes[0][:2])
        shapes = self.param_shapes(bottom_shapes)
        fixed = 0 if self._widths(bottom_shapes)[2] is None else math.prod(shapes.pop(2))
        return streams * sum(math.prod(shape) for shape in shapes if len(shape) > 1) + bottom_shapes[0][1] * fixed

    def setup(self, bottom, top):
        """Make the parameters, begin with a state of zeros."""
        super().setup(bottom, top)
        self.gates, self.conted = (Blob((), f"{self.name} {what}", self.dtype) for what in ("gates", "hidden"))
        self.carried = [Blob((), f"{self.name} state {number}", self.dtype) for number in range(self.state_count)]

    def reshape(self, bottom, top):
        """Shape the tops and what is kept."""
        super().reshape(bottom, top)
        shapes = [blob.shape for blob in bottom]
        width, _, static = self._widths(shapes)
        for blob, wanted in zip(self.blobs, self.param_shapes(shapes)):
            if blob.shape != wanted:
                self.fail(f"the bottoms {', '.join(str(list(shape)) for shape in shapes)} need parameters {list(wanted)}, but "
                          f"they are {list(blob.shape)}; the size of an input may not change")
        self.steps, self.streams, self.size = top[0].shape
        self.width, self.has_static = width, static is not None
        self.gates.reshape(self.steps, self.streams, width)
        self.conted.reshape(top[0].shape)
        for blob in self.carried:
            blob.reshape(1, self.streams, self.size)

    def begins(self, bottom):
        """Return the blobs of the states before the first step."""
        return bottom[len(bottom) - self.exposed:] if self.exposed else self.carried

    def ends(self, top):
        """Return the blobs of the states behind the last step."""
        return top[1:] if self.exposed else self.carried

    def state(self):
        """Return the states, which the next forward begins with; None where they come from bottoms."""
        if self.exposed:
            return None
        return {"shape": list(self.carried[0].shape), "values": [base64.b64encode(blob.peek().tobytes()).decode()
                                                               for blob in self.carried]}

    def set_state(self, state):
        """Go on where `state` was taken."""
        for blob, values in zip(self.carried, state["values"], strict=True):
            blob.reshape(tuple(state["shape"]))
            blob.data[...] = np.frombuffer(base64.b64decode(values), self.dtype).reshape(blob.shape)

    def state_on_host(self):
        """Return None on a card: there the states are blobs, which recorded work changes."""
        return self.state() if self.card is None else None

    # --- what a subclass computes -------------------------------------------------------------------------------------

    def activate(self, step, bottom, top):
        """Make a step's hidden state (N, D) of its gates; return it."""
        raise NotImplementedError(f"{type(self).__name__}.activate")

    def finish(self, top):
        """Write what is left of the tops, and the states behind the last step."""
        raise NotImplementedError(f"{type(self).__name__}.finish")

    def output_slopes(self, top):
        """Return the hidden states' gradient (T, N, D) that comes from the top; add to that of the subclass's parameters."""
        raise NotImplementedError(f"{type(self).__name__}.output_slopes")

    def activate_backward(self, step, slope, target):
        """Write the gradient of a step's gate inputs, `slope` being that of its hidden state."""
        raise NotImplementedError(f"{type(self).__name__}.activate_backward")

    # --- on the CPU ---------------------------------------------------------------------------------------------------

    @property
    def hidden_weights(self):
        """W_h."""
        return self.blobs[2 + self.has_static]

    def forward(self, bottom, top):
        """Step through the sequences."""
        gates, conted = self.gates.data, self.conted.data
        multiply(_rows(bottom[0].data, 2), self.blobs[0].data.T, gates.reshape(-1, self.width))
        gates += self.blobs[1].data
        if self.has_static:
            fixed = np.empty((self.streams, self.width), self.dtype)
            multiply(_rows(bottom[2].data, 1), self.blobs[2].data.T, fixed)
            gates += fixed
        hidden, weights = self.begins(bottom)[0].data[0], self.hidden_weights.data.T
        for step, goes_on in enumerate(bottom[1].data):
            np.multiply(goes_on[:, None], hidden, out=conted[step])
            multiply(conted[step], weights, gates[step], accumulate=True)
            hidden = self.activate(step, bottom, top)
        self.finish(top)

    def backward(self, top, propagate_down, bottom):
        """Step back: add to the parameters' gradients, write the bottoms'."""
        self._refuse_gradient(propagate_down)
        slopes, cont, learns = self.gates.diff, bottom[1].data, self.param_propagate_down
        from_top, carried = self.output_slopes(top), np.zeros((self.streams, self.size), self.dtype)
        for step in range(self.steps - 1, -1, -1):
            self.activate_backward(step, from_top[step] + carried, slopes[step])
            if step:
                multiply(slopes[step], self.hidden_weights.data, carried)
                carried *= cont[step][:, None]
        flat = slopes.reshape(-1, self.width)
        if learns[0]:
            add_product(flat, _rows(bottom[0].data, 2), self.blobs[0])
        if learns[1]:
            self.blobs[1].diff += flat.sum(0)
        if learns[2 + self.has_static]:
            add_product(flat, self.conted.data.reshape(-1, self.size), self.hidden_weights)
        if propagate_down[0]:
            multiply(flat, self.blobs[0].data, _rows(bottom[0].diff, 2))
        if self.has_static:
            fixed = slopes.sum(0)
            if learns[2]:
                add_product(fixed, _rows(bottom[2].data, 1), self.blobs[2])
            if propagate_down[2]:
                multiply(fixed, self.blobs[2].data, _rows(bottom[2].diff, 1))
        for blob in self._unreached(propagate_down, bottom):
            blob.diff.fill(0)

    def _refuse_gradient(self, propagate_down):
        if propagate_down[1]:
            self.fail(f"cannot backpropagate to sequence indicators ({self.called(1)}); set propagate_down: false for it")

    def _unreached(self, propagate_down, bottom):
        """Return the exposed states whose gradient is wanted: it is 0."""
        first = len(bottom) - self.exposed
        return [blob for blob, wanted in zip(bottom[first:], propagate_down[first:]) if wanted]

    # --- on a card: the same of spans -----------------------------------------------------------------------------------

    def activate_on_card(self, step, bottom, top):
        """As `activate`; return the span of the hidden state."""
        raise NotImplementedError(f"{type(self).__name__}.activate_on_card")

    def finish_on_card(self, top):
        """As `finish`."""
        raise NotImplementedError(f"{type(self).__name__}.finish_on_card")

    def output_slopes_on_card(self, top):
        """As `output_slopes`; return (span, what must live as long)."""
        raise NotImplementedError(f"{type(self).__name__}.output_slopes_on_card")

    def activate_backward_on_card(self, step, slope, target):
        """As `activate_backward`."""
        raise NotImplementedError(f"{type(self).__name__}.activate_backward_on_card")

    def at(self, span, step, width):
        """Return the span of a step's values of (T, N, width)."""
        nbytes = 4 * self.streams * width
        return self.card.within(span, step * nbytes, nbytes)

    def product(self, a, b, c, m, n, k, **options):
        """Queue a product of `layers.core.cuda.gemm`, in the net's arithmetic."""
        gemm(self.card, a, b, c, m, n, k, how=tiles.arithmetic(self.card, self.math), **options)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: gates, their gradients, hidden states; gradients within a call."""
        state = self.streams * self.size
        return 4 * (2 * self.gates.count + self.conted.count + self.state_count * state), 4 * (self.conted.count + 2 * state)

    def forward_cuda(self, bottom, top):
        """Step through the sequences."""
        card, width, size, rows = self.card, self.width, self.size, self.streams * self.steps
        gates, conted, cont = self.gates.write_on(card), self.conted.write_on(card), bottom[1].on(card)
        self.product(bottom[0].on(card), self.blobs[0].on(card), gates, rows, width, bottom[0].count // max(1, rows),
                     transpose_b=True, bias=self.blobs[1].on(card))
        if self.has_static:
            fixed = card.arena.borrow(4 * self.streams * width)
            self.product(bottom[2].on(card), self.blobs[2].on(card), fixed.span, self.streams, width,
                         bottom[2].count // max(1, self.streams), transpose_b=True)
            card.run(add_static_cuda, self.gates.count, fixed.span, gates, self.streams * width)
        hidden, weights = self.begins(bottom)[0].on(card), self.hidden_weights.on(card)
        for step in range(self.steps):
            reached = self.at(conted, step, size)
            card.run(goes_on_cuda, self.streams * size, self.at(cont, step, 1), hidden, reached, size)
            self.product(reached, weights, self.at(gates, step, width), self.streams, width, size, transpose_b=True, beta=1)
            hidden = self.activate_on_card(step, bottom, top)
        self.finish_on_card(top)

    def backward_cuda(self, top, propagate_down, bottom):
        """Step back: add to the parameters' gradients, write the bottoms'."""
        self._refuse_gradient(propagate_down)
        card, width, size, streams, rows = self.card, self.width, self.size, self.streams, self.streams * self.steps
        cont, learns, slopes = bottom[1].on(card), self.param_propagate_down, self.gates.write_on(card, diff=True)
        weights, parts = self.hidden_weights.on(card), [card.arena.borrow(4 * streams * size) for _ in range(2)]
        slope, carried = (part.span for part in parts)
        from_top, _lives = self.output_slopes_on_card(top)
        card.clear(carried)
        for step in range(self.steps - 1, -1, -1):
            # The last step's carried gradient is 0, so whatever number stands for the step after it.
            after = self.at(cont, min(step + 1, self.steps - 1), 1)
            card.run(carry_cuda, streams * size, self.at(from_top, step, size), after, carried, slope, size)
            target = self.at(slopes, step, width)
            self.activate_backward_on_card(step, slope, target)
            if step:
                self.product(target, weights, carried, streams, size, width)
        if learns[0]:
            self.add_product_on_card(slopes, bottom[0].on(card), self.blobs[0], rows)
        if learns[1]:
            self.add_rows_on_card(slopes, self.blobs[1], rows)
        if learns[2 + self.has_static]:
            self.add_product_on_card(slopes, self.conted.on(card), self.hidden_weights, rows)
        if propagate_down[0]:
            self.product(slopes, self.blobs[0].on(card), bottom[0].write_on(card, diff=True), rows,
                         bottom[0].count // max(1, rows), width)
        if self.has_static:
            fixed = card.arena.borrow(4 * streams * width)
            sums.add_up(card, sums.VALUES, slopes, slopes, (self.steps, streams * width, 1), fixed.span)
            if learns[2]:
                self.add_product_on_card(fixed.span, bottom[2].on(card), self.blobs[2], streams)
            if propagate_down[2]:
                self.product(fixed.span, self.blobs[2].on(card), bottom[2].write_on(card, diff=True), streams,
                             bottom[2].count // max(1, streams), width)
        for blob in self._unreached(propagate_down, bottom):
            card.clear(blob.write_on(card, diff=True), 4 * blob.count)

    def add_rows_on_card(self, slopes, blob, rows):
        """Add the sum of rows to a parameter's gradient, one row."""
        target = blob.change_on(self.card, diff=True)
        sums.add_up(self.card, sums.VALUES, slopes, slopes, (rows, blob.count, 1), target, adds=True)

    def add_product_on_card(self, left, right, blob, rows):
        """Add to a parameter's gradient (m, n) the product of left (rows, m), transposed, and right (rows, n)."""
        self.product(left, right, blob.change_on(self.card, diff=True), *blob.shape, rows, transpose_a=True, beta=1)


def multiply(a, b, out, accumulate=False):
    """Write the product of matrices to `out`, or add it; the same bits for any number of threads."""
    def some(first, last):
        if accumulate:
            product = blas.scratch((out.shape[0], last - first), out.dtype, "product")
            np.matmul(a, b[:, first:last], out=product)
            out[:, first:last] += product
        else:
            np.matmul(a, b[:, first:last], out=out[:, first:last])

    steps = [(first, min(first + STEP, b.shape[1])) for first in range(0, b.shape[1], STEP)]
    blas.each(steps, some, a.size * b.shape[1])


def add_product(left, right, blob):
    """Add to a parameter's gradient the product of left, transposed, and right."""
    blob.add_to_diff(lambda gradient, accumulate: multiply(left.T, right, gradient, accumulate))


def _rows(array, axis):
    """Return an array as a matrix: the axes from `axis` on are one."""
    return array.reshape(math.prod(array.shape[:axis]), math.prod(array.shape[axis:]))


@cached
def carried_at(dy, goes_on, carried):
    """Return the gradient of one value of a hidden state: the top's, and what the step after carries back."""
    return dy + goes_on * carried


@kernel("float*, float*, int, int")
def add_static_cuda(fixed, gates, length, count):
    """All gates: add what is the same at each step."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        gates[i] += fixed[i - over(i, length) * length]


@kernel("float*, float*, float*, int, int")
def goes_on_cuda(cont, hidden, reached, size, count):
    """All values of a step's hidden state: those that reach it."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        reached[i] = cont[over(i, size)] * hidden[i]


@kernel("float*, float*, float*, float*, int, int")
def carry_cuda(dy, after, carried, slope, size, count):
    """All values of the gradient of a step's hidden state."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        slope[i] = carried_at(dy[i], after[over(i, size)], carried[i])
