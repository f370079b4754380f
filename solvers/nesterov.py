"""Nesterov's accelerated gradient, as in Caffe: the weights go where the momentum will have carried them.

    next    = momentum * history + rate * lr_mult * gradient
    data    = data - ((1 + momentum) * next - momentum * history)
    history = next

so `data` is ahead of the plain path by the next step's momentum. `gradient` is clipped, divided by iter_size and decayed
(see `Solver.apply_update`). float32, each operation rounded once. Source: Caffe's NesterovSolver; Sutskever et al. 2013.
"""

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from solvers import rule
from solvers.sgd import gradient_at, gradient_plain
from solvers.solver import Solver


class NesterovSolver(Solver):
    """`type: "Nesterov"`: one history a parameter."""

    histories = 1

    def update(self, number, blob, gradient, rate):
        """Change one parameter and its history; afterwards `blob.diff` is what was subtracted, as in Caffe."""
        if not rule.rests(self, number, blob):
            rule.run(self, nesterov_cpu, nesterov_cuda, number, blob, gradient, (self.param.momentum, rate))


def nesterov_plain(data, diff, history, momentum, rate, clip, scale, l2, l1):
    """The same in NumPy, which `nesterov_cpu` must equal bit for bit."""
    after = momentum * history + rate * gradient_plain(data, diff, clip, scale, l2, l1)
    diff[...] = (np.ones_like(momentum) + momentum) * after - momentum * history
    history[...] = after
    data -= diff


@cached
def nesterov_cpu(first, last, data, diff, history, momentum, rate, clip, scale, l2, l1):
    """Update the elements [first, last) of flat arrays."""
    data, diff, history = data[first:last], diff[first:last], history[first:last]
    ahead = momentum + type(momentum)(1)
    for i in range(data.size):
        after = momentum * history[i] + rate * gradient_at(data[i], diff[i], clip, scale, l2, l1)
        step = ahead * after - momentum * history[i]
        history[i] = after
        diff[i] = step
        data[i] -= step


@kernel("float*, float*, float*, float, float, float, float, float, float, int")
def nesterov_cuda(data, diff, history, momentum, rate, clip, scale, l2, l1, count):
    """As `nesterov_cpu`, all elements; products and the sums that they go into are rounded once together."""
    ahead = momentum + np.float32(1)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        after = momentum * history[i] + rate * gradient_at(data[i], diff[i], clip, scale, l2, l1)
        step = ahead * after - momentum * history[i]
        history[i] = after
        diff[i] = step
        data[i] -= step
