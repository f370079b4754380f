"""Bias: y = x + b, with b spread over some axes of x.

b has the shape of the `num_axes` axes of x from `axis` on (defaults 1 and 1; -1 is all axes from `axis` on, 0 one
value for everything). It is a parameter (0 by default) or a second bottom. dx = dy; db = sum of dy over the other
axes, in float64. Works in place. Source: Caffe's BiasLayer.
"""

import numpy as np

from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.spread import SpreadLayer


class Bias(SpreadLayer):
    """Add values, learned or given."""

    operand_name = "bias"

    def own_param(self):
        """Return bias_param."""
        return self.param.bias_param

    def param_shapes(self, bottom_shapes):
        """Return the shape of b, unless it is a bottom."""
        return [self.operand_shape(bottom_shapes)] if len(bottom_shapes) == 1 else []

    def param_fillers(self):
        """Return the filler of b."""
        return [self.param.bias_param.filler]

    def forward(self, bottom, top):
        """Add."""
        np.add(bottom[0].data.reshape(self.sizes), self.operand(bottom).data.reshape(-1, 1),
               out=top[0].data.reshape(self.sizes))

    def backward(self, top, propagate_down, bottom):
        """Add to b's gradient (write it, for a bottom), hand the top's on."""
        if self.wants_operand_gradient(propagate_down):
            self.give_operand_gradient(bottom, top[0].diff.reshape(self.sizes).sum((0, 2), dtype=np.float64))
        if propagate_down[0] and top[0] is not bottom[0]:
            bottom[0].diff[...] = top[0].diff

    def forward_cuda(self, bottom, top):
        """Add."""
        x, b = bottom[0].on(self.card), self.operand(bottom).on(self.card)
        self.card.run(bias_cuda, bottom[0].count, x, b, top[0].write_on(self.card), *self.sizes[1:])

    def backward_cuda(self, top, propagate_down, bottom):
        """Add to b's gradient (write it, for a bottom), hand the top's on."""
        dy = top[0].on(self.card, diff=True)
        if self.wants_operand_gradient(propagate_down):
            self.give_operand_gradient_on_card(bottom, sums.VALUES, dy, dy)
        if propagate_down[0] and top[0] is not bottom[0]:
            self.card.copy(bottom[0].write_on(self.card, diff=True), dy, bottom[0].count * 4)

    @staticmethod
    def onnx(export, param, source, term=None):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        shape = export.spread(param.bias_param)
        return [export.node("Add", source, export.node("Reshape", term, export.constant(shape)) if term
                            else export.parameter(0, *shape))]


@kernel("float*, float*, float*, int, int, int")
def bias_cuda(x, bias, y, length, inner, count):
    """All elements of forward; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        y[i] = x[i] + bias[row - over(row, length) * length]
