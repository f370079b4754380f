"""Input: tops that are filled from outside.

`shape` once for all tops, once for each, or not at all (the tops keep the shape they are given). A shape given later
with `blob.reshape` stays. Source: Caffe's InputLayer.
"""

from layers.core.layer import Layer


class Input(Layer):
    """Where values come in."""

    exact_bottoms = 0
    min_tops = 1

    def check(self):
        """Refuse a number of shapes that does not go with the tops."""
        shapes, tops = len(self.param.input_param.shape), len(self.param.top)
        if shapes > 1 and shapes != tops:
            self.fail(f"shape is given {shapes} times for {tops} tops; once for all, once for each, or never")

    def top_shapes(self, bottom_shapes):
        """Return the shapes of the prototxt."""
        shapes = [tuple(shape.dim) for shape in self.param.input_param.shape]
        if not shapes:
            self.fail("has no shape; give input_param { shape { dim: ... } }")
        return shapes * max(1, len(self.param.top)) if len(shapes) == 1 else shapes

    def setup(self, bottom, top):
        """Give the tops the shapes of the prototxt, if any."""
        super().setup(bottom, top)
        if self.param.input_param.shape:
            super().reshape(bottom, top)

    def reshape(self, bottom, top):
        """Leave the tops as they are."""

    def forward(self, bottom, top):
        """Leave the tops as they are."""

    def backward(self, top, propagate_down, bottom):
        """Do nothing."""
