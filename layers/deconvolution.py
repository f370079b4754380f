"""Deconvolution: a convolution's backward pass as a layer; it upsamples.

    y[n, m, i] = b[m] + sum over c, o, k with o * stride - pad + k * dilation = i of w[c, m, k] x[n, c, o]

x (N, C, *spatial) -> y (N, num_output, *out), out = stride (size - 1) + dilation (k - 1) + 1 - 2 pad. Parameters:
weights (C, num_output / group, *kernel), bias (num_output,). Source: Caffe's DeconvolutionLayer.

Where every channel has one kernel of its own (group = C = num_output, or dense weights of which all but the diagonal
are exactly 0, as FCN's bilinear upsampling is stored) the sums skip the zeros; so a NaN or infinity of one channel does
not spread to the others, as it does in Caffe where it meets the zeros. The gradient of dense weights is always dense.
"""

import math

from layers.core.convolutional import ConvolutionalLayer
from layers.core.cpu import convolve, depthwise
from layers.core.cpu.convolve import Window
from netspec import geometry


class Deconvolution(ConvolutionalLayer):
    """The transposed convolution over the last axes of the bottom; see the file's head."""

    slide = staticmethod(geometry.deconv_out)

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
        square = window.channels == window.outputs and depthwise.fits(window)
        self._single = square and window.group == window.channels
        self._maybe_diagonal = square and window.group == 1
        return window

    def _how(self):
        """Return (module, weight) that compute with today's weights."""
        weight = self.blobs[0].data
        if self._single:
            return depthwise, weight
        diagonal = depthwise.diagonal(weight) if self._maybe_diagonal else None
        if diagonal is not None:
            return depthwise, diagonal
        return convolve, weight

    def forward(self, bottom, top):
        bias = self.weights()[1]
        compute, weight = self._how()
        for below, above in zip(bottom, top):
            small, large = self.flat(below.data, above.data)
            compute.backward_image(self.window, small, weight, bias, large)

    def backward(self, top, propagate_down, bottom):
        compute, weight = self._how() if any(propagate_down) else (None, None)
        for below, above, wanted in zip(bottom, top, propagate_down):
            small, error = self.flat(below.data, above.diff)
            if self.wanted(1):
                convolve.backward_bias(error, self.blobs[1].diff)
            if self.wanted(0):
                gradient = depthwise if self._single else convolve
                gradient.backward_weight(self.window, error, small, self.blobs[0].diff)
            if wanted:
                small_error, _ = self.flat(below.diff, above.diff)
                compute.forward(self.window, error, weight, None, small_error)
