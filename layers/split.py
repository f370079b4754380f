"""Split: every top is the bottom; the bottom's gradient is the sum of the tops'.

Any shape. The tops share the bottom's values; gradients are added in the tops' order, in float32 as in Caffe. A top
whose gradient nobody touched counts as zero. Nets get these layers by themselves where several layers read one blob
(`netspec.graph.insert_splits`). Source: Caffe's SplitLayer.
"""


from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.kernel import cuda, kernel
from layers.core.layer import Layer
from layers.core.layout import together


class Split(Layer):
    """One blob under several names."""

    exact_bottoms = 1
    min_tops = 1
    shares = True

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape for each top."""
        return [tuple(bottom_shapes[0])] * max(1, len(self.param.top))

    def reshape(self, bottom, top):
        """Let the tops look at the bottom's values."""
        for blob in top:
            blob.reshape(bottom[0].shape)
            blob.share_data(bottom[0])

    def forward(self, bottom, top):
        """Share once more: somebody may have given the bottom other memory since."""
        for blob in top:
            blob.share_data(bottom[0])

    def backward(self, top, propagate_down, bottom):
        """Add up the gradients."""
        if not propagate_down[0]:
            return
        touched = [(blob, True) for blob in top if blob.has_diff]
        if not touched:
            bottom[0].diff.fill(0)
            return
        diffs, target = together(touched, (bottom[0], True))
        if len(diffs) == 1:
            target[...] = diffs[0]
        else:
            parallel.run(add_cpu, target.size, diffs[0], diffs[1], target)
            for diff in diffs[2:]:
                parallel.run(add_cpu, target.size, target, diff, target)

    def backward_in_blocks(self):
        """Each value by itself."""
        return True

    forward_cuda = forward

    def backward_cuda(self, top, propagate_down, bottom):
        """Add up the gradients."""
        if not propagate_down[0]:
            return
        count = bottom[0].count
        diffs = [blob.on(self.card, diff=True) for blob in top if blob.has_diff]
        target = bottom[0].write_on(self.card, diff=True)
        if not diffs:
            self.card.clear(target)
        elif len(diffs) == 1:
            self.card.copy(target, diffs[0], count * 4)
        else:
            self.card.run(add_cuda, count, diffs[0], diffs[1], target)
            for diff in diffs[2:]:
                self.card.run(add_cuda, count, target, diff, target)

    @staticmethod
    def onnx(export, param, source):
        """Return the ONNX values of the tops (see `netspec.onnx_graph`): in TEST the bottom."""
        return [source] * max(1, len(param.top))


@cached
def add_cpu(first, last, a, b, total):
    """total = a + b for elements [first, last); total may be a."""
    a, b, total = a[first:last], b[first:last], total[first:last]
    for i in range(a.size):
        total[i] = a[i] + b[i]


@kernel("float*, float*, float*, int")
def add_cuda(a, b, total, count):
    """total = a + b; total may be a."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        total[i] = a[i] + b[i]
