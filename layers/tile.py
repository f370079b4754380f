"""Tile: the bottom repeated `tiles` times along `axis` (default 1); gradients of the copies add up, in float64.

Any shape. Source: Caffe's TileLayer.
"""

import math

import numpy as np

from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer


class Tile(Layer):
    """Repeat along an axis."""

    exact_bottoms = exact_tops = 1

    def check(self):
        """Refuse no tiles."""
        if self.param.tile_param.tiles < 1:
            self.fail("tiles is missing; give the number of copies, at least 1")

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape, longer along the axis."""
        shape = tuple(bottom_shapes[0])
        axis = self.canonical_axis(self.param.tile_param.axis, len(shape))
        return [shape[:axis] + (shape[axis] * self.param.tile_param.tiles,) + shape[axis + 1:]]

    def _sizes(self, shape):
        axis = self.canonical_axis(self.param.tile_param.axis, len(shape))
        return math.prod(shape[:axis]), math.prod(shape[axis:])

    def forward(self, bottom, top):
        """Copy."""
        outer, inner = self._sizes(bottom[0].shape)
        top[0].data.reshape(outer, -1, inner)[...] = bottom[0].data.reshape(outer, 1, inner)

    def backward(self, top, propagate_down, bottom):
        """Add up."""
        if propagate_down[0]:
            outer, inner = self._sizes(bottom[0].shape)
            diff = top[0].diff.reshape(outer, self.param.tile_param.tiles, inner)
            bottom[0].diff.reshape(outer, inner)[...] = diff.sum(1, dtype=np.float64)

    def forward_cuda(self, bottom, top):
        """Copy."""
        x, y = bottom[0].on(self.card), top[0].write_on(self.card)
        self.card.run(tile_cuda, top[0].count, x, y, self.param.tile_param.tiles, self._sizes(bottom[0].shape)[1])

    def backward_cuda(self, top, propagate_down, bottom):
        """Add up."""
        if propagate_down[0]:
            dy, dx = top[0].on(self.card, diff=True), bottom[0].write_on(self.card, diff=True)
            self.card.run(tile_backward_cuda, bottom[0].count, dy, dx, self.param.tile_param.tiles,
                          self._sizes(bottom[0].shape)[1])

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        repeats = [1] * len(export.bottoms[0])
        repeats[export.axis(param.tile_param.axis)] = param.tile_param.tiles
        return [export.node("Tile", source, export.constant(repeats))]


@kernel("float*, float*, int, int, int")
def tile_cuda(x, y, tiles, inner, count):
    """All elements of the top."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        y[i] = x[over(row, tiles) * inner + i - row * inner]


@kernel("float*, float*, int, int, int")
def tile_backward_cuda(dy, dx, tiles, inner, count):
    """All elements of the bottom's gradient, the copies in order."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        total = 0.0
        for tile in range(tiles):
            total += dy[(row * (tiles - 1) + tile) * inner + i]
        dx[i] = total
