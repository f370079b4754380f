"""AdaGrad, as in Caffe: each value's rate falls with the root of all its squared gradients so far.

    history = history + gradient^2
    data    = data - rate * lr_mult * gradient / (sqrt(history) + delta)

`gradient` is clipped, divided by iter_size and decayed (see `Solver.apply_update`). float32, each operation rounded
once. There is no momentum: one is refused. Source: Caffe's AdaGradSolver; Duchi, Hazan, Singer 2011.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from solvers import fields
from solvers.on_card import CLIP, HALTED
from solvers.sgd import gradient_at, gradient_plain
from solvers.solver import Solver


class AdaGradSolver(Solver):
    """`type: "AdaGrad"`: one history a parameter, of squares."""

    histories = 1

    def _check(self):
        super()._check()
        fields.refuse_momentum(self, "AdaGrad")
        fields.need_delta(self)

    def rule(self):
        """Return the kernels."""
        return adagrad_cpu, adagrad_cuda

    def numbers(self, rate):
        """Return delta and rate."""
        return self.param.delta, rate


def adagrad_plain(data, diff, history, delta, rate, clip, scale, l2, l1):
    """The same in NumPy, which `adagrad_cpu` must equal bit for bit."""
    gradient = gradient_plain(data, diff, clip, scale, l2, l1)
    history += gradient * gradient
    diff[...] = rate * (gradient / (np.sqrt(history) + delta))
    data -= diff


@cached(error_model="numpy")  # a delta of 0 gives NaN where there is no gradient, as in Caffe
def adagrad_cpu(first, last, data, diff, history, delta, rate, clip, scale, l2, l1):
    """Update the elements [first, last) of flat arrays."""
    data, diff, history = data[first:last], diff[first:last], history[first:last]
    for i in range(data.size):
        gradient = gradient_at(data[i], diff[i], clip, scale, l2, l1)
        squares = history[i] + gradient * gradient
        step = rate * (gradient / (math.sqrt(squares) + delta))
        history[i] = squares
        diff[i] = step
        data[i] -= step


@kernel("float*, float*, float*, float*, float*, int")
def adagrad_cuda(data, diff, history, step, numbers, count):
    """As `adagrad_cpu`, all elements; products and the sums that they go into are rounded once together."""
    if step[HALTED] == 0:
        delta, rate = numbers[0], numbers[1]
        clip, scale, l2, l1 = step[CLIP], numbers[2], numbers[3], numbers[4]
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            gradient = gradient_at(data[i], diff[i], clip, scale, l2, l1)
            squares = history[i] + gradient * gradient
            change = rate * (gradient / (math.sqrt(squares) + delta))
            history[i] = squares
            diff[i] = change
            data[i] -= change
