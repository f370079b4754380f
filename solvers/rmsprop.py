"""RMSProp, as in Caffe: each value's rate is divided by the root of a running mean of its squared gradients.

    history = rms_decay * history + (1 - rms_decay) * gradient^2
    data    = data - rate * lr_mult * gradient / (sqrt(history) + delta)

`gradient` is clipped, divided by iter_size and decayed (see `Solver.apply_update`). float32, each operation rounded
once. There is no momentum: one is refused, and so is an rms_decay that is not from 0 to below 1. Source: Caffe's
RMSPropSolver; Tieleman and Hinton's lecture of 2012.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from solvers import fields
from solvers.on_card import CLIP, HALTED
from solvers.sgd import gradient_at, gradient_plain
from solvers.solver import Solver


class RMSPropSolver(Solver):
    """`type: "RMSProp"`: one history a parameter, of squares."""

    histories = 1

    def _check(self):
        super()._check()
        fields.refuse_momentum(self, "RMSProp")
        fields.need_share(self, "rms_decay", below=True)
        fields.need_delta(self)

    def rule(self):
        """Return the kernels."""
        return rmsprop_cpu, rmsprop_cuda

    def numbers(self, rate):
        """Return rms_decay, what it leaves of 1, delta and rate."""
        decay = self.net.dtype.type(self.param.rms_decay)
        return decay, 1 - decay, self.param.delta, rate


def rmsprop_plain(data, diff, history, decay, rest, delta, rate, clip, scale, l2, l1):
    """The same in NumPy, which `rmsprop_cpu` must equal bit for bit; `rest` is 1 - decay."""
    gradient = gradient_plain(data, diff, clip, scale, l2, l1)
    history[...] = decay * history + rest * (gradient * gradient)
    diff[...] = rate * (gradient / (np.sqrt(history) + delta))
    data -= diff


@cached(error_model="numpy")  # a delta of 0 gives NaN where there is no gradient, as in Caffe
def rmsprop_cpu(first, last, data, diff, history, decay, rest, delta, rate, clip, scale, l2, l1):
    """Update the elements [first, last) of flat arrays."""
    data, diff, history = data[first:last], diff[first:last], history[first:last]
    for i in range(data.size):
        gradient = gradient_at(data[i], diff[i], clip, scale, l2, l1)
        squares = decay * history[i] + rest * (gradient * gradient)
        step = rate * (gradient / (math.sqrt(squares) + delta))
        history[i] = squares
        diff[i] = step
        data[i] -= step


@kernel("float*, float*, float*, float*, float*, int")
def rmsprop_cuda(data, diff, history, step, numbers, count):
    """As `rmsprop_cpu`, all elements; products and the sums that they go into are rounded once together."""
    if step[HALTED] == 0:
        decay, rest, delta, rate = numbers[0], numbers[1], numbers[2], numbers[3]
        clip, scale, l2, l1 = step[CLIP], numbers[4], numbers[5], numbers[6]
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            gradient = gradient_at(data[i], diff[i], clip, scale, l2, l1)
            squares = decay * history[i] + rest * (gradient * gradient)
            change = rate * (gradient / (math.sqrt(squares) + delta))
            history[i] = squares
            diff[i] = change
            data[i] -= change
