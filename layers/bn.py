"""BN: each channel normalised, scaled and shifted: the batch normalisation of SegNet, ENet and PSPNet.

    y = scale * (x - mean) / sqrt(variance + eps) + shift

Bottom: (N, C, ...); works in place. What mean and variance are:

- SegNet and ENet, two parameters (1, C, 1, 1), scale and shift. `bn_mode: LEARN` (default) takes them of the batch, in TRAIN
  and TEST, with eps 1e-9; further tops get the mean and the variance, (1, C, 1, 1). `bn_mode: INFERENCE` has neither: y =
  scale * x + shift, with what a tool of SegNet's has folded into the two.
- PSPNet, two more parameters, running mean and variance: as soon as `moving_average`, `decay`, `var_eps`, `axis` or what its
  forerunner has (`frozen`, `momentum`, `eps`, `slope_filler`, `bias_filler`) is given. TRAIN takes the batch's and moves the
  running ones by `decay` (default 0.05; 1 - `momentum` in the forerunner, default 0.9) of the way; TEST takes the running ones,
  in PSPNet only with `moving_average: true` and else the batch's. `frozen`: always the running ones, and nothing learns. eps is
  `var_eps` (default 1e-10) or `eps` (forerunner, default 1e-5). The running ones never learn by gradient.

Fillers: `scale_filler` and `shift_filler` (or `slope_filler`, `bias_filler`); 0 by default, as in the forks, for scale, too.
The variance divides by N times the pixels. With the batch's numbers, xh = (x - mean) / sqrt(variance + eps) and M values:
dx = scale / sqrt(variance + eps) * (dy - (sum of dy + xh * sum of dy xh) / M); else dx = dy * scale / sqrt(variance + eps).
dscale = sum of dy xh, dshift = sum of dy. Sums are float64: mean first, then the variance around it (SegNet's E[x^2] - E[x]^2
in float32 loses digits). Source: the BN layers of SegNet and PSPNet.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cpu.scale_blocked import scale_pictures
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer
from netspec import caffe_pb2

PSPNET = ("moving_average", "decay", "var_eps", "axis")
FORERUNNER = ("frozen", "momentum", "eps", "slope_filler", "bias_filler")
SEGNET_EPS = 1e-9
BATCH, RUNNING, NONE = range(3)  # whose mean and variance


class BN(Layer):
    """Batch normalisation with scale and shift in one layer."""

    exact_bottoms = 1
    min_tops, max_tops = 1, 3
    works_in_place = True
    _kept = _kept_on_card = None

    def check(self):
        """Refuse fields of two forks together; find out which it is."""
        param = self.param.bn_param
        given = [name for name in PSPNET + FORERUNNER if param.HasField(name)]
        if given and param.HasField("bn_mode"):
            self.fail(f"bn_mode is SegNet's and {given[0]} is PSPNet's; give one of them")
        for one, other in (("scale_filler", "slope_filler"), ("shift_filler", "bias_filler"), ("decay", "momentum"),
                           ("var_eps", "eps")):
            if param.HasField(one) and param.HasField(other):
                self.fail(f"{one} and {other} are both given; they say the same, give one of them")
        if param.axis != 1:
            self.fail(f"axis is {param.axis}; only 1, the channels, is known here")
        self.has_running, forerunner = bool(given), any(param.HasField(name) for name in FORERUNNER)
        self.statistics = BATCH
        if not self.has_running:
            self.eps = SEGNET_EPS
            if param.bn_mode == param.INFERENCE:
                self.statistics = NONE
        else:
            self.eps = param.eps if forerunner else param.var_eps
            self.share = 1 - param.momentum if forerunner and not param.HasField("decay") else param.decay
            if param.frozen or self.phase == caffe_pb2.TEST and (forerunner or param.moving_average):
                self.statistics = RUNNING
            # Running statistics are no weights to be learned, whatever the file says.
            while len(self.param.param) < 4:
                self.param.param.add()
            for one in self.param.param if param.frozen else self.param.param[2:]:
                one.lr_mult = one.decay_mult = 0
        if self.has_running or self.statistics != BATCH:
            self.max_tops = 1  # only SegNet tells what it found

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape, and those of mean and variance."""
        shape = tuple(bottom_shapes[0])
        if len(shape) < 2:
            self.fail(f"takes blobs of at least 2 axes (num, channels, ...), {self.called(0)} has {list(shape)}")
        return [shape] + [(1, shape[1], 1, 1)] * max(len(self.param.top) - 1, 0)

    def param_shapes(self, bottom_shapes):
        """Return the shapes of scale and shift, and of the running mean and variance."""
        self.top_shapes(bottom_shapes)
        return [(1, bottom_shapes[0][1], 1, 1)] * (4 if self.has_running else 2)

    def param_fillers(self):
        """Return the fillers: running statistics begin at 0, the variance of a frozen layer at 1."""
        param = self.param.bn_param
        fillers = [param.slope_filler if param.HasField("slope_filler") else param.scale_filler,
                   param.bias_filler if param.HasField("bias_filler") else param.shift_filler]
        one = caffe_pb2.FillerParameter(type="constant", value=1)
        return fillers + ([None, one if param.frozen else None] if self.has_running else [])

    def reshape(self, bottom, top):
        """Shape the tops."""
        shape = bottom[0].shape
        if self.blobs[0].count != shape[1]:
            self.fail(f"has parameters for {self.blobs[0].count} channels, {self.called(0)} {list(shape)} has {shape[1]}")
        for blob, wanted in zip(top, [shape] + [(1, shape[1], 1, 1)] * 2):
            blob.reshape(wanted)
        self.sizes = shape[0], shape[1], math.prod(shape[2:])  # outer, length, inner
        self.values = shape[0] * self.sizes[2]  # of a channel
        self._pictures = self.dtype == np.float32 and len(shape) == 4 and self.statistics != BATCH
        self._kept_bytes = 4 * bottom[0].count * self._keeps_x(bottom, top)

    def _keeps_x(self, bottom, top):
        """Whether x is kept aside, since y is written over it and backward needs it."""
        return top[0].shares_data(bottom[0]) and (self.statistics == BATCH or any(self.param_propagate_down[:2]))

    def reads_blocks(self):
        """Factors for channels can be spread over blocks."""
        return self._pictures

    writes_blocks = reads_blocks

    def _channels(self):
        """Return (mean, 1 / standard deviation) of each channel, float64, as they are known without the batch."""
        if self.statistics == RUNNING:
            mean, variance = (blob.peek().reshape(-1).astype(np.float64) for blob in self.blobs[2:])
            return mean, 1 / np.sqrt(variance + self.eps)
        return np.zeros(self.sizes[1]), np.ones(self.sizes[1])

    def forward(self, bottom, top):
        """Normalise."""
        scale, shift = (blob.peek().reshape(-1).astype(np.float64) for blob in self.blobs[:2])
        if self.statistics == BATCH:
            x = self._x(bottom, top)
            self.mean, variance = np.empty((2, self.sizes[1]))
            parallel.run(bn_statistics_cpu, self.sizes[1], x, *self.sizes, self.mean, variance, work=x.size)
            self.inverse = 1 / np.sqrt(variance + self.eps)
            self._tell(top, variance)
            self._apply(x, top[0].data.reshape(-1), self.mean, scale * self.inverse, shift)
            return
        self.mean, self.inverse = self._channels()
        factors = scale * self.inverse
        shift -= self.mean * factors
        if (self._pictures and not top[0].shares_data(bottom[0]) and bottom[0].memory().in_blocks(bottom[0].shape)):
            place = top[0].write()
            if place.picture.blocked:
                scale_pictures(*bottom[0].place(), factors.astype(np.float32), shift.astype(np.float32), *place)
                return
        self._apply(self._x(bottom, top), top[0].data.reshape(-1), np.zeros_like(shift), factors, shift)

    def _x(self, bottom, top):
        """Return x, flat; and keep it aside where it will be written over."""
        x = bottom[0].peek().reshape(-1)
        if self._keeps_x(bottom, top):
            if self._kept is None or self._kept.size != x.size:
                self._kept = np.empty_like(x)
            self._kept[...] = x
        return x

    def _apply(self, x, y, mean, factors, shift):
        tables = (table.astype(self.dtype) for table in (mean, factors, shift))
        parallel.run(bn_cpu, self.sizes[0] * self.sizes[1], x, *tables, y, *self.sizes[1:], work=x.size)

    def _tell(self, top, variance):
        """Write the statistics to further tops, and move the running ones in training."""
        for blob, values in zip(top[1:], (self.mean, variance)):
            blob.data.reshape(-1)[...] = values
        if self.has_running and self.phase == caffe_pb2.TRAIN:
            for blob, values in zip(self.blobs[2:], (self.mean, variance)):
                running = blob.data.reshape(-1)
                running[...] = self.share * values + (1 - self.share) * running

    def backward(self, top, propagate_down, bottom):
        """Add to the parameters' gradients, write the bottom's."""
        dy = top[0].peek(diff=True).reshape(-1)
        scale = self.blobs[0].peek().reshape(-1).astype(np.float64)
        plain, weighted = np.zeros((2, self.sizes[1]))
        x = dy
        if self.statistics == BATCH or any(self.param_propagate_down[:2]):
            x = self._kept if top[0].shares_data(bottom[0]) else bottom[0].peek().reshape(-1)
            parallel.run(bn_sums_cpu, self.sizes[1], x, dy, self.mean, self.inverse, *self.sizes, plain, weighted, work=x.size)
            for blob, total, wanted in zip(self.blobs, (weighted, plain), self.param_propagate_down):
                if wanted:
                    blob.diff.reshape(-1)[...] += total
        if propagate_down[0]:
            if self.statistics != BATCH:  # the sums are no part of it then
                plain[:], weighted[:] = 0, 0
            dx = bottom[0].diff.reshape(-1)
            parallel.run(bn_backward_cpu, self.sizes[0] * self.sizes[1], x, dy, self.mean, self.inverse, scale * self.inverse,
                         plain / max(self.values, 1), weighted / max(self.values, 1), dx, *self.sizes[1:], work=dx.size)

    # --- on a card ----------------------------------------------------------------------------------------------------

    @property
    def gathers(self):
        """Whether forward moves the running statistics."""
        return self.statistics == BATCH and self.has_running

    def has_cuda(self):
        """Unless tops tell what was found."""
        return len(self.param.top) <= 1

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: numbers of the channels, and x where it is kept; within backward xh."""
        return 20 * self.blobs[0].count + self._kept_bytes, 4 * self.values * self.sizes[1]

    def _tables(self):
        """Return five spans of one float32 a channel: mean, variance, 1 / deviation, and two sums."""
        nbytes = 4 * self.sizes[1]
        if getattr(self, "_numbers", None) is None:
            self._numbers = self.card.arena.take(5 * max(nbytes, 1))
        return [self.card.within(self._numbers.span, number * nbytes, nbytes) for number in range(5)]

    def forward_cuda(self, bottom, top):
        """Normalise."""
        card, channels = self.card, self.sizes[1]
        x = bottom[0].on(card)
        if self._keeps_x(bottom, top):
            if self._kept_on_card is None or self._kept_on_card.span.nbytes < 4 * bottom[0].count:
                self._kept_on_card = None  # first it goes back
                self._kept_on_card = card.arena.take(4 * bottom[0].count)
            card.copy(self._kept_on_card.span, x, 4 * bottom[0].count)
            x = self._kept_on_card.span
        y = top[0].write_on(card)
        mean, variance, inverse, *_ = self._tables()
        if self.statistics == BATCH:
            sums.add_up(card, sums.VALUES, x, x, self.sizes, mean, 1 / max(self.values, 1))
            card.run(bn_centred_cuda, bottom[0].count, x, mean, y, *self.sizes[1:])
            sums.add_up(card, sums.PRODUCTS, y, y, self.sizes, variance, 1 / max(self.values, 1))
            if self.has_running and self.phase == caffe_pb2.TRAIN:
                for blob, values in zip(self.blobs[2:], (mean, variance)):
                    card.run(bn_move_cuda, channels, values, blob.change_on(card), self.share)
        elif self.statistics == RUNNING:
            for blob, values in zip(self.blobs[2:], (mean, variance)):
                card.copy(values, blob.on(card), 4 * channels)
        card.run(bn_tables_cuda, channels, mean, variance, inverse, self.statistics == NONE, self.eps)
        card.run(bn_cuda, bottom[0].count, x, mean, inverse, self.blobs[0].on(card), self.blobs[1].on(card), y, *self.sizes[1:])

    def backward_cuda(self, top, propagate_down, bottom):
        """Add to the parameters' gradients, write the bottom's."""
        card, count = self.card, bottom[0].count
        dy, scale = top[0].on(card, diff=True), self.blobs[0].on(card)
        mean, _, inverse, plain, weighted = self._tables()
        normal = dy
        if self.statistics == BATCH or any(self.param_propagate_down[:2]):
            x = self._kept_on_card.span if top[0].shares_data(bottom[0]) else bottom[0].on(card)
            held = card.arena.take(4 * max(count, 1))
            normal = held.span
            card.run(bn_normal_cuda, count, x, mean, inverse, normal, *self.sizes[1:])
            sums.add_up(card, sums.VALUES, dy, dy, self.sizes, plain)
            sums.add_up(card, sums.PRODUCTS, dy, normal, self.sizes, weighted)
            for blob, total, wanted in zip(self.blobs, (weighted, plain), self.param_propagate_down):
                if wanted:
                    card.run(bn_add_cuda, self.sizes[1], total, blob.change_on(card, diff=True))
        if propagate_down[0]:
            card.run(bn_backward_cuda, count, normal, dy, inverse, scale, plain, weighted, bottom[0].write_on(card, diff=True),
                     self.statistics == BATCH, max(self.values, 1), *self.sizes[1:])

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        if len(param.top) > 1:
            export.fail("gives out mean and variance; only its first top has an equal in ONNX")
        layer, shape = BN(param, caffe_pb2.TEST), export.bottoms[0]
        if layer.statistics == BATCH:
            export.fail("normalises with each batch's own statistics, which ONNX does in training only; fold them in first "
                        "(bn_mode: INFERENCE), or set moving_average")
        if layer.statistics == NONE:
            wide = [1, shape[1], *[1] * (len(shape) - 2)]
            return [export.node("Add", export.node("Mul", source, export.parameter(0, *wide)), export.parameter(1, *wide))]
        return [export.node("BatchNormalization", source, *(export.parameter(number, shape[1]) for number in range(4)),
                            epsilon=layer.eps)]


@cached
def bn_statistics_cpu(first, last, x, outer, length, inner, mean, variance):
    """Mean and variance of channels [first, last)."""
    values = max(outer * inner, 1)
    for c in range(first, last):
        total = 0.0
        for n in range(outer):
            line = x[(n * length + c) * inner:(n * length + c + 1) * inner]
            for i in range(inner):
                total += float(line[i])
        mean[c] = middle = total / values
        total = 0.0
        for n in range(outer):
            line = x[(n * length + c) * inner:(n * length + c + 1) * inner]
            for i in range(inner):
                away = float(line[i]) - middle
                total += away * away
        variance[c] = total / values


@cached
def bn_cpu(first, last, x, mean, factors, shift, y, length, inner):
    """Rows [first, last), a channel of an image each: y = (x - mean) * factor + shift; y may be x."""
    for row in range(first, last):
        c = row % length
        middle, factor, added = mean[c], factors[c], shift[c]
        source, target = x[row * inner:(row + 1) * inner], y[row * inner:(row + 1) * inner]
        for i in range(inner):
            target[i] = (source[i] - middle) * factor + added


@cached
def bn_sums_cpu(first, last, x, dy, mean, inverse, outer, length, inner, plain, weighted):
    """For channels [first, last): the sums of dy and of dy * xh."""
    for c in range(first, last):
        total = products = 0.0
        for n in range(outer):
            start = (n * length + c) * inner
            source, error = x[start:start + inner], dy[start:start + inner]
            for i in range(inner):
                total += float(error[i])
                products += float(error[i]) * ((float(source[i]) - mean[c]) * inverse[c])
        plain[c], weighted[c] = total, products


@cached
def bn_backward_cpu(first, last, x, dy, mean, inverse, factors, plain, weighted, dx, length, inner):
    """Rows [first, last) of the bottom's gradient, with the sums over M; dx may be dy."""
    for row in range(first, last):
        c = row % length
        middle, sharp, factor, shift, slope = mean[c], inverse[c], factors[c], plain[c], weighted[c]
        source, error = x[row * inner:(row + 1) * inner], dy[row * inner:(row + 1) * inner]
        target = dx[row * inner:(row + 1) * inner]
        if shift == 0 and slope == 0:
            for i in range(inner):
                target[i] = error[i] * factor
        else:
            for i in range(inner):
                target[i] = (error[i] - shift - (source[i] - middle) * sharp * slope) * factor


