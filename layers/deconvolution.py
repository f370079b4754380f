"""Deconvolution: a convolution's backward pass as a layer; it upsamples.

    y[n, m, i] = b[m] + sum over c, o, k with o * stride - pad + k * dilation = i of w[c, m, k] x[n, c, o]

x (N, C, *spatial) -> y (N, num_output, *out), out = stride (size - 1) + dilation (k - 1) + 1 - 2 pad. Parameters:
weights (C, num_output / group, *kernel), bias (num_output,). Source: Caffe's DeconvolutionLayer.

Where every channel has one kernel of its own (group = C = num_output, or dense weights of which all but the diagonal
are exactly 0, as FCN's bilinear upsampling is stored) the sums skip the zeros; so a NaN or infinity of one channel does
not spread to the others, as it does in Caffe where it meets the zeros. The gradient of dense weights is always dense.
"""

import functools
import math

import numpy as np

from layers.core.convolutional import ConvolutionalLayer
from layers.core.cpu import convolve, depthwise
from layers.core.cpu.choose import Kernels, forced
from layers.core.cpu.convolve import Window
from netspec import caffe_pb2, geometry


class Deconvolution(ConvolutionalLayer):
    """The transposed convolution over the last axes of the bottom; see the file's head."""

    way = "image"
    slide = staticmethod(geometry.deconv_out)
    of_a_size = (*ConvolutionalLayer.of_a_size, "_maybe_diagonal")

    def setup(self, bottom, top):
        self._looked_at = None  # fingerprint of weights, and whether they are diagonal
        super().setup(bottom, top)

    def param_shapes(self, bottom_shapes):
        param = self.param.convolution_param
        _, channels, kernel, *_ = self.sizes(bottom_shapes[0])
        return [(channels, param.num_output // param.group, *kernel), (param.num_output,)][: 1 + param.bias_term]

    def macs(self, bottom_shapes, top_shapes):
        weights = self.param_shapes(bottom_shapes)[0]
        return sum(math.prod(shape) for shape in bottom_shapes) * math.prod(weights[1:])

    def make_window(self, bottom, top, kernel, stride, pad, dilation):
        """Return the window for shapes (C, *small) and (M, *large): that of the convolution from top to bottom."""
        param = self.param.convolution_param
        window = Window(top[0], bottom[0], param.group, top[1:], kernel, stride, pad, dilation, bottom[1:],
                        plain=param.force_nd_im2col)
        self.kernels = Kernels(window, self.math, self.weights_stay, self.dtype == np.float32,
                               low_memory=self.low_memory, before=self.kernels)
        self._maybe_diagonal = (window.channels == window.outputs and window.group == 1 and depthwise.fits(window)
                                and forced() in (None, "depthwise"))
        return window

    def _diagonal(self):
        """Return the kernels of a dense bank in which no channel sees another, (C, 1, *kernel); None if some does."""
        return depthwise.diagonal(self.blobs[0].peek()) if self._maybe_diagonal else None

    def kernel(self):
        if self.on_card is not None and not self._diagonal_on_card():
            return self.kernel_on_card("image")
        if self._diagonal() is not None:
            return "depthwise", "channels do not see each other"
        return self.kernels.choice["image"]

    def forward(self, bottom, top):
        bias = self.weights()[1]
        diagonal = self._diagonal()
        for below, above in zip(bottom, top):
            small, large = self.flat(below.peek(), above.data)
            if diagonal is None:
                self.kernels.image_gradient(small, self.blobs[0], bias, large)
            else:
                depthwise.backward_image(self.window, small, diagonal, bias, large)

    def backward(self, top, propagate_down, bottom):
        diagonal = self._diagonal() if any(propagate_down) else None
        for below, above, wanted in zip(bottom, top, propagate_down):
            small, error = self.flat(below.data, above.diff)
            if self.wanted(1):
                convolve.backward_bias(error, self.blobs[1].diff)
            if self.wanted(0):
                self.blobs[0].add_to_diff(functools.partial(self.kernels.weight_gradient, error, small))
            if wanted:
                small_error, _ = self.flat(below.diff, above.diff)
                if diagonal is None:
                    self.kernels.forward(error, self.blobs[0], None, small_error)
                else:
                    depthwise.forward(self.window, error, diagonal, None, small_error)

    def bytes_cuda(self):
        learns = self.phase == caffe_pb2.TRAIN and self.wanted(0)
        return (0, 0) if self.on_card is not None and self._diagonal_on_card() and not learns else super().bytes_cuda()

    def variant(self):
        """Which of the two ways `forward_cuda` goes."""
        return self.on_card is not None and self._diagonal_on_card()

    def _diagonal_on_card(self):
        """Whether no channel sees another in dense weights; those that were changed on the card are not looked at.

        Whoever learns there has gradients that are dense, and bringing weights back to look at them would stop all work.
        """
        if not self._maybe_diagonal or not self.blobs[0].memory().on_host:
            return False
        fingerprint = self.blobs[0].fingerprint
        if self._looked_at is None or self._looked_at[0] != fingerprint:
            self._looked_at = fingerprint, self._diagonal() is not None
        return self._looked_at[1]

    def forward_cuda(self, bottom, top):
        """On the card; with up to two spatial axes."""
        diagonal = self._diagonal_on_card()
        weight, bias = self.weights_on_card()
        for below, above in zip(bottom, top):
            compute = self.on_card.upsample if diagonal else self.on_card.image_gradient
            compute(below.on(self.card), weight, bias, above.write_on(self.card), self._flat_shapes[0][0])

    def backward_cuda(self, top, propagate_down, bottom):
        """As `forward_cuda`."""
        batch = self._flat_shapes[0][0]
        diagonal = any(propagate_down) and self._diagonal_on_card()
        for below, above, wanted in zip(bottom, top, propagate_down):
            error = above.on(self.card, diff=True)
            self.bias_gradient_on_card(error)
            if self.wanted(0):
                self.on_card.weight_gradient(error, below.on(self.card), self.blobs[0].change_on(self.card, diff=True), batch)
            if wanted:
                weight, below_error = self.blobs[0].on(self.card), below.write_on(self.card, diff=True)
                if diagonal:
                    self.on_card.downsample(error, weight, below_error, batch)
                else:
                    self.on_card.forward(error, weight, None, below_error, batch)

    @staticmethod
    def onnx(export, param, *sources):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        attributes, outputs, channels, group, kernel = export.window()
        operands = [export.parameter(0, channels, outputs // group, *kernel)]
        if param.convolution_param.bias_term:
            operands.append(export.parameter(1, outputs))
        return [export.node("ConvTranspose", source, *operands, **attributes) for source in sources]
