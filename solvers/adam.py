"""Adam, as in Caffe: a running mean of the gradient, divided by the root of a running mean of its square.

    mean    = momentum * mean + (1 - momentum) * gradient
    squares = momentum2 * squares + (1 - momentum2) * gradient^2
    data    = data - rate * lr_mult * correction * mean / (sqrt(squares) + delta)
    correction = sqrt(1 - momentum2^t) / (1 - momentum^t)                  t = 1, 2, ...: the number of this update

The correction makes up for histories that begin at zero. Two histories a parameter; a snapshot holds the means of all
parameters, then the squares of all. `gradient` is clipped, divided by iter_size and decayed (see
`Solver.apply_update`). float32, each operation rounded once, the correction too. Source: Caffe's AdamSolver; Kingma and
Ba 2015.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from solvers import fields
from solvers.on_card import CLIP, HALTED
from solvers.sgd import gradient_at, gradient_plain
from solvers.solver import Solver


class AdamSolver(Solver):
    """`type: "Adam"`: two histories a parameter, of gradients and of their squares."""

    histories = 2

    def _check(self):
        super()._check()
        # With either at 1 the correction divides by zero or is zero, and nothing is learnt.
        fields.need_share(self, "momentum", below=True)
        fields.need_share(self, "momentum2", below=True)
        fields.need_delta(self)

    def rule(self):
        """Return the kernels."""
        return adam_cpu, adam_cuda

    def numbers(self, rate):
        """Return momentum and momentum2, with what each leaves of 1, delta, and the rate with the correction."""
        kind, t = self.net.dtype.type, self.iter + 1
        one, two = kind(self.param.momentum), kind(self.param.momentum2)
        correction = kind(math.sqrt(1 - float(two) ** t) / (1 - float(one) ** t))
        return one, 1 - one, two, 1 - two, self.param.delta, kind(rate) * correction


def adam_plain(data, diff, mean, squares, momentum, rest, momentum2, rest2, delta, rate, clip, scale, l2, l1):
    """The same in NumPy, which `adam_cpu` must equal bit for bit.

    `rest` is 1 - momentum, `rest2` 1 - momentum2; `rate` has the correction in it.
    """
    gradient = gradient_plain(data, diff, clip, scale, l2, l1)
    mean[...] = momentum * mean + rest * gradient
    squares[...] = momentum2 * squares + rest2 * (gradient * gradient)
    diff[...] = rate * (mean / (np.sqrt(squares) + delta))
    data -= diff


@cached(error_model="numpy")  # a delta of 0 gives NaN where there is no gradient, as in Caffe
def adam_cpu(first, last, data, diff, mean, squares, momentum, rest, momentum2, rest2, delta, rate, clip, scale, l2, l1):
    """Update the elements [first, last) of flat arrays."""
    data, diff, mean, squares = data[first:last], diff[first:last], mean[first:last], squares[first:last]
    for i in range(data.size):
        gradient = gradient_at(data[i], diff[i], clip, scale, l2, l1)
        one = momentum * mean[i] + rest * gradient
        two = momentum2 * squares[i] + rest2 * (gradient * gradient)
        step = rate * (one / (math.sqrt(two) + delta))
        mean[i] = one
        squares[i] = two
        diff[i] = step
        data[i] -= step


@kernel("float*, float*, float*, float*, float*, float*, int")
def adam_cuda(data, diff, mean, squares, step, numbers, count):
    """As `adam_cpu`, all elements; products and the sums that they go into are rounded once together."""
    if step[HALTED] == 0:
        momentum, rest, momentum2, rest2, delta, rate = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
        clip, scale, l2, l1 = step[CLIP], numbers[6], numbers[7], numbers[8]
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            gradient = gradient_at(data[i], diff[i], clip, scale, l2, l1)
            one = momentum * mean[i] + rest * gradient
            two = momentum2 * squares[i] + rest2 * (gradient * gradient)
            change = rate * (one / (math.sqrt(two) + delta))
            mean[i] = one
            squares[i] = two
            diff[i] = change
            data[i] -= change
