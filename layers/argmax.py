"""ArgMax: the numbers of the `top_k` (default 1) greatest values, or the values themselves.

With `axis`: along it, top shape as the bottom's with top_k there; holds values with `out_max_val`, else numbers.
Without: over all axes but the first; top (N, 1, top_k) numbers, or (N, 2, top_k) numbers and values with
`out_max_val`, followed by axes of length 1 up to the bottom's number of axes. Of equal values the later one comes
first, as in Caffe. No gradient. Source: Caffe's ArgMaxLayer.
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer


class ArgMax(Layer):
    """Where the greatest values are."""

    exact_bottoms = exact_tops = 1

    def allow_force_backward(self, bottom):
        """There is no gradient."""
        return False

    def _lay_out(self, shape):
        """Return (outer, length, inner) of the values that are compared."""
        param = self.param.argmax_param
        if param.HasField("axis"):
            axis = self.canonical_axis(param.axis, len(shape))
            sizes = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1:])
        else:
            sizes = shape[0] if shape else 1, math.prod(shape[1:]), 1
        if not 1 <= param.top_k <= sizes[1]:
            self.fail(f"top_k {param.top_k} must lie within 1 and the {sizes[1]} values that are compared")
        return sizes

    def top_shapes(self, bottom_shapes):
        """Return the shape of the result."""
        param, shape = self.param.argmax_param, tuple(bottom_shapes[0])
        self._lay_out(shape)
        if param.HasField("axis"):
            axis = self.canonical_axis(param.axis, len(shape))
            return [shape[:axis] + (param.top_k,) + shape[axis + 1:]]
        return [(shape[0] if shape else 1, 2 if param.out_max_val else 1, param.top_k) + (1,) * max(0, len(shape) - 3)]

    def forward(self, bottom, top):
        """Rank."""
        param = self.param.argmax_param
        outer, length, inner = sizes = self._lay_out(bottom[0].shape)
        x = bottom[0].data.reshape(sizes)
        # From the back, so that of equal values the later one is found first.
        back = x[:, ::-1]
        if param.top_k == 1:
            ranks = back.argmax(1)[:, None]
        else:
            ranks = np.argsort(-back, axis=1, kind="stable")[:, :param.top_k]
        numbers = length - 1 - ranks
        y = top[0].data
        if param.HasField("axis"):
            chosen = np.take_along_axis(x, numbers, 1) if param.out_max_val else numbers
            y.reshape(outer, param.top_k, inner)[...] = chosen
        else:
            y = y.reshape(outer, -1, param.top_k)
            y[:, 0] = numbers[:, :, 0]
            if param.out_max_val:
                y[:, 1] = np.take_along_axis(x, numbers, 1)[:, :, 0]

    def backward(self, top, propagate_down, bottom):
        """Fail where a gradient is asked for."""
        if propagate_down[0]:
            self.fail("has no gradient; set propagate_down: false for it")

    def forward_cuda(self, bottom, top):
        """Rank."""
        param = self.param.argmax_param
        outer, length, inner = self._lay_out(bottom[0].shape)
        planes = 2 if param.out_max_val and not param.HasField("axis") else 1
        self.card.run(argmax_cuda, outer * inner, bottom[0].on(self.card), top[0].write_on(self.card), length, inner,
                      param.top_k, param.out_max_val and param.HasField("axis"), planes)

    backward_cuda = backward

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.argmax_param
        if own.top_k != 1 or own.out_max_val:
            export.fail("gives out more than the place of the largest value; only that has an equal in ONNX")
        flat = not own.HasField("axis")
        value = export.node("Flatten", source, axis=1) if flat else source
        # Of equal values Caffe takes the last.
        place = export.node("ArgMax", value, axis=1 if flat else export.axis(own.axis), select_last_index=1)
        place = export.node("Cast", place, to=export.onnx.TensorProto.FLOAT)
        return [export.node("Reshape", place, export.constant([-1, *export.tops[0][1:]])) if flat else place]


@cached
def behind_at(a, i, b, j, alone):
    """Whether value a with number i comes behind value b with number j: of equal ones the later comes first.

    NaN comes last, but first where only one is asked for (`alone`), as numpy has it.
    """
    if a != a or b != b:
        if a != a and b != b:
            return i < j
        return (a != a) != alone
    return a < b or a == b and i < j


@kernel("float*, float*, int, int, int, bool, int, int")
def argmax_cuda(x, y, length, inner, top_k, values, planes, count):
    """One position a thread: `top_k` times the first of those behind the one before; numbers or `values`, or 2 planes of both."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out = over(i, inner)
        first = out * (length - 1) * inner + i
        before, last = x[first], np.int64(-1)
        for rank in range(top_k):
            best, number = x[first], np.int64(-1)
            for c in range(length):
                value = x[first + c * inner]
                left = last < 0 or behind_at(value, c, before, last, top_k == 1)
                if left and (number < 0 or behind_at(best, number, value, c, top_k == 1)):
                    best, number = value, np.int64(c)
            before, last = best, number
            place = (out * planes * top_k + rank) * inner + i - out * inner
            y[place] = best if values else np.float32(number)
            if planes == 2:
                y[place + top_k] = best
