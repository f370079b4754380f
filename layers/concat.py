"""Concat: the bottoms one after the other along one axis.

Any shape; all lengths but the one along `axis` (default 1; the older `concat_dim` counts from the front only) must
agree. With a single bottom the top shares its memory. Source: Caffe's ConcatLayer.
"""

import numpy as np

from layers.core.cpu.channels import copy_channels
from layers.core.cpu.isa import BLOCK
from layers.core.parts import PartsLayer


class Concat(PartsLayer):
    """Join blobs."""

    min_bottoms = 1
    exact_tops = 1
    old_axis = "concat_dim"
    _shapes = None  # of the bottoms, when the top was given its shape

    def own_param(self):
        """Return concat_param."""
        return self.param.concat_param

    def top_shapes(self, bottom_shapes):
        """Return bottom 0's shape with the lengths along the axis added up."""
        first = tuple(bottom_shapes[0])
        axis = self.axis(len(first))
        for i, shape in enumerate(bottom_shapes[1:], 1):
            shape = tuple(shape)
            if len(shape) != len(first) or shape[:axis] + shape[axis + 1:] != first[:axis] + first[axis + 1:]:
                self.fail(f"{self.called(i)} {list(shape)} does not fit {self.called(0)} {list(first)}: all axes but "
                          f"axis {axis} must agree")
        return [first[:axis] + (sum(shape[axis] for shape in bottom_shapes),) + first[axis + 1:]]

    def _channels(self, blob):
        """Whether channels are what is joined, of images that may lie in blocks."""
        return len(blob.shape) == 4 and self.axis(4) == 1 and blob.dtype == np.float32

    def reads_blocks(self):
        """Blocks of channels can be joined."""
        return self._blocks

    writes_blocks = backward_in_blocks = reads_blocks

    def joined(self, bottom, top):
        """Return [(blob, channel of the top)] of bottoms that may be written where they are joined, or []."""
        channels = [blob.shape[1] for blob in bottom] if self._blocks else []
        places = [sum(channels[:i]) for i in range(len(channels))]
        return [(blob, at) for blob, at in zip(bottom, places) if not (at % BLOCK or blob.shape[1] % BLOCK)]

    def reshape(self, bottom, top):
        """Shape the top."""
        shapes = [blob.shape for blob in bottom]
        if shapes == self._shapes and len(bottom) > 1:
            top[0].reshape(self._top_shape)
            return
        super().reshape(bottom, top)
        self._blocks = len(bottom) > 1 and self._channels(bottom[0])
        self._shapes, self._top_shape = shapes, top[0].shape

    def forward(self, bottom, top):
        """Copy the bottoms side by side."""
        if self._blocks and top[0].blocks:
            target, at = top[0].write(), 0
            if target.picture.blocked:
                whole = top[0].memory().blocked
                for blob in bottom:
                    part = blob.in_blocks()
                    if not whole.has_part(part, at, blob.shape[1]):  # it was not written in its place, see `layers.core.plan`
                        copy_channels(part.address, part.picture, 0, *target, at, blob.shape[1])
                    at += blob.shape[1]
                return
        if len(bottom) > 1:
            for blob, place in self.pairs(bottom, top[0], top[0].data):
                place[...] = blob.peek().reshape(place.shape)

    def backward(self, top, propagate_down, bottom):
        """Hand each bottom its part of the gradient."""
        if self._blocks and top[0].memory(diff=True).in_blocks(top[0].shape):
            source, at, left = top[0].place(diff=True), 0, []
            for blob, wanted in zip(bottom, propagate_down):
                target = blob.write(diff=True) if wanted and blob.diff_blocks else None
                if target is not None and target.picture.blocked:
                    copy_channels(*source, at, *target, 0, blob.shape[1])
                elif wanted:
                    left.append((blob, at))
                at += blob.shape[1]
            for blob, at in left:
                blob.diff[...] = top[0].nchw(diff=True)[:, at : at + blob.shape[1]]
        elif len(bottom) > 1:
            for (blob, place), wanted in zip(self.pairs(bottom, top[0], top[0].diff), propagate_down):
                if wanted:
                    blob.diff.reshape(place.shape)[...] = place

    def forward_cuda(self, bottom, top):
        """Copy the bottoms side by side."""
        if len(bottom) > 1:
            self.copy_on_card(bottom, top[0], joins=True)

    def backward_cuda(self, top, propagate_down, bottom):
        """Hand each bottom its part of the gradient."""
        if len(bottom) > 1:
            self.copy_on_card(bottom, top[0], joins=False, diff=True, wanted=propagate_down)

    @staticmethod
    def onnx(export, param, *sources):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`)."""
        own = param.concat_param
        axis = own.concat_dim if own.HasField("concat_dim") else export.axis(own.axis)
        return [export.node("Concat", *sources, axis=axis)]
