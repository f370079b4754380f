"""Eltwise: the bottoms combined value by value: PROD, SUM (default) or MAX.

Two or more bottoms of one shape. Not in place (but SUM may write over its first bottom).

- SUM: sum of coeff_i * x_i (`coeff` once for each bottom, 1 when left out), added in the bottoms' order; dx_i =
  coeff_i * dy.
- PROD: dx_i = dy * product of the others (`stable_prod_grad`, default), or dy * y / x_i, which fails at 0.
- MAX: the gradient goes to the bottom that won. Of the first two bottoms the second wins unless the first is greater
  (so also at a tie, or next to a NaN); each further one wins only when it is greater.

Source: Caffe's EltwiseLayer.
"""

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer
from layers.core.layout import together
from netspec import caffe_pb2

PROD, SUM, MAX = (caffe_pb2.EltwiseParameter.EltwiseOp.Value(name) for name in ("PROD", "SUM", "MAX"))


class Eltwise(Layer):
    """Sum, product or maximum of blobs."""

    min_bottoms = 2
    exact_tops = 1

    def check(self):
        """Refuse coefficients that fit neither the operation nor the bottoms."""
        param = self.param.eltwise_param
        if param.coeff and param.operation != SUM:
            self.fail("coeff goes with operation SUM only; remove it")
        self.works_in_place = param.operation == SUM

    def top_shapes(self, bottom_shapes):
        """Return the bottoms' shape."""
        first = tuple(bottom_shapes[0])
        for i, shape in enumerate(bottom_shapes[1:], 1):
            if tuple(shape) != first:
                self.fail(f"{self.called(i)} {list(shape)} and {self.called(0)} {list(first)} must have the same shape")
        return [first]

    def setup(self, bottom, top):
        """Take the coefficients."""
        super().setup(bottom, top)
        param = self.param.eltwise_param
        if param.coeff and len(param.coeff) != len(bottom):
            self.fail(f"coeff is given {len(param.coeff)} times for {len(bottom)} bottoms; once for each or never")
        self.operation = param.operation
        self.coeff = [self.dtype.type(c) for c in param.coeff or [1] * len(bottom)]
        self.winner = None  # for MAX: which bottom won, uint8 (or wider) for each value
        self.winner_on_card = None

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self.count = top[0].count

    def reads_blocks(self):
        """Each value by itself; winners go by their places in NCHW."""
        return self.operation != MAX

    writes_blocks = reads_blocks

    def forward(self, bottom, top):
        """Combine."""
        x, y = together([(blob, False) for blob in bottom], (top[0], False))
        count = y.size
        if self.operation == SUM:
            one = self.dtype.type(1)
            parallel.run(sum_cpu, count, x[0], self.coeff[0], x[1], self.coeff[1], y)
            for values, coeff in zip(x[2:], self.coeff[2:]):
                parallel.run(sum_cpu, count, y, one, values, coeff, y)
        elif self.operation == PROD:
            parallel.run(product_cpu, count, x[0], x[1], y)
            for values in x[2:]:
                parallel.run(product_cpu, count, y, values, y)
        else:
            if self.winner is None or self.winner.size < count:
                self.winner = np.empty(count, np.uint8 if len(x) <= 256 else np.int32)
            parallel.run(maximum_cpu, count, x[0], x[1], y, self.winner)
            for number, values in enumerate(x[2:], 2):
                parallel.run(maximum_more_cpu, count, values, number, y, self.winner)

    def backward(self, top, propagate_down, bottom):
        """Write the gradient of each bottom."""
        count, dy = top[0].count, top[0].diff.reshape(-1)
        for i in reversed(range(len(bottom))):  # bottom 0 last: when in place its gradient is dy itself
            if not propagate_down[i]:
                continue
            dx = bottom[i].diff.reshape(-1)
            if self.operation == SUM:
                parallel.run(scaled_cpu, count, dy, self.coeff[i], dx)
            elif self.operation == MAX:
                parallel.run(maximum_backward_cpu, count, dy, self.winner, i, dx)
            elif self.param.eltwise_param.stable_prod_grad:
                others = [b.data.reshape(-1) for j, b in enumerate(bottom) if j != i]
                parallel.run(product_cpu, count, others[0], dy, dx)
                for values in others[1:]:
                    parallel.run(product_cpu, count, dx, values, dx)
            else:
                with np.errstate(all="ignore"):  # 0 / 0 is what this form is known for
                    np.divide(top[0].data.reshape(-1), bottom[i].data.reshape(-1), out=dx)
                    dx *= dy

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the winners."""
        return self.count * (self.operation == MAX), 0

    def has_cuda(self):
        """Unless the winners' numbers do not fit into a byte."""
        return self.param.eltwise_param.operation != MAX or len(self.param.bottom) <= 256

    def forward_cuda(self, bottom, top):
        """Combine."""
        run, count = self.card.run, top[0].count
        x = [blob.on(self.card) for blob in bottom]
        y = top[0].write_on(self.card)
        if self.operation == SUM:
            run(sum_cuda, count, x[0], self.coeff[0], x[1], self.coeff[1], y)
            for values, coeff in zip(x[2:], self.coeff[2:]):
                run(sum_cuda, count, y, 1, values, coeff, y)
        elif self.operation == PROD:
            run(product_cuda, count, x[0], x[1], y)
            for values in x[2:]:
                run(product_cuda, count, y, values, y)
        else:
            if self.winner_on_card is None or self.winner_on_card.span.nbytes < count:
                self.winner_on_card = self.card.arena.take(count)
            winner = self.winner_on_card.span
            run(maximum_cuda, count, x[0], x[1], y, winner)
            for number, values in enumerate(x[2:], 2):
                run(maximum_more_cuda, count, values, number, y, winner)

    def backward_cuda(self, top, propagate_down, bottom):
        """Write the gradient of each bottom."""
        run, count = self.card.run, top[0].count
        dy = top[0].on(self.card, diff=True)
        for i in reversed(range(len(bottom))):  # as in `backward`
            if not propagate_down[i]:
                continue
            dx = bottom[i].write_on(self.card, diff=True)
            if self.operation == SUM:
                run(scaled_cuda, count, dy, self.coeff[i], dx)
            elif self.operation == MAX:
                run(maximum_backward_cuda, count, dy, self.winner_on_card.span, i, 0, dx)
            elif self.param.eltwise_param.stable_prod_grad:
                others = [blob.on(self.card) for j, blob in enumerate(bottom) if j != i]
                run(product_cuda, count, others[0], dy, dx)
                for values in others[1:]:
                    run(product_cuda, count, dx, values, dx)
            else:
                run(quotient_cuda, count, top[0].on(self.card), bottom[i].on(self.card), dy, dx)

    @staticmethod
    def onnx(export, param, *sources):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.eltwise_param
        if own.operation == own.MAX:
            return [export.node("Max", *sources)]
        terms = list(sources)
        if own.operation == own.SUM:
            terms = [term if factor == 1 else export.node("Mul", term, export.number(factor))
                     for term, factor in zip(sources, list(own.coeff) or [1] * len(sources))]
        total = terms[0]
        for term in terms[1:]:
            total = export.node("Mul" if own.operation == own.PROD else "Add", total, term)
        return [total]


