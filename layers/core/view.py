"""View: what Flatten and Reshape have in common: a top that looks at the bottom's memory under another shape."""

from layers.core.layer import Layer


class View(Layer):
    """One bottom, one top of another shape and as many values; values and gradient are shared, nothing is computed."""

    exact_bottoms = exact_tops = 1

    def reshape(self, bottom, top):
        """Let the top look at the bottom's memory."""
        super().reshape(bottom, top)
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])

    def forward(self, bottom, top):
        """Do nothing: the values are shared."""

    def backward(self, top, propagate_down, bottom):
        """Do nothing: the gradient is shared."""

    forward_cuda, backward_cuda = forward, backward
