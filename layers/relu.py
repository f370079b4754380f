"""ReLU: y = x for x > 0, negative_slope * x otherwise; dx = dy or negative_slope * dy.

Any shape. Works in place: backward only asks for the sign of x, which y has too (negative_slope >= 0). The gradient at
x = 0 is negative_slope * dy. NaN stays NaN, and gets no gradient. Source: Caffe's ReLULayer.
"""


from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layout import together
from layers.core.neuron import Neuron


class ReLU(Neuron):
    """Rectified linear unit."""

    keeps_layout = True

    def setup(self, bottom, top):
        """Take the slope."""
        super().setup(bottom, top)
        self.slope = self.dtype.type(self.param.relu_param.negative_slope)
        self.rectifies = self.slope == 0

    def reshape(self, bottom, top):
        """Give the top the bottom's shape."""
        if top[0] is not bottom[0]:
            top[0].reshape(bottom[0].shape)

    def backward_in_blocks(self):
        """Each value by itself."""
        return True

    def forward(self, bottom, top):
        """Rectify."""
        (x,), y = together([(bottom[0], False)], (top[0], False))
        parallel.run(relu_cpu, x.size, x, y, self.slope, self.dtype.type(0))

    def backward(self, top, propagate_down, bottom):
        """Pass the gradient where x > 0."""
        if propagate_down[0]:
            (x, dy), dx = together([(bottom[0], False), (top[0], True)], (bottom[0], True))
            parallel.run(relu_backward_cpu, dx.size, x, dy, dx, top[0] is bottom[0], self.slope, self.dtype.type(0),
                         self.dtype.type(1))

    def forward_cuda(self, bottom, top):
        """Rectify."""
        x, y = bottom[0].on(self.card), top[0].write_on(self.card)
        self.card.run(relu_cuda, top[0].count, x, y, self.slope, 0)

    def backward_cuda(self, top, propagate_down, bottom):
        """Pass the gradient where x > 0."""
        if propagate_down[0]:
            x, dy = bottom[0].on(self.card), top[0].on(self.card, diff=True)
            dx = bottom[0].write_on(self.card, diff=True)
            self.card.run(relu_backward_cuda, bottom[0].count, x, dy, dx, self.slope, 0, 1)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        slope = param.relu_param.negative_slope
        return [export.node("LeakyRelu", source, alpha=slope) if slope else export.node("Relu", source)]


@cached
def relu_at(x, slope, zero):
    """Return one value of y; + zero turns the -0 of slope 0 into 0."""
    return x if x > zero else x * slope + zero


@cached
def relu_slope_at(x, slope, zero, one):
    """Return dy / dx of one value; NaN is neither above nor below zero."""
    return one if x > zero else slope if x <= zero else zero


@cached
def relu_cpu(first, last, x, y, slope, zero):
    """Elements [first, last) of forward; y may be x."""
    x, y = x[first:last], y[first:last]
    if x.ctypes.data == y.ctypes.data:  # with two names for one array the compiler would make no vectors
        for i in range(x.size):
            x[i] = relu_at(x[i], slope, zero)
    else:
        for i in range(x.size):
            y[i] = relu_at(x[i], slope, zero)


@cached
def relu_backward_cpu(first, last, x, dy, dx, in_place, slope, zero, one):
    """Elements [first, last) of backward; `in_place` says that dx is dy."""
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    if in_place:  # as above
        for i in range(x.size):
            dx[i] = dx[i] * relu_slope_at(x[i], slope, zero, one)
    else:
        for i in range(x.size):
            dx[i] = dy[i] * relu_slope_at(x[i], slope, zero, one)


@kernel("float*, float*, float, float, int")
def relu_cuda(x, y, slope, zero, count):
    """All elements of forward."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = relu_at(x[i], slope, zero)


@kernel("float*, float*, float*, float, float, float, int")
def relu_backward_cuda(x, dy, dx, slope, zero, one, count):
    """All elements of backward; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        dx[i] = dy[i] * relu_slope_at(x[i], slope, zero, one)
