"""Silence: reads its bottoms so that they are no outputs of the net; their gradient is 0.

Any number of bottoms, no top. Source: Caffe's SilenceLayer.
"""

from layers.core.layer import Layer


class Silence(Layer):
    """Keep unread blobs out of the log."""

    min_bottoms = 1
    exact_tops = 0

    def top_shapes(self, bottom_shapes):
        """Return no tops."""
        return []

    def forward(self, bottom, top):
        """Do nothing."""

    def backward(self, top, propagate_down, bottom):
        """Set the gradients to zero (one that nobody touched is zero already)."""
        for blob, wanted in zip(bottom, propagate_down):
            if wanted and blob.has_diff:
                blob.diff.fill(0)

    forward_cuda = forward

    def backward_cuda(self, top, propagate_down, bottom):
        """As `backward`."""
        for blob, wanted in zip(bottom, propagate_down):
            if wanted and blob.has_diff:
                self.card.clear(blob.write_on(self.card, diff=True))

    @staticmethod
    def onnx(export, param, *sources):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`): none."""
        return []
