"""SPP: spatial pyramid pooling: 1, 4, 16, ... windows over an image of any size, as one vector of fixed length.

x (N, C, H, W) -> y (N, C (1 + 4 + ... + 4^(pyramid_height - 1))): level l pools 2^l x 2^l windows that lie side by side, each
level's values in the order channel, row, column, one level after the other. Windows are ceil(H / 2^l) x ceil(W / 2^l), and what
they reach beyond the image is padding, half of it (rounded up) before. `pool` is that of Pooling: MAX, AVE (padding counts up to
one pad) or STOCHASTIC (no padding: windows must fit). A level whose padding would be as large as its window, as for 5 rows in 4
windows, is refused, as in Caffe. With a pyramid of 1 level the top is (N, C, 1, 1).

A level is a Pooling of the catalogue, on the CPU and on cards. The gradient is the sum of the levels', in order. Source: Caffe's
SPPLayer (He et al. 2014).
"""

import math

from layers.core import catalogue
from layers.core.blob import Blob
from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer
from netspec import caffe_pb2


class SPP(Layer):
    """A pyramid of poolings; `levels` holds (Pooling, its bottom, its top), made anew for each size of the bottom."""

    exact_bottoms = exact_tops = 1

    def check(self):
        """Refuse no level."""
        if self.param.spp_param.pyramid_height < 1:
            self.fail("pyramid_height is missing or 0; give spp_param { pyramid_height: ... }, the number of levels")

    def _pooling(self, level, shape):
        """Return the LayerParameter of a level."""
        own, bins = self.param.spp_param, 2 ** level
        param = caffe_pb2.LayerParameter(name=f"{self.name} level {level}", type="Pooling", bottom=self.param.bottom[:1])
        pool = param.pooling_param
        pool.pool = caffe_pb2.PoolingParameter.PoolMethod.Value(caffe_pb2.SPPParameter.PoolMethod.Name(own.pool))
        for name, size in (("h", shape[2]), ("w", shape[3])):
            window = -(-size // bins)
            pad = (window * bins - size + 1) // 2
            what = f"level {level} pools {bins} x {bins} windows, but {self.called(0)} has {list(shape)}"
            if pad >= window:
                self.fail(f"{what}: windows of {window} would need a padding of {pad}; make the bottom larger or lower "
                          "pyramid_height")
            if pad and own.pool == own.STOCHASTIC:
                self.fail(f"{what}, which would have to be padded; STOCHASTIC knows no padding: use MAX or AVE")
            for key, value in (("kernel", window), ("stride", window), ("pad", pad)):
                setattr(pool, f"{key}_{name}", value)
        return param

    def top_shapes(self, bottom_shapes):
        """Return (N, values of all levels)."""
        shape = tuple(bottom_shapes[0])
        if len(shape) != 4 or not math.prod(shape[2:]):
            self.fail(f"pools blobs of 4 axes (num, channels, height, width), {self.called(0)} has {list(shape)}")
        levels = self.param.spp_param.pyramid_height
        for level in range(levels):
            self._pooling(level, shape)
        return [(*shape[:2], 1, 1) if levels == 1 else (shape[0], shape[1] * sum(4 ** level for level in range(levels)))]

    def setup(self, bottom, top):
        """Have no levels yet."""
        super().setup(bottom, top)
        self.levels, self._shape = [], None

    def reshape(self, bottom, top):
        """Shape the top, make the levels."""
        if bottom[0].shape != self._shape:
            self._shape, self._top_shape = None, self.top_shapes([bottom[0].shape])[0]
            kept = [layer.rng for layer, _, _ in self.levels]
            self.levels = []
            for level in range(self.param.spp_param.pyramid_height):
                rng = kept[level] if kept else self.rng.child(level)
                layer = catalogue.find("Pooling")(self._pooling(level, bottom[0].shape), self.phase, rng, self.dtype)
                layer.where = self.where
                below, above = (Blob(bottom[0].shape, f"{layer.name} {what}", self.dtype) for what in ("bottom", "top"))
                layer.setup([below], [above])
                self.levels.append((layer, below, above))
            self._shape = bottom[0].shape
        top[0].reshape(self._top_shape)
        for layer, below, above in self.levels:
            layer.card = self.card
            below.share_data(bottom[0])
            layer.reshape([below], [above])

    def _parts(self):
        """Yield (number, (Pooling, its bottom, its top), values of an image, place of the first in the top's row)."""
        start = 0
        for number, one in enumerate(self.levels):
            width = self._shape[1] * 4 ** number
            yield number, one, width, start
            start += width

    def forward(self, bottom, top):
        """Pool level by level."""
        rows = top[0].data.reshape(self._shape[0], -1)
        for _, (layer, below, above), width, start in self._parts():
            layer.forward([below], [above])
            rows[:, start:start + width] = above.data.reshape(len(rows), width)

    def backward(self, top, propagate_down, bottom):
        """Go back level by level, and add up."""
        if not propagate_down[0]:
            return
        rows, target = top[0].diff.reshape(self._shape[0], -1), bottom[0].diff.reshape(-1)
        for number, (layer, below, above), width, start in self._parts():
            above.diff.reshape(len(rows), width)[...] = rows[:, start:start + width]
            layer.backward([above], [True], [below])
            if number:
                parallel.run(add_cpu, target.size, below.diff.reshape(-1), target)
            else:
                target[...] = below.diff.reshape(-1)

    def kept_bytes(self):
        """Return the bytes of the levels' tops and gradients."""
        train = self.phase == caffe_pb2.TRAIN
        return sum((above.count * (1 + train) + below.count * train) * self.dtype.itemsize + layer.kept_bytes()
                   for layer, below, above in self.levels)

    def state(self):
        """Return what a level draws from, if it does."""
        states = [layer.state() for layer, _, _ in self.levels]
        return None if states[0] is None else states

    def set_state(self, state):
        """Take back what `state` returned."""
        for (layer, _, _), one in zip(self.levels, state, strict=True):
            layer.set_state(one)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the levels' tops and gradients, and what they keep."""
        return self.kept_bytes() + sum(layer.bytes_cuda()[0] for layer, _, _ in self.levels), 0

    def prepare_cuda(self, bottom, top):
        """Let the levels bring what they draw from."""
        for layer, below, above in self.levels:
            layer.prepare_cuda([below], [above])

    def forward_cuda(self, bottom, top):
        """Pool level by level."""
        row, target = math.prod(self._top_shape[1:]), top[0].write_on(self.card)
        for _, (layer, below, above), width, start in self._parts():
            layer.forward_cuda([below], [above])
            self.card.run(level_cuda, above.count, above.on(self.card), target, width, row, start, True)

    def backward_cuda(self, top, propagate_down, bottom):
        """Go back level by level, and add up."""
        if not propagate_down[0]:
            return
        row, slopes = math.prod(self._top_shape[1:]), top[0].on(self.card, diff=True)
        target = bottom[0].write_on(self.card, diff=True)
        for number, (layer, below, above), width, start in self._parts():
            self.card.run(level_cuda, above.count, above.write_on(self.card, diff=True), slopes, width, row, start, False)
            layer.backward_cuda([above], [True], [below])
            if number:
                self.card.run(add_level_cuda, below.count, below.on(self.card, diff=True), target)
            else:
                self.card.copy(target, below.on(self.card, diff=True), 4 * below.count)


@cached
def add_cpu(first, last, x, total):
    """total += x for elements [first, last)."""
    part, result = x[first:last], total[first:last]
    for i in range(part.size):
        result[i] += part[i]


@kernel("float*, float*, int, int, int, bool, int")
def level_cuda(part, whole, width, row, start, joins, count):
    """All values of a level, to or from their place in rows of the whole."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        image = over(i, width)
        place = image * row + start + i - image * width
        if joins:
            whole[place] = part[i]
        else:
            part[i] = whole[place]


@kernel("float*, float*, int")
def add_level_cuda(x, total, count):
    """All elements: total += x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        total[i] += x[i]
