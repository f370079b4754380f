"""Nesterov's accelerated gradient, as in Caffe: the weights go where the momentum will have carried them.

    next    = momentum * history + rate * lr_mult * gradient
    data    = data - ((1 + momentum) * next - momentum * history)
    history = next

so `data` is ahead of the plain path by the next step's momentum. `gradient` is clipped, divided by iter_size and decayed
(see `Solver.apply_update`). float32, each operation rounded once. Source: Caffe's NesterovSolver; Sutskever et al. 2013.
"""

from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from solvers.on_card import CLIP, HALTED
from solvers.sgd import gradient_at, gradient_plain
from solvers.solver import Solver


class NesterovSolver(Solver):
    """`type: "Nesterov"`: one history a parameter."""

    histories = 1

    def rule(self):
        """Return the kernels."""
        return nesterov_cpu, nesterov_cuda

    def numbers(self, rate):
        """Return momentum, 1 more than it, and rate."""
        momentum = self.net.dtype.type(self.param.momentum)
        return momentum, 1 + momentum, rate


def nesterov_plain(data, diff, history, momentum, ahead, rate, clip, scale, l2, l1):
    """The same in NumPy, which `nesterov_cpu` must equal bit for bit; `ahead` is 1 + momentum."""
    after = momentum * history + rate * gradient_plain(data, diff, clip, scale, l2, l1)
    diff[...] = ahead * after - momentum * history
    history[...] = after
    data -= diff


@cached
def nesterov_cpu(first, last, data, diff, history, momentum, ahead, rate, clip, scale, l2, l1):
    """Update the elements [first, last) of flat arrays."""
    data, diff, history = data[first:last], diff[first:last], history[first:last]
    for i in range(data.size):
        after = momentum * history[i] + rate * gradient_at(data[i], diff[i], clip, scale, l2, l1)
        step = ahead * after - momentum * history[i]
        history[i] = after
        diff[i] = step
        data[i] -= step


@kernel("float*, float*, float*, float*, float*, int")
def nesterov_cuda(data, diff, history, step, numbers, count):
    """As `nesterov_cpu`, all elements; products and the sums that they go into are rounded once together."""
    if step[HALTED] == 0:
        momentum, ahead, rate = numbers[0], numbers[1], numbers[2]
        clip, scale, l2, l1 = step[CLIP], numbers[3], numbers[4], numbers[5]
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            after = momentum * history[i] + rate * gradient_at(data[i], diff[i], clip, scale, l2, l1)
            change = ahead * after - momentum * history[i]
            history[i] = after
            diff[i] = change
            data[i] -= change
