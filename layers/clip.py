"""Clip: y = x held between `min` and `max`; dx = dy where min <= x <= max, 0 elsewhere.

Any shape; works in place (x is kept aside then). NaN stays NaN. Source: Caffe's ClipLayer.
"""


from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.neuron import Neuron


class Clip(Neuron):
    """Hold values within bounds."""

    needs_x = True

    def check(self):
        """Refuse missing or crossed bounds."""
        param = self.param.clip_param
        if not (param.HasField("min") and param.HasField("max")):
            self.fail("clip_param needs both 'min' and 'max'")
        if param.min > param.max:
            self.fail(f"min {param.min:g} is above max {param.max:g}")

    def arguments(self):
        """Return least, most."""
        param = self.param.clip_param
        return self.dtype.type(param.min), self.dtype.type(param.max)

    def kernels(self):
        """Return the kernels."""
        return clip_cpu, clip_backward_cpu

    def kernels_cuda(self):
        """Return the kernels for cards."""
        return clip_cuda, clip_backward_cuda

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.clip_param
        return [export.node("Clip", source, export.number(own.min), export.number(own.max))]


@cached
def clip_at(x, least, most):
    """Return one value of y."""
    return least if x < least else most if x > most else x


@cached
def clip_slope_at(x, least, most):
    """Return dy / dx of one value."""
    return x * 0 + 1 if least <= x <= most else x * 0


@cached
def clip_cpu(first, last, x, y, least, most):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = clip_at(x[i], least, most)


@cached
def clip_backward_cpu(first, last, x, y, dy, dx, least, most):
    """Elements [first, last) of backward; dx may be dy."""
    x, y, dy, dx = x[first:last], y[first:last], dy[first:last], dx[first:last]
    for i in range(y.size):
        dx[i] = dy[i] * clip_slope_at(x[i], least, most)


@kernel("float*, float*, float, float, int")
def clip_cuda(x, y, least, most, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = clip_at(x[i], least, most)


@kernel("float*, float*, float*, float*, float, float, int")
def clip_backward_cuda(x, y, dy, dx, least, most, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * clip_slope_at(x[i], least, most)
