"""InnerProduct: a fully connected layer.

    y[m, j] = b[j] + sum over k of x[m, k] w[j, k]

The bottom's axes from `axis` on are one vector of K values: x (M, K) with M the product of the axes before; the top has
the shape of those axes and num_output. Parameters: weights (num_output, K), with `transpose` (K, num_output); bias
(num_output,). Sums are BLAS's. Source: Caffe's InnerProductLayer.
"""

import math

import numpy as np

from layers.core.cpu import blas
from layers.core.cuda import tiles
from layers.core.cuda.convolution import bias_gradient
from layers.core.cuda.gemm import gemm, gemm_bytes
from layers.core.layer import Layer
from netspec import caffe_pb2

STEP = 512  # outputs, or inputs, that one product takes of the weights
PRODUCT = 1 << 20  # values of the weights' gradient made at a time before they are added


class InnerProduct(Layer):
    """Every output sees every input; see the file's head."""

    exact_bottoms = exact_tops = 1

    def check(self):
        if self.param.inner_product_param.num_output < 1:
            self.fail("num_output is missing or 0; give the number of outputs")

    def _axis(self, shape):
        return self.canonical_axis(self.param.inner_product_param.axis, len(shape))

    def top_shapes(self, bottom_shapes):
        shape = bottom_shapes[0]
        return [(*shape[: self._axis(shape)], self.param.inner_product_param.num_output)]

    def param_shapes(self, bottom_shapes):
        param, shape = self.param.inner_product_param, bottom_shapes[0]
        inputs = math.prod(shape[self._axis(shape) :])
        weights = (inputs, param.num_output) if param.transpose else (param.num_output, inputs)
        return [weights, (param.num_output,)][: 1 + param.bias_term]

    def param_fillers(self):
        param = self.param.inner_product_param
        return [param.weight_filler, param.bias_filler][: 1 + param.bias_term]

    def macs(self, bottom_shapes, top_shapes):
        return math.prod(bottom_shapes[0]) * self.param.inner_product_param.num_output

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self._all = self._sizes(bottom, top)
        wanted = self.param_shapes([bottom[0].shape])[0]
        if self.blobs[0].shape != wanted:
            self.fail(f"the bottom {list(bottom[0].shape)} needs weights {list(wanted)}, but they are "
                      f"{list(self.blobs[0].shape)}; the size of the input may not change")

    def _matrices(self, bottom, top):
        """Return the two arrays as (M, K) and (M, num_output)."""
        inputs = math.prod(bottom.shape[self._axis(bottom.shape) :])
        return bottom.reshape(bottom.size // max(inputs, 1), inputs), top.reshape(-1, top.shape[-1])

    def forward(self, bottom, top):
        x, y = self._matrices(bottom[0].data, top[0].data)
        weight = self.blobs[0].data
        weight = weight if self.param.inner_product_param.transpose else weight.T
        bias = self.blobs[1].data if len(self.blobs) > 1 else None

        def some(first, last):
            np.matmul(x, weight[:, first:last], out=y[:, first:last])
            if bias is not None:
                y[:, first:last] += bias[first:last]

        blas.each(_steps(y.shape[1], STEP), some, x.size * y.shape[1])

    def backward(self, top, propagate_down, bottom):
        x, dy = self._matrices(bottom[0].data, top[0].diff)
        if self.param_propagate_down[0]:
            # Rows of the gradient are outputs, with `transpose` inputs.
            left, right = (x, dy) if self.param.inner_product_param.transpose else (dy, x)

            step = max(1, min(STEP, PRODUCT // max(right.shape[1], 1)))

            def add(gradient, accumulate):
                def some(first, last):
                    product = gradient[first:last]
                    if accumulate:
                        product = blas.scratch(product.shape, product.dtype, "product")
                    np.matmul(left[:, first:last].T, right, out=product)
                    if accumulate:
                        gradient[first:last] += product

                blas.each(_steps(len(gradient), step), some, x.size * dy.shape[1])

            self.blobs[0].add_to_diff(add)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            with np.errstate(all="ignore"):
                self.blobs[1].diff += dy.sum(axis=0)
        if propagate_down[0]:
            dx, _ = self._matrices(bottom[0].diff, top[0].diff)
            weight = self.blobs[0].data
            weight = weight.T if self.param.inner_product_param.transpose else weight

            def back(first, last):
                np.matmul(dy, weight[:, first:last], out=dx[:, first:last])

            blas.each(_steps(dx.shape[1], STEP), back, x.size * dy.shape[1])

    def bytes_cuda(self):
        m, n, k = self._all
        products = [(m, n, k)]
        if self.phase == caffe_pb2.TRAIN:
            transpose = self.param.inner_product_param.transpose
            products += [(m, k, n), (k, n, m, True) if transpose else (n, k, m, True)]
        return 0, max(gemm_bytes(self.card, *product) for product in products)

    def forward_cuda(self, bottom, top):
        """One product."""
        m, n, k = self._sizes(bottom, top)
        bias = self.blobs[1].on(self.card) if len(self.blobs) > 1 else None
        how = tiles.arithmetic(self.card, self.math)
        gemm(self.card, bottom[0].on(self.card), self.blobs[0].on(self.card), top[0].write_on(self.card), m, n, k,
             transpose_b=not self.param.inner_product_param.transpose, bias=bias, how=how)

    def backward_cuda(self, top, propagate_down, bottom):
        """Two products, and sums over the rows."""
        card, transpose = self.card, self.param.inner_product_param.transpose
        m, n, k = self._sizes(bottom, top)
        how = tiles.arithmetic(card, self.math)
        dy = top[0].on(card, diff=True)
        if self.param_propagate_down[0]:
            x, gradient = bottom[0].on(card), self.blobs[0].change_on(card, diff=True)
            left, right, rows, columns = (x, dy, k, n) if transpose else (dy, x, n, k)
            gemm(card, left, right, gradient, rows, columns, m, transpose_a=True, beta=1, how=how)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            bias_gradient(card, dy, self.blobs[1].change_on(card, diff=True), m, n, 1)
        if propagate_down[0]:
            gemm(card, dy, self.blobs[0].on(card), bottom[0].write_on(card, diff=True), m, k, n, transpose_b=transpose, how=how)

    def _sizes(self, bottom, top):
        """Return M, num_output and K."""
        outputs = top[0].shape[-1]
        rows = top[0].count // max(outputs, 1)
        return rows, outputs, math.prod(bottom[0].shape[self._axis(bottom[0].shape):])

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own, shape = param.inner_product_param, export.bottoms[0]
        axis = export.axis(own.axis)
        count = math.prod(shape[axis:])
        weight = export.parameter(0, *((count, own.num_output) if own.transpose else (own.num_output, count)))
        operands = [weight, export.parameter(1, own.num_output)] if own.bias_term else [weight]
        product = export.node("Gemm", export.node("Flatten", source, axis=axis), *operands, transB=int(not own.transpose))
        if axis != 1:
            product = export.node("Reshape", product, export.constant(export.tops[0]))
        return [product]


def _steps(count, step):
    return [(first, min(first + step, count)) for first in range(0, count, step)]
