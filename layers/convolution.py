"""Convolution: a bank of filters slides over the image.

    y[n, m, o] = b[m] + sum over c, k of w[m, c, k] x[n, c, o * stride - pad + k * dilation]

x (N, C, *spatial) -> y (N, num_output, *out), out = floor((size + 2 pad - dilation (k - 1) - 1) / stride) + 1; any
number of spatial axes. Channels and outputs are cut into `group` groups that do not see each other. Parameters:
weights (num_output, C / group, *kernel), bias (num_output,). It is a correlation: the kernel is not mirrored.
Source: Caffe's ConvolutionLayer.
"""

import functools
import math

import numpy as np

from layers.core.border import Step
from layers.core.convolutional import ConvolutionalLayer
from layers.core.cpu import convolve
from layers.core.cpu.channel_sums import bias_gradient_pictures
from layers.core.cpu.choose import PLACES, Kernels, choose, few
from layers.core.cpu.convolve import Window
from netspec import geometry


class Convolution(ConvolutionalLayer):
    """Filters over the last axes of the bottom; see the file's head."""

    slide = staticmethod(geometry.conv_out)

    def param_shapes(self, bottom_shapes):
        param = self.param.convolution_param
        _, channels, kernel, *_ = self.sizes(bottom_shapes[0])
        return [(param.num_output, channels // param.group, *kernel), (param.num_output,)][: 1 + param.bias_term]

    def macs(self, bottom_shapes, top_shapes):
        weights = self.param_shapes(bottom_shapes)[0]
        return sum(math.prod(shape) for shape in top_shapes) * math.prod(weights[1:])

    def make_window(self, bottom, top, kernel, stride, pad, dilation):
        """Return the window for shapes (C, *image) and (M, *out), and choose who computes it."""
        window = self._window(bottom, top, kernel, stride, pad, dilation)
        self.kernels = Kernels(window, self.math, self.weights_stay, self.dtype == np.float32,
                               self._blocks, self.low_memory, self.kernels)
        return window

    def _window(self, bottom, top, kernel, stride, pad, dilation):
        param = self.param.convolution_param
        return Window(bottom[0], top[0], param.group, bottom[1:], kernel, stride, pad, dilation, top[1:],
                      plain=param.force_nd_im2col)

    # --- plan -------------------------------------------------------------------------------------------------------

    def reads_blocks(self):
        return self.writes_blocks() and not few(self.window)

    def writes_blocks(self):
        return self._pictures and self._would_take("forward")

    def backward_in_blocks(self):
        return self._pictures and self._would_take("image") and self._would_take("weight")

    def _would_take(self, phase):
        """Whether the kernel for a phase takes blocks, were there any."""
        return choose(self.window, phase, self.math, self.weights_stay, blocks=True).name in PLACES

    def can_fuse(self, pool):
        if self.on_card is not None:
            return pool is None
        if pool is None:
            return self.kernels.rectifies
        return self.kernels.pools and self._pictures and pool.top_shapes([self._top_shape])[0][2:] == tuple(
            -(-size // 2) for size in self._top_shape[2:])

    def kernel(self):
        return self.kernels.choice["forward"] if self.on_card is None else self.kernel_on_card("forward")

    def kept_bytes(self):
        return 0 if self.on_card is not None else self.kernels.kept_bytes()

    def border_step(self, rectify):
        if not self._pictures or not self.kernels.takes_places("forward"):
            return None
        window, kernels = self.window, self.kernels
        each = list(zip(window.kernel, window.stride, window.pad, window.dilation))
        weight, bias = self.blobs[0], self.weights()[1]
        version = (self.name, rectify, window.kernel, window.stride, window.pad, window.dilation, weight.fingerprint,
                   self.blobs[1].fingerprint if bias is not None else None)

        def out(*sizes):
            return tuple(geometry.conv_out(size, *lengths, fail=self.fail) for size, lengths in zip(sizes, each))

        def slide(axis, number, size):
            return axis.slide(size, *each[number], kernels.tile)

        def compute(source, target):
            sizes = [(place.picture.channels, place.picture.height, place.picture.width) for place in (source, target)]
            kernels.forward_places(source, weight, bias, target, rectify, window=self._window(*sizes, *zip(*each)))

        return Step(version, window.outputs, compute, slide, out)

    # --- running ----------------------------------------------------------------------------------------------------

    def forward(self, bottom, top):
        self.forward_fused(bottom, top)

    def forward_fused(self, bottom, top, rectify=False, pooled=None, box=None):
        if self.on_card is not None:
            weight, bias = self.weights_on_card()
            for below, above in zip(bottom, top):
                x, y = below.on(self.card), above.write_on(self.card)
                self.on_card.forward(x, weight, bias, y, self._flat_shapes[0][0], rectify)
            return
        bias = self.blobs[1].peek() if len(self.blobs) > 1 else None
        places = self.kernels.takes_places("forward")
        for below, above in zip(bottom, top):
            if places:
                pool = None if pooled is None else pooled.write()
                self.kernels.forward_places(self.place(below), self.blobs[0], bias, self.written(above), rectify,
                                            pool, box)
            else:
                self.kernels.forward(below.peek().reshape(self._flat_shapes[0]), self.blobs[0], bias,
                                     above.data.reshape(self._flat_shapes[1]), rectify)

    def _bias_gradient(self, top):
        if self._pictures:
            bias_gradient_pictures(*top.place(diff=True), self.blobs[1].diff)
        else:
            convolve.backward_bias(top.peek(diff=True).reshape(self._flat_shapes[1]), self.blobs[1].diff)

    def backward(self, top, propagate_down, bottom):
        for below, above, wanted in zip(bottom, top, propagate_down):
            if self.wanted(1):
                self._bias_gradient(above)
            if self.wanted(0):
                if self.kernels.takes_places("weight"):
                    self.kernels.weight_gradient_places(self.place(below), self.place(above, diff=True),
                                                        self.blobs[0].diff)
                else:
                    arrays = self.flat(below.nchw(), above.nchw(diff=True))
                    self.blobs[0].add_to_diff(functools.partial(self.kernels.weight_gradient, *arrays))
            if wanted and self.kernels.takes_places("image"):
                self.kernels.image_gradient_places(self.place(above, diff=True), self.blobs[0],
                                                   self.written(below, diff=True))
            elif wanted:
                image_error, error = self.flat(below.diff, above.nchw(diff=True))
                self.kernels.image_gradient(error, self.blobs[0], None, image_error)

    def forward_cuda(self, bottom, top):
        """On the card; with up to two spatial axes."""
        self.forward_fused(bottom, top)

    def backward_cuda(self, top, propagate_down, bottom):
        """As `forward_cuda`."""
        batch = self._flat_shapes[0][0]
        for below, above, wanted in zip(bottom, top, propagate_down):
            error = above.on(self.card, diff=True)
            self.bias_gradient_on_card(error)
            if self.wanted(0):
                self.on_card.weight_gradient(below.on(self.card), error, self.blobs[0].change_on(self.card, diff=True), batch)
            if wanted:
                self.on_card.image_gradient(error, self.blobs[0].on(self.card), None, below.write_on(self.card, diff=True), batch)

    @staticmethod
    def onnx(export, param, *sources):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        attributes, outputs, channels, group, kernel = export.window()
        operands = [export.parameter(0, outputs, channels // group, *kernel)]
        if param.convolution_param.bias_term:
            operands.append(export.parameter(1, outputs))
        return [export.node("Conv", source, *operands, **attributes) for source in sources]
