"""ReLU6: y = min(x, 6) for x > 0, negative_slope * x otherwise; dx = dy for 0 < x < 6, negative_slope * dy below, else 0.

Any shape. Works in place: backward only asks where x lies, which y tells, too (negative_slope >= 0, default 0). At x = 0 the
gradient is negative_slope * dy, at x = 6 it is 0. NaN stays NaN, and gets no gradient. Source: the ReLU6 layer of Caffe's
forks for MobileNetV2.
"""

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layout import together
from layers.core.neuron import Neuron


class ReLU6(Neuron):
    """Rectified linear unit that ends at 6."""

    keeps_layout = True

    def check(self):
        """Refuse a slope that would make y's sign unlike x's."""
        if self.param.relu6_param.negative_slope < 0:
            self.fail(f"negative_slope is {self.param.relu6_param.negative_slope:g}; give 0 or more")

    def setup(self, bottom, top):
        """Take the slope."""
        super().setup(bottom, top)
        self.slope = self.dtype.type(self.param.relu6_param.negative_slope)

    def numbers(self):
        """Return what the kernels take: slope, 0, 6 and 1, in the blobs' precision."""
        return self.slope, self.dtype.type(0), self.dtype.type(6), self.dtype.type(1)

    def backward_in_blocks(self):
        """Each value by itself."""
        return True

    def forward(self, bottom, top):
        """Rectify."""
        (x,), y = together([(bottom[0], False)], (top[0], False))
        parallel.run(relu6_cpu, x.size, x, y, *self.numbers()[:3])

    def backward(self, top, propagate_down, bottom):
        """Pass the gradient where 0 < x < 6."""
        if propagate_down[0]:
            (x, dy), dx = together([(bottom[0], False), (top[0], True)], (bottom[0], True))
            parallel.run(relu6_backward_cpu, dx.size, x, dy, dx, *self.numbers())

    def forward_cuda(self, bottom, top):
        """Rectify."""
        x, y = bottom[0].on(self.card), top[0].write_on(self.card)
        self.card.run(relu6_cuda, top[0].count, x, y, *self.numbers()[:3])

    def backward_cuda(self, top, propagate_down, bottom):
        """Pass the gradient where 0 < x < 6."""
        if propagate_down[0]:
            x, dy = bottom[0].on(self.card), top[0].on(self.card, diff=True)
            dx = bottom[0].write_on(self.card, diff=True)
            self.card.run(relu6_backward_cuda, bottom[0].count, x, dy, dx, *self.numbers())

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        slope = param.relu6_param.negative_slope
        above = export.node("LeakyRelu", source, alpha=slope) if slope else export.node("Relu", source)
        return [export.node("Min", above, export.number(6))]


@cached
def relu6_at(x, slope, zero, six):
    """Return one value of y; + zero turns the -0 of slope 0 into 0."""
    return six if x > six else x if x > zero else x * slope + zero


@cached
def relu6_slope_at(x, slope, zero, six, one):
    """Return dy / dx of one value; NaN is neither above nor below zero."""
    return one if zero < x < six else slope if x <= zero else zero


@cached
def relu6_cpu(first, last, x, y, slope, zero, six):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    if x.ctypes.data == y.ctypes.data:  # with two names for one array the compiler would make no vectors
        for i in range(x.size):
            x[i] = relu6_at(x[i], slope, zero, six)
    else:
        for i in range(x.size):
            y[i] = relu6_at(x[i], slope, zero, six)


@cached
def relu6_backward_cpu(first, last, x, dy, dx, slope, zero, six, one):
    """Elements [first, last) of backward; dx may be dy."""
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    for i in range(x.size):
        dx[i] = dy[i] * relu6_slope_at(x[i], slope, zero, six, one)


@kernel("float*, float*, float, float, float, int")
def relu6_cuda(x, y, slope, zero, six, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = relu6_at(x[i], slope, zero, six)


@kernel("float*, float*, float*, float, float, float, float, int")
def relu6_backward_cuda(x, dy, dx, slope, zero, six, one, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * relu6_slope_at(x[i], slope, zero, six, one)
