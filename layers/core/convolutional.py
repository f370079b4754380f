"""What Convolution and Deconvolution have in common: their ConvolutionParameter, shapes and parameters."""

import math

import numpy as np

from layers.core.cpu.blocked import place
from layers.core.cpu.choose import forced
from layers.core.cuda import tiles
from layers.core.cuda.convolution import CardWindow, bias_gradient
from layers.core.layer import Layer
from netspec import caffe_pb2, geometry

SIZES = 32  # of images for which a layer remembers its shapes and kernels


class ConvolutionalLayer(Layer):
    """A layer with a window that slides over the axes behind `axis` (the channels').

    Any number of bottoms of one shape, each with its top, share the parameters: weights and, with `bias_term`, a bias
    (num_output,). Caffe's `force_nd_im2col` computes with plain numpy here; `engine` says nothing to us.
    """

    min_bottoms = min_tops = 1
    equal_bottom_top = True
    # Attributes that follow from the bottoms' shape.
    of_a_size = ("window", "kernels", "on_card", "_pictures", "_top_shape", "_flat_shapes")

    def check(self):
        param = self.param.convolution_param
        if param.num_output < 1:
            self.fail("num_output is missing or 0; give the number of output channels")
        if param.group < 1 or param.num_output % param.group:
            self.fail(f"num_output {param.num_output} cannot be cut into {param.group} groups; "
                      "group must be at least 1 and divide it")
        self._lengths = {}  # number of axes: (axis, group, (kernel, stride, pad, dilation))

    def sizes(self, shape):
        """Return (axis, channels, kernel, stride, pad, dilation) for a bottom's shape, refusing what does not fit."""
        known = self._lengths.get(len(shape))
        if known is None:
            known = self._lengths[len(shape)] = self._read_lengths(len(shape))
        axis, group, lengths = known
        channels = shape[axis]
        if channels < 1 or channels % group:
            self.fail(f"the bottom {list(shape)} has {channels} channels on axis {axis}, which cannot be cut into {group} groups")
        return axis, channels, *lengths

    def _read_lengths(self, num_axes):
        param = self.param.convolution_param
        axis = self.canonical_axis(param.axis, num_axes)
        spatial = num_axes - axis - 1
        if spatial == 0 and not param.kernel_size:
            return axis, param.group, ((), (), (), ())
        return axis, param.group, geometry.kernel_stride_pad_dilation(param, spatial, self.fail)

    def top_shapes(self, bottom_shapes):
        shape = tuple(bottom_shapes[0])
        for other in bottom_shapes[1:]:
            if tuple(other) != shape:
                self.fail(f"all bottoms must have one shape, but they have {list(shape)} and {list(other)}")
        axis, _, *each = self.sizes(shape)
        spatial = tuple(self.slide(*lengths, fail=self.fail) for lengths in zip(shape[axis + 1 :], *each))
        return [(*shape[:axis], self.param.convolution_param.num_output, *spatial)] * len(bottom_shapes)

    def param_fillers(self):
        param = self.param.convolution_param
        return [param.weight_filler, param.bias_filler][: 1 + param.bias_term]

    def setup(self, bottom, top):
        self._shape = self._channels = self.window = self.kernels = self.on_card = None
        self._met = {}  # (shape of the bottoms, forced kernel): the attributes `of_a_size`
        super().setup(bottom, top)

    def reshape(self, bottom, top):
        if bottom[0].shape != self._shape or len(bottom) > 1 and any(b.shape != self._shape for b in bottom):
            self._fit([b.shape for b in bottom], bottom, top)
        for blob in top:
            blob.reshape(self._top_shape)

    def _fit(self, shapes, bottom, top):
        """Be ready for bottoms of these shapes: as before, if they are one of the sizes met last."""
        key = shapes[0], forced()
        if key not in self._met or len(shapes) > 1:
            self._met.pop(key, None)
            self._make(shapes, any(blob.blocks for blob in (*bottom, *top)))
            self._met[key] = {name: getattr(self, name) for name in self.of_a_size}
            if len(self._met) > SIZES:
                del self._met[next(iter(self._met))]
        vars(self).update(self._met[key])
        self._shape = shapes[0]

    def _make(self, shapes, blocks):
        self._shape = None
        self._top_shape = self.top_shapes(shapes)[0]
        axis, channels, *each = self.sizes(shapes[0])
        if channels != self._channels:
            for blob, wanted in zip(self.blobs, self.param_shapes(shapes)):
                if blob.shape != wanted:
                    self.fail(f"the bottom {list(shapes[0])} needs weights {list(wanted)}, but they are "
                              f"{list(blob.shape)}")
            self._channels = channels
        self._pictures = len(shapes[0]) == 4 and axis == 1 and self.dtype == np.float32
        self._blocks = blocks
        self.window = self.make_window(shapes[0][axis:], self._top_shape[axis:], *each)
        if self.card is not None and not CardWindow.fits(self.window):
            self.card = None
        if self.card is not None:
            self.on_card = CardWindow(self.card, self.window, self.math, self.on_card)
        batch = math.prod(shapes[0][:axis])
        self._flat_shapes = (batch, *shapes[0][axis:]), (batch, *self._top_shape[axis:])

    def flat(self, bottom, top):
        """Return the two arrays as (N, channels, *spatial): the axes before `axis` become one."""
        return bottom.reshape(self._flat_shapes[0]), top.reshape(self._flat_shapes[1])

    def planned(self):
        self._shape = None
        self._met.clear()

    @property
    def weights_stay(self):
        """Whether weights are the same from call to call, so that what is made of them is worth keeping."""
        return self.phase == caffe_pb2.TEST or self.param_propagate_down[:1] == [False]

    def place(self, blob, diff=False):
        """Return the `Place` of a bottom's or top's values as they lie."""
        return blob.place(diff) if self._pictures else place(self._flattened(blob.peek(diff)))

    def written(self, blob, diff=False):
        """Return the `Place` for writing all of a bottom or top."""
        return blob.write(diff) if self._pictures else place(self._flattened(blob.diff if diff else blob.data))

    def _flattened(self, array):
        return array.reshape(self._flat_shapes[0] if array.shape == self._shape else self._flat_shapes[1])

    def weights(self):
        """Return the data of the weights and of the bias (or None)."""
        return self.blobs[0].peek(), self.blobs[1].peek() if len(self.blobs) > 1 else None

    def has_cuda(self):
        """Always, unless sums shall be those of Caffe's BLAS; whoever has three axes or more leaves the card in `reshape`."""
        return self.math != "caffe"

    def kernel_on_card(self, phase):
        """Return (name, why) of what computes a phase, "forward" or "image", on the card; for the plan."""
        how = self.on_card.arithmetic(self._flat_shapes[0][0], self.on_card.rows[phase == "image"])
        if how is None:
            return "plain cuda", "few channels, or little work"
        return f"{tiles.NAMES[how]} cuda", ("multiply-add" if how == tiles.FLOAT32 else "tensor cores") + f" of {self.card.name}"

    way = "forward"  # of the window that forward goes; its gradient goes the other

    def bytes_cuda(self):
        """Return the bytes on the card beside the blobs: tables, and parts of sums within a call."""
        if self.on_card is None:
            return 0, 0
        ways = [self.way]
        if self.phase == caffe_pb2.TRAIN:
            ways += ["image" if self.way == "forward" else "forward", *["weight"] * self.wanted(0)]
        return self.on_card.bytes(self._flat_shapes[0][0], ways)

    def weights_on_card(self):
        """Return the spans of the weights and of the bias (or None)."""
        return self.blobs[0].on(self.card), self.blobs[1].on(self.card) if len(self.blobs) > 1 else None

    def bias_gradient_on_card(self, error):
        """Add to the bias's gradient, if it is wanted; `error`: the span of a top's."""
        if self.wanted(1):
            (batch, *_), (_, outputs, *output) = self._flat_shapes
            bias_gradient(self.card, error, self.blobs[1].change_on(self.card, diff=True), batch, outputs, math.prod(output))

    def wanted(self, number):
        """Whether the gradient of parameter `number` is wanted."""
        return number < len(self.blobs) and self.param_propagate_down[number]

