"""Convolution: a bank of filters slides over the image.

    y[n, m, o] = b[m] + sum over c, k of w[m, c, k] x[n, c, o * stride - pad + k * dilation]

x (N, C, *spatial) -> y (N, num_output, *out), out = floor((size + 2 pad - dilation (k - 1) - 1) / stride) + 1; any
number of spatial axes. Channels and outputs are cut into `group` groups that do not see each other. Parameters:
weights (num_output, C / group, *kernel), bias (num_output,). It is a correlation: the kernel is not mirrored.
Source: Caffe's ConvolutionLayer.
"""

import math

import numpy as np

from layers.core.convolutional import ConvolutionalLayer
from layers.core.cpu import convolve
from layers.core.cpu.choose import Kernels
from layers.core.cpu.convolve import Window
from netspec import caffe_pb2, geometry


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
        param = self.param.convolution_param
        window = Window(bottom[0], top[0], param.group, bottom[1:], kernel, stride, pad, dilation, top[1:],
                        plain=param.force_nd_im2col)
        self.kernels = Kernels(window, self.math, self.phase == caffe_pb2.TEST, self.dtype == np.float32, self.kernels)
        return window

    def forward(self, bottom, top, relu=False):
        weight, bias = self.weights()
        for below, above in zip(bottom, top):
            image, out = self.flat(below.data, above.data)
            self.kernels.forward(image, weight, bias, out, relu)

    def forward_rectified(self, bottom, top):
        if self.kernels.rectifies:
            self.forward(bottom, top, relu=True)
        return self.kernels.rectifies

    def backward(self, top, propagate_down, bottom):
        for below, above, wanted in zip(bottom, top, propagate_down):
            image, error = self.flat(below.data, above.diff)
            if self.wanted(1):
                convolve.backward_bias(error, self.blobs[1].diff)
            if self.wanted(0):
                self.kernels.weight_gradient(image, error, self.blobs[0].diff)
            if wanted:
                image_error, _ = self.flat(below.diff, above.diff)
                self.kernels.image_gradient(error, self.blobs[0].data, None, image_error)
