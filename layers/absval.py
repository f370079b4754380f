"""AbsVal: y = |x|; dx = dy sign(x), 0 at x = 0.

Any shape; works in place (x is kept aside then). Source: Caffe's AbsValLayer.
"""


from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class AbsVal(Neuron):
    """Absolute value."""

    needs_x = True

    def kernels(self):
        """Return the kernels."""
        return absval_cpu, absval_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return absval_cuda, absval_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        return [export.node("Abs", source)]


@cached
def absval_at(x):
    """Return one value of y."""
    return abs(x)


@cached
def absval_slope_at(x):
    """Return dy / dx of one value."""
    return (x > 0) - (x < 0)


@cached
def absval_cpu(first, last, x, y):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = absval_at(x[i])


@cached
def absval_backward_cpu(first, last, x, y, dy, dx):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * absval_slope_at(x[i])


@kernel("float*, float*, int")
def absval_cuda(x, y, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = absval_at(x[i])


@kernel("float*, float*, float*, float*, int")
def absval_backward_cuda(x, y, dy, dx, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * absval_slope_at(x[i])
