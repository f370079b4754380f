"""Scale: y = x * s (+ b), with s spread over some axes of x.

s has the shape of the `num_axes` axes of x from `axis` on (defaults 1 and 1: one factor a channel; `num_axes: -1` is
all axes from `axis` on, `num_axes: 0` one factor for everything). It is a parameter (filled with 1 by default) or a
second bottom, whose shape then says num_axes. With `bias_term` there is a bias of the same shape (0 by default), the
last parameter. dx = s * dy; ds = sum of x * dy, db = sum of dy over the other axes, summed in float64.

Works in place; x is kept aside for ds then. Source: Caffe's ScaleLayer and its inner BiasLayer.
"""

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cpu.scale_blocked import scale_pictures
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.spread import SpreadLayer
from netspec import caffe_pb2


class Scale(SpreadLayer):
    """Multiply by factors, learned or given."""

    operand_name = "scale"

    def own_param(self):
        """Return scale_param."""
        return self.param.scale_param

    def param_shapes(self, bottom_shapes):
        """Return the shapes of the factors (unless they are a bottom) and of the bias (if any)."""
        count = int(len(bottom_shapes) == 1) + int(self.param.scale_param.bias_term)
        return [self.operand_shape(bottom_shapes)] * count

    def param_fillers(self):
        """Return the fillers of factors and bias."""
        param = self.param.scale_param
        fillers = [param.bias_filler] if param.bias_term else []
        if len(self.param.bottom) < 2:
            one = caffe_pb2.FillerParameter(type="constant", value=1)
            fillers.insert(0, param.filler if param.HasField("filler") else one)
        return fillers

    def setup(self, bottom, top):
        """Make the parameters."""
        super().setup(bottom, top)
        self.kept = self.kept_on_card = None  # a copy of x when working in place

    def reads_blocks(self):
        """One factor for each channel, or for all, can be spread over blocks."""
        return self.dtype == np.float32 and self._channels

    writes_blocks = reads_blocks

    def backward_in_blocks(self):
        """Only the bottom's gradient."""
        return self.reads_blocks() and not any(self.param_propagate_down)

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        shape = bottom[0].shape
        keeps = self._in_place(bottom, top) and (len(bottom) > 1 or self.param_propagate_down[0])
        self._kept_bytes = 4 * bottom[0].count * keeps
        _, length, inner = self.sizes
        self._channels = (len(bottom) == 1 and len(shape) == 4
                          and (length == 1 or length == shape[1] and inner == shape[2] * shape[3]))

    def _in_blocks(self, source, target, diff=False):
        """Scale in blocks, where the source lies so and the target may; return whether that was done."""
        if self._channels and source.memory(diff).in_blocks(source.shape) and not self._in_place([source], [target]):
            place = target.write(diff)
            if place.picture.blocked:
                bias = self.blobs[-1].peek().reshape(-1) if self.param.scale_param.bias_term and not diff else None
                scale_pictures(*source.place(diff), self.blobs[0].peek().reshape(-1), bias, *place)
                return True
        return False

    def forward(self, bottom, top):
        """Multiply and add."""
        if self._in_blocks(bottom[0], top[0]):
            return
        x, y = bottom[0].data.reshape(-1), top[0].data.reshape(-1)
        if self._in_place(bottom, top) and (len(bottom) > 1 or self.param_propagate_down[0]):
            if self.kept is None or self.kept.size != x.size:
                self.kept = np.empty_like(x)
            self.kept[...] = x
        _, length, inner = self.sizes
        scale = self.operand(bottom).data.reshape(-1)
        has_bias = self.param.scale_param.bias_term
        bias = self.blobs[-1].data.reshape(-1) if has_bias else scale
        parallel.run(scale_cpu, x.size, x, scale, bias, y, length, inner, has_bias)

    def backward(self, top, propagate_down, bottom):
        """Add to the parameters' gradients, write the bottoms'."""
        if not any(self.param_propagate_down) and propagate_down[0] and self._in_blocks(top[0], bottom[0], diff=True):
            return
        dy = top[0].diff.reshape(-1)
        if self.param.scale_param.bias_term and self.param_propagate_down[-1]:
            self.blobs[-1].diff.reshape(-1)[...] += self._total(dy, dy, False)
        if self.wants_operand_gradient(propagate_down):
            x = self.kept if self._in_place(bottom, top) else bottom[0].data.reshape(-1)
            self.give_operand_gradient(bottom, self._total(dy, x, True))
        if propagate_down[0]:
            _, length, inner = self.sizes
            scale = self.operand(bottom).data.reshape(-1)
            parallel.run(scale_cpu, dy.size, dy, scale, scale, bottom[0].diff.reshape(-1), length, inner, False)

    def _total(self, dy, x, times):
        """Return the sums over outer and inner positions of dy * x, or of dy alone; float64, one a factor."""
        outer, length, inner = self.sizes
        total = np.empty(length)
        parallel.run(scale_total_cpu, length, dy, x, times, outer, length, inner, total, work=dy.size)
        return total

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: x, where it is kept aside."""
        return self._kept_bytes, 0

    def forward_cuda(self, bottom, top):
        """Multiply and add."""
        x = bottom[0].on(self.card)
        if self._in_place(bottom, top) and (len(bottom) > 1 or self.param_propagate_down[0]):
            nbytes = bottom[0].count * 4
            if self.kept_on_card is None or self.kept_on_card.span.nbytes < nbytes:
                self.kept_on_card = None  # first it goes back
                self.kept_on_card = self.card.arena.take(nbytes)
            self.card.copy(self.kept_on_card.span, x, nbytes)
        scale, has_bias = self.operand(bottom).on(self.card), self.param.scale_param.bias_term
        bias = self.blobs[-1].on(self.card) if has_bias else scale
        self.card.run(scale_cuda, bottom[0].count, x, scale, bias, top[0].write_on(self.card), *self.sizes[1:], has_bias)

    def backward_cuda(self, top, propagate_down, bottom):
        """Add to the parameters' gradients, write the bottoms'."""
        dy = top[0].on(self.card, diff=True)
        if self.param.scale_param.bias_term and self.param_propagate_down[-1]:
            bias = self.blobs[-1].change_on(self.card, diff=True)
            sums.add_up(self.card, sums.VALUES, dy, dy, self.sizes, bias, adds=True)
        if self.wants_operand_gradient(propagate_down):
            x = self.kept_on_card.span if self._in_place(bottom, top) else bottom[0].on(self.card)
            self.give_operand_gradient_on_card(bottom, sums.PRODUCTS, dy, x)
        if propagate_down[0]:
            scale = self.operand(bottom).on(self.card)
            dx = bottom[0].write_on(self.card, diff=True)
            self.card.run(scale_cuda, bottom[0].count, dy, scale, scale, dx, *self.sizes[1:], False)

    @staticmethod
    def _in_place(bottom, top):
        return top[0].shares_data(bottom[0])

    @staticmethod
    def onnx(export, param, source, factor=None):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.scale_param
        shape = export.spread(own)
        number = 0 if factor else 1
        factor = export.node("Reshape", factor, export.constant(shape)) if factor else export.parameter(0, *shape)
        product = export.node("Mul", source, factor)
        return [export.node("Add", product, export.parameter(number, *shape)) if own.bias_term else product]


@cached
def scale_cpu(first, last, x, scale, bias, y, length, inner, has_bias):
    """Elements [first, last): y = x * scale (+ bias), row by row of `inner` values; y may be x."""
    at = first
    while inner == 1 and at < last:  # as many values as there are factors
        place = at % length
        end = min(at + length - place, last)
        part, result = x[at:end], y[at:end]
        factors, shifts = scale[place : place + end - at], bias[place : place + end - at]
        if has_bias:
            for i in range(part.size):
                result[i] = part[i] * factors[i] + shifts[i]
        else:
            for i in range(part.size):
                result[i] = part[i] * factors[i]
        at = end
    while at < last:
        row = at // inner
        end = min((row + 1) * inner, last)
        factor = scale[row % length]
        part, result = x[at:end], y[at:end]
        if has_bias:
            added = bias[row % length]
            for i in range(part.size):
                result[i] = part[i] * factor + added
        else:
            for i in range(part.size):
                result[i] = part[i] * factor
        at = end


@cached
def scale_total_cpu(first, last, dy, x, times, outer, length, inner, total):
    """For factors [first, last): the sum of dy * x (or of dy alone) over outer and inner positions, in order."""
    for factor in range(first, last):
        value = 0.0
        for out in range(outer):
            start = (out * length + factor) * inner
            part, partner = dy[start:start + inner], x[start:start + inner]
            if times:
                for i in range(inner):
                    value += float(part[i]) * float(partner[i])
            else:
                for i in range(inner):
                    value += float(part[i])
        total[factor] = value


@kernel("float*, float*, float*, float*, int, int, bool, int")
def scale_cuda(x, scale, bias, y, length, inner, has_bias, count):
    """All elements: y = x * scale (+ bias); y may be x."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, inner)
        place = row - over(row, length) * length
        value = x[i] * scale[place]
        y[i] = value + bias[place] if has_bias else value
