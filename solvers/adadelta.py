"""AdaDelta, as in Caffe: each step is as long as the steps before it were against their gradients.

    squares = momentum * squares + (1 - momentum) * gradient^2
    step    = gradient * sqrt((delta + steps) / (delta + squares))
    steps   = momentum * steps + (1 - momentum) * step^2
    data    = data - rate * lr_mult * step

Two histories a parameter; a snapshot holds the squares of all parameters, then the steps of all. `gradient` is clipped,
divided by iter_size and decayed (see `Solver.apply_update`). float32, each operation rounded once. Source: Caffe's
AdaDeltaSolver (whose rate is usually 1); Zeiler 2012.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from solvers import fields
from solvers.on_card import CLIP, HALTED
from solvers.sgd import gradient_at, gradient_plain
from solvers.solver import Solver


class AdaDeltaSolver(Solver):
    """`type: "AdaDelta"`: two histories a parameter, of squared gradients and of squared steps."""

    histories = 2

    def _check(self):
        super()._check()
        fields.need_share(self, "momentum", below=False)
        fields.need_delta(self)

    def rule(self):
        """Return the kernels."""
        return adadelta_cpu, adadelta_cuda

    def numbers(self, rate):
        """Return momentum, what it leaves of 1, delta and rate."""
        momentum = self.net.dtype.type(self.param.momentum)
        return momentum, 1 - momentum, self.param.delta, rate


def adadelta_plain(data, diff, squares, steps, momentum, rest, delta, rate, clip, scale, l2, l1):
    """The same in NumPy, which `adadelta_cpu` must equal bit for bit; `rest` is 1 - momentum."""
    gradient = gradient_plain(data, diff, clip, scale, l2, l1)
    squares[...] = momentum * squares + rest * (gradient * gradient)
    step = gradient * np.sqrt((delta + steps) / (delta + squares))
    steps[...] = momentum * steps + rest * (step * step)
    diff[...] = rate * step
    data -= diff


@cached(error_model="numpy")  # a delta of 0 gives NaN where there is no gradient, as in Caffe
def adadelta_cpu(first, last, data, diff, squares, steps, momentum, rest, delta, rate, clip, scale, l2, l1):
    """Update the elements [first, last) of flat arrays."""
    data, diff, squares, steps = data[first:last], diff[first:last], squares[first:last], steps[first:last]
    for i in range(data.size):
        gradient = gradient_at(data[i], diff[i], clip, scale, l2, l1)
        square = momentum * squares[i] + rest * (gradient * gradient)
        step = gradient * math.sqrt((delta + steps[i]) / (delta + square))
        squares[i] = square
        steps[i] = momentum * steps[i] + rest * (step * step)
        diff[i] = rate * step
        data[i] -= rate * step


@kernel("float*, float*, float*, float*, float*, float*, int")
def adadelta_cuda(data, diff, squares, steps, step, numbers, count):
    """As `adadelta_cpu`, all elements; products and the sums that they go into are rounded once together."""
    if step[HALTED] == 0:
        momentum, rest, delta = numbers[0], numbers[1], numbers[2]
        clip, scale, l2, l1 = step[CLIP], numbers[4], numbers[5], numbers[6]
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            gradient = gradient_at(data[i], diff[i], clip, scale, l2, l1)
            square = momentum * squares[i] + rest * (gradient * gradient)
            squares[i] = square
            change = gradient * math.sqrt((delta + steps[i]) / (delta + square))
            steps[i] = momentum * steps[i] + rest * (change * change)
            change = numbers[3] * change  # read here: one register less over the root
            diff[i] = change
            data[i] -= change