@cached
def sum_cpu(first, last, a, a_coeff, b, b_coeff, y):
    """y = a_coeff * a + b_coeff * b; y may be a."""
    a, b, y = a[first:last], b[first:last], y[first:last]
    for i in range(a.size):
        y[i] = a_coeff * a[i] + b_coeff * b[i]


@cached
def scaled_cpu(first, last, dy, coeff, dx):
    """dx = coeff * dy."""
    dy, dx = dy[first:last], dx[first:last]
    for i in range(dy.size):
        dx[i] = coeff * dy[i]


@cached
def product_cpu(first, last, a, b, y):
    """y = a * b; y may be a."""
    a, b, y = a[first:last], b[first:last], y[first:last]
    for i in range(a.size):
        y[i] = a[i] * b[i]


@cached
def maximum_cpu(first, last, a, b, y, winner):
    """The greater of the first two bottoms, and which it was."""
    a, b, y, winner = a[first:last], b[first:last], y[first:last], winner[first:last]
    for i in range(a.size):
        better = a[i] > b[i]
        y[i] = a[i] if better else b[i]
        winner[i] = 0 if better else 1


@cached
def maximum_more_cpu(first, last, x, number, y, winner):
    """The same with bottom `number`, when it is greater than what won so far."""
    x, y, winner = x[first:last], y[first:last], winner[first:last]
    for i in range(x.size):
        better = x[i] > y[i]
        y[i] = x[i] if better else y[i]
        winner[i] = number if better else winner[i]


@cached
def maximum_backward_cpu(first, last, dy, winner, number, dx):
    """dx = dy where bottom `number` won, else 0."""
    zero = dy.dtype.type(0)
    dy, winner, dx = dy[first:last], winner[first:last], dx[first:last]
    for i in range(dy.size):
        dx[i] = dy[i] if winner[i] == number else zero


@kernel("float*, float, float*, float, float*, int")
def sum_cuda(a, a_coeff, b, b_coeff, y, count):
    """y = a_coeff * a + b_coeff * b; y may be a."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = a_coeff * a[i] + b_coeff * b[i]


@kernel("float*, float, float*, int")
def scaled_cuda(dy, coeff, dx, count):
    """dx = coeff * dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = coeff * dy[i]


@kernel("float*, float*, float*, int")
def product_cuda(a, b, y, count):
    """y = a * b; y may be a."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = a[i] * b[i]


@cached(error_model="numpy")
def quotient_at(y, x):
    """Return the product of the others."""
    return y / x


@kernel("float*, float*, float*, float*, int")
def quotient_cuda(y, x, dy, dx, count):
    """dx = y / x * dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = quotient_at(y[i], x[i]) * dy[i]


@kernel("float*, float*, float*, byte*, int")
def maximum_cuda(a, b, y, winner, count):
    """The greater of the first two bottoms, and which it was."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        better = a[i] > b[i]
        y[i] = a[i] if better else b[i]
        winner[i] = 0 if better else 1


@kernel("float*, int, float*, byte*, int")
def maximum_more_cuda(x, number, y, winner, count):
    """The same with bottom `number`, when it is greater than what won so far."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        if x[i] > y[i]:
            y[i] = x[i]
            winner[i] = number


@kernel("float*, byte*, int, float, float*, int")
def maximum_backward_cuda(dy, winner, number, zero, dx, count):
    """dx = dy where bottom `number` won, else 0."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] if winner[i] == number else zero
