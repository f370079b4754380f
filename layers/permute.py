"""Permute: the axes in another order: axis i of the top is axis order[i] of the bottom.

Any number of axes; those that `order` leaves out follow in their order. `order { 0 2 3 1 }` brings the channels of an image
behind its pixels, as SSD does before it flattens its predictions. The gradient goes the other way. Source: SSD's PermuteLayer.
"""

import math

import numpy as np

from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer

MOST = 5  # axes that the kernel for cards knows, when axes that stay side by side were made one


class Permute(Layer):
    """Reorder axes."""

    exact_bottoms = exact_tops = 1

    def check(self):
        """Refuse an axis that is named twice."""
        order = list(self.param.permute_param.order)
        if len(set(order)) < len(order):
            self.fail(f"order is {order}; each axis can stand in it only once")

    def order(self, num_axes):
        """Return where each axis of the top comes from."""
        order = list(self.param.permute_param.order)
        if order and max(order) >= num_axes:
            self.fail(f"order is {order}, and {self.called(0)} has only axes 0 to {num_axes - 1}")
        return order + [axis for axis in range(num_axes) if axis not in order]

    def top_shapes(self, bottom_shapes):
        """Return the shape in the new order."""
        shape = tuple(bottom_shapes[0])
        return [tuple(shape[axis] for axis in self.order(len(shape)))]

    def forward(self, bottom, top):
        """Copy."""
        np.copyto(top[0].data, bottom[0].peek().transpose(self.order(bottom[0].num_axes)))

    def backward(self, top, propagate_down, bottom):
        """Copy back."""
        if propagate_down[0]:
            np.copyto(bottom[0].diff, top[0].peek(diff=True).transpose(np.argsort(self.order(bottom[0].num_axes))))

    def has_cuda(self):
        """Where at most `MOST` axes are left when those that stay side by side are one, whatever the bottom's shape."""
        order = list(self.param.permute_param.order)
        parts = len(order) - sum(after == before + 1 for before, after in zip(order, order[1:]))
        # The axes that are left out stay side by side if all before them are named; else the named ones may stand between them.
        return parts + (1 if set(order) == set(range(len(order))) else parts + 1) <= MOST

    def forward_cuda(self, bottom, top):
        """Copy."""
        self._move(bottom[0].shape, self.order(bottom[0].num_axes), bottom[0].on(self.card), top[0].write_on(self.card))

    def backward_cuda(self, top, propagate_down, bottom):
        """Copy back."""
        if propagate_down[0]:
            back = np.argsort(self.order(bottom[0].num_axes)).tolist()
            self._move(top[0].shape, back, top[0].on(self.card, diff=True), bottom[0].write_on(self.card, diff=True))

    def _move(self, shape, order, x, y):
        lengths, steps = laid_out(shape, order)
        self.card.run(permute_cuda, math.prod(shape), x, y, *lengths[1:], *steps)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        order = list(param.permute_param.order)
        rest = [axis for axis in range(len(export.bottoms[0])) if axis not in order]
        return [export.node("Transpose", source, perm=order + rest)]


def laid_out(shape, order):
    """Return (lengths, steps) of the target's axes, `MOST` each: how far apart neighbours along them lie in the source.

    Axes that stay side by side become one; missing ones have length 1 and come first.
    """
    strides = [math.prod(shape[axis + 1:]) for axis in range(len(shape))]
    lengths, steps, before = [], [], None
    for axis in order:
        if before is not None and axis == before + 1:
            lengths[-1] *= shape[axis]
            steps[-1] = strides[axis]
        else:
            lengths.append(shape[axis])
            steps.append(strides[axis])
        before = axis
    missing = MOST - len(lengths)
    return [1] * missing + lengths, [0] * missing + steps


@kernel("float*, float*, int, int, int, int, int, int, int, int, int, int")
def permute_cuda(x, y, second, third, fourth, fifth, first_step, second_step, third_step, fourth_step, fifth_step, count):
    """All elements of the target, whose last four axes have these lengths; each axis has its step in the source."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        rows = over(i, fifth)
        planes = over(rows, fourth)
        cubes = over(planes, third)
        outer = over(cubes, second)
        y[i] = x[outer * first_step + (cubes - outer * second) * second_step + (planes - cubes * third) * third_step
                 + (rows - planes * fourth) * fourth_step + (i - rows * fifth) * fifth_step]
