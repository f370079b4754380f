"""Dropout: in TRAIN each value is kept with probability 1 - p and scaled by 1 / (1 - p), else set to 0; TEST copies.

Any shape; works in place. Whether element i is kept is a hash of the layer's key and i (`layers.core.rng`): the same
bits for any number of threads and on a card, and backward computes them again instead of keeping a mask. Caffe demands
0 < p < 1 in its debug build; p = 0 (keep everything) is met in real prototxts and accepted. Source: Caffe's DropoutLayer.
"""

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.small import Numbers
from layers.core.layout import together
from layers.core.neuron import Neuron
from layers.core.rng import bits_at
from netspec import caffe_pb2


class Dropout(Neuron):
    """Random zeros against overfitting (Srivastava et al. 2014)."""

    def check(self):
        """Refuse a ratio outside [0, 1)."""
        ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= ratio < 1:
            self.fail(f"dropout_ratio {ratio:g} is out of range; give a value above 0 and below 1")

    def setup(self, bottom, top):
        """Take the ratio."""
        super().setup(bottom, top)
        ratio = self.param.dropout_param.dropout_ratio
        self.active = self.phase == caffe_pb2.TRAIN and ratio > 0
        self.threshold = np.uint64(ratio * 2.0**64)
        self.scale = self.dtype.type(1 / (1 - ratio))
        self.drawn = np.uint64(0), np.uint64(0)  # what the last forward drew from
        self.drawn_on_card = None
        self.changes = self.active
        self.keeps_layout = not self.active  # which values are dropped goes by their places in NCHW

    def forward(self, bottom, top):
        """Drop and scale."""
        if self.active:
            self.drawn = self.rng.take(bottom[0].count)
            self._run(bottom[0].data, top[0].data)
        elif not top[0].shares_data(bottom[0]):
            (x,), y = together([(bottom[0], False)], (top[0], False))
            y[...] = x

    def backward(self, top, propagate_down, bottom):
        """Drop and scale the gradient in the same places."""
        if not propagate_down[0]:
            return
        if self.active:
            self._run(top[0].diff, bottom[0].diff)
        elif top[0] is not bottom[0]:
            (dy,), dx = together([(top[0], True)], (bottom[0], True))
            dx[...] = dy

    def backward_in_blocks(self):
        """Only to copy."""
        return not self.active

    def _run(self, source, target):
        parallel.run(dropout_cpu, source.size, source.reshape(-1), target.reshape(-1), self.scale, self.dtype.type(0),
                     self.threshold, *self.drawn)

    def variant(self):
        """Whether something is dropped."""
        return self.active

    def prepare_cuda(self, bottom, top):
        """Say what this forward draws from."""
        if self.active:
            self.drawn_on_card = self.drawn_on_card or Numbers(self.card, 2, np.uint64)
            self.drawn_on_card.write(self.rng.take(bottom[0].count))

    def forward_cuda(self, bottom, top):
        """Drop and scale."""
        self._run_on_card(bottom[0], top[0], False)

    def backward_cuda(self, top, propagate_down, bottom):
        """Drop and scale the gradient in the same places."""
        if propagate_down[0]:
            self._run_on_card(top[0], bottom[0], True)

    def _run_on_card(self, source, target, diff):
        if self.active:
            x, y = source.on(self.card, diff), target.write_on(self.card, diff)
            self.card.run(dropout_cuda, source.count, x, y, self.scale, 0, self.threshold, self.drawn_on_card.span)
        elif source.memory(diff) is not target.memory(diff):
            self.card.copy(target.write_on(self.card, diff), source.on(self.card, diff), source.count * 4)

    def state(self):
        """Return which random numbers come next."""
        return self.rng.state()

    def set_state(self, state):
        """Go on where `state` was taken."""
        self.rng.set_state(state)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`): in TEST the bottom."""
        return [source] * max(1, len(param.top))


@cached
def dropout_at(x, scale, zero, threshold, key, index):
    """Return one value: x * scale where the random bits reach the threshold, x * 0 elsewhere (so NaN stays NaN)."""
    return x * (scale if bits_at(key, index) >= threshold else zero)


@cached
def dropout_cpu(first, last, x, y, scale, zero, threshold, key, start):
    """Elements [first, last), of values or of gradients; y may be x."""
    x, y, start = x[first:last], y[first:last], start + np.uint64(first)
    for i in range(x.size):
        y[i] = dropout_at(x[i], scale, zero, threshold, key, start + np.uint64(i))


@kernel("float*, float*, float, float, ulong, ulong*, int")
def dropout_cuda(x, y, scale, zero, threshold, drawn, count):
    """All elements, of values or of gradients; y may be x; `drawn`: key and start."""
    key, start = drawn[0], drawn[1]
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = dropout_at(x[i], scale, zero, threshold, key, start + np.uint64(i))