@kernel("float*, float*, float*, int, int, int")
def bn_centred_cuda(x, mean, y, length, inner, count):
    """All elements of x - mean."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        y[i] = x[i] - mean[row - over(row, length) * length]


@kernel("float*, float*, float*, bool, double, int")
def bn_tables_cuda(mean, variance, inverse, plain, eps, count):
    """For each channel 1 / sqrt(variance + eps); with `plain` there are no statistics: mean 0, deviation 1."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        if plain:
            mean[i], inverse[i] = 0, 1
        else:
            inverse[i] = 1 / math.sqrt(variance[i] + eps)


@kernel("float*, float*, double, int")
def bn_move_cuda(values, running, share, count):
    """Move each running number by `share` of the way."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        running[i] = share * values[i] + (1 - share) * running[i]


@kernel("float*, float*, float*, float*, float*, float*, int, int, int")
def bn_cuda(x, mean, inverse, scale, shift, y, length, inner, count):
    """All elements of the top; y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        c = row - over(row, length) * length
        y[i] = (x[i] - mean[c]) * (inverse[c] * scale[c]) + shift[c]


@kernel("float*, float*, float*, float*, int, int, int")
def bn_normal_cuda(x, mean, inverse, normal, length, inner, count):
    """All elements of xh."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        c = row - over(row, length) * length
        normal[i] = (x[i] - mean[c]) * inverse[c]


@kernel("float*, float*, int")
def bn_add_cuda(total, diff, count):
    """Add the sums to a parameter's gradient."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        diff[i] += total[i]


@kernel("float*, float*, float*, float*, float*, float*, float*, bool, int, int, int, int")
def bn_backward_cuda(normal, dy, inverse, scale, plain, weighted, dx, of_batch, values, length, inner, count):
    """All elements of the bottom's gradient; dx may be dy."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        c = row - over(row, length) * length
        error = dy[i]
        if of_batch:
            error -= (plain[c] + normal[i] * weighted[c]) / np.float32(values)
        dx[i] = error * (inverse[c] * scale[c])
