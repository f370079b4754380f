"""Parameter: a top that is a learned parameter of the shape `shape`, zeros at first.

The top looks at the parameter's values; its gradient is added to the parameter's, so that gradients accumulate over images as
those of other layers do (in Caffe both share their memory and the last image's gradient is what is left). Source: Caffe's
ParameterLayer.
"""

from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer


class Parameter(Layer):
    """Learned values for other layers to read."""

    exact_bottoms = 0
    exact_tops = 1

    def top_shapes(self, bottom_shapes):
        """Return the shape of the prototxt."""
        return [tuple(self.param.parameter_param.shape.dim)]

    def param_shapes(self, bottom_shapes):
        """Return the same."""
        return self.top_shapes(bottom_shapes)

    def param_fillers(self):
        """Return None: Caffe knows no filler here."""
        return [None]

    def reshape(self, bottom, top):
        """Let the top look at the parameter."""
        super().reshape(bottom, top)
        top[0].share_data(self.blobs[0])

    def forward(self, bottom, top):
        """Let the top look at the parameter: somebody may have given it other memory."""
        top[0].share_data(self.blobs[0])

    def backward(self, top, propagate_down, bottom):
        """Add the gradient."""
        if self.param_propagate_down[0]:
            self.blobs[0].diff += top[0].diff

    forward_cuda = forward

    def backward_cuda(self, top, propagate_down, bottom):
        """Add the gradient."""
        if self.param_propagate_down[0]:
            self.card.run(parameter_backward_cuda, top[0].count, top[0].on(self.card, diff=True),
                          self.blobs[0].change_on(self.card, diff=True))


@kernel("float*, float*, int")
def parameter_backward_cuda(slopes, target, count):
    """All values: target += slopes."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        target[i] += slopes[i]
