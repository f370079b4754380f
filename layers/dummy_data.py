"""DummyData: tops filled by fillers.

`shape` (or the older num, channels, height, width) once for all tops or once for each; `data_filler` never (zeros),
once, or once for each. A top with a constant filler is filled once, before the first pass, and what is written into it
later stays; others are filled anew in every forward pass, from the net's random stream. Source: Caffe's
DummyDataLayer.
"""

from layers.core import filler
from layers.core.layer import Layer
from netspec import caffe_pb2

LEGACY = ("num", "channels", "height", "width")


class DummyData(Layer):
    """Made-up data."""

    exact_bottoms = 0
    min_tops = 1

    def check(self):
        """Refuse numbers of shapes and fillers that do not go with the tops."""
        param, tops = self.param.dummy_data_param, max(1, len(self.param.top))
        counts = {"data_filler": len(param.data_filler)}
        if any(len(getattr(param, name)) for name in LEGACY):
            if param.shape:
                self.fail("both 'shape' and num, channels, height, width are given; keep 'shape'")
            counts |= {name: len(getattr(param, name)) for name in LEGACY}
        else:
            counts["shape"] = len(param.shape)
        for name, count in counts.items():
            if count not in (1, tops) and not (name == "data_filler" and count == 0):
                self.fail(f"{name} is given {count} times for {tops} tops; once for all or once for each")

    def top_shapes(self, bottom_shapes):
        """Return the shapes of the prototxt."""
        param, tops = self.param.dummy_data_param, max(1, len(self.param.top))
        if param.shape:
            shapes = [tuple(shape.dim) for shape in param.shape]
        else:
            columns = [list(getattr(param, name)) for name in LEGACY]
            shapes = list(zip(*[column * tops if len(column) == 1 else column for column in columns]))
        return shapes * tops if len(shapes) == 1 else shapes

    def setup(self, bottom, top):
        """Shape the tops and fill those that stay as they are."""
        super().setup(bottom, top)
        super().reshape(bottom, top)
        fillers = list(self.param.dummy_data_param.data_filler) or [caffe_pb2.FillerParameter()]
        self.fillers = fillers * len(top) if len(fillers) == 1 else fillers
        for blob, how in zip(top, self.fillers):
            if how.type == "constant":
                filler.fill(blob, how, None, self.fail)

    def reshape(self, bottom, top):
        """Leave the shapes as they are."""

    def forward(self, bottom, top):
        """Draw the tops whose filler is random."""
        for blob, how in zip(top, self.fillers):
            if how.type != "constant":
                filler.fill(blob, how, self.rng.generator(), self.fail)

    def backward(self, top, propagate_down, bottom):
        """Do nothing."""

    def state(self):
        """Return which random numbers come next."""
        return self.rng.state()

    def set_state(self, state):
        """Go on where `state` was taken."""
        self.rng.set_state(state)
