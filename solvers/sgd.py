"""Stochastic gradient descent with momentum, as in Caffe: the rate is inside the history.

    history = momentum * history + rate * lr_mult * gradient
    data    = data - history

so a change of the rate acts on new gradients only. `gradient` is clipped, divided by iter_size and decayed, in this
order (see `Solver.apply_update`). float32, each operation rounded once, in the order written above.
"""

import numba
import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from solvers.on_card import CLIP, HALTED
from solvers.solver import Solver


class SGDSolver(Solver):
    """`type: "SGD"`: momentum, one history a parameter."""

    histories = 1

    def rule(self):
        """Return the kernels."""
        return sgd_cpu, sgd_cuda

    def numbers(self, rate):
        """Return momentum and rate."""
        return self.param.momentum, rate

    def rests(self, number, rate):
        """Whether there is nothing to add to a history that is zero: the weights stay, and no memory is taken."""
        return rate == 0 and not self.has_history(number)


def sgd_plain(data, diff, history, momentum, rate, clip, scale, l2, l1):
    """The same in NumPy, which `sgd_cpu` must equal bit for bit."""
    history[...] = momentum * history + rate * gradient_plain(data, diff, clip, scale, l2, l1)
    diff[...] = history
    data -= history


def gradient_plain(data, diff, clip, scale, l2, l1):
    """Return the gradients in NumPy, which `gradient_at` must equal bit for bit."""
    gradient = diff * clip * scale
    if l2:
        gradient = gradient + l2 * data
    if l1:
        gradient = gradient + l1 * np.sign(data)
    return gradient


@numba.njit(inline="always")
def gradient_at(data, diff, clip, scale, l2, l1):
    """Return one element's gradient, ready for an update rule (all solvers' kernels begin with it)."""
    gradient = diff * clip * scale
    if l2 != 0:
        gradient += l2 * data
    if l1 != 0:
        # sign(data) * l1, in a form that the compiler turns into vector instructions.
        gradient += l1 if data > 0 else (-l1 if data < 0 else l1 - l1)
    return gradient


@cached
def sgd_cpu(first, last, data, diff, history, momentum, rate, clip, scale, l2, l1):
    """Update the elements [first, last) of flat arrays: one pass, three arrays read and written.

    Loops over slices from 0 on become vector code: 20 times as fast as from `first`, which numba guards against negative ones.
    """
    data, diff, history = data[first:last], diff[first:last], history[first:last]
    for i in range(data.size):
        step = momentum * history[i] + rate * gradient_at(data[i], diff[i], clip, scale, l2, l1)
        history[i] = step
        diff[i] = step
        data[i] -= step


@kernel("float*, float*, float*, float*, float*, int")
def sgd_cuda(data, diff, history, step, numbers, count):
    """As `sgd_cpu`, all elements; products and the sums that they go into are rounded once together."""
    if step[HALTED] == 0:
        momentum, rate, clip, scale, l2, l1 = numbers[0], numbers[1], step[CLIP], numbers[2], numbers[3], numbers[4]
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            change = momentum * history[i] + rate * gradient_at(data[i], diff[i], clip, scale, l2, l1)
            history[i] = change
            diff[i] = change
            data[i] -= change
