"""Whole-image training is patchwise training on all receptive fields (sections 3 and 3.4), in float64."""

import numpy as np

from netspec.measure import measure
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P
from paper import nets
from paper.experiment import difference, exact

TITLE = "The gradient of a whole image is the sum of its patches' gradients"
PLACE = "3"
MINUTES = 0.1
NEEDS = ()
DEPENDS = ("paper/nets.py",)
GRID = (7, 9)
CLASSES = 4


def run(context):
    """Compare both gradients, and the inputs'."""
    parameters, loss, field, stride = whole_against_patches(context.seed)
    return {"rows": [exact(
        "With a loss that is a sum over the outputs, the gradient of a whole image is the sum of the gradients of all its "
        "receptive fields, taken as a minibatch", "3",
        f"a net of 3 convolutions, 2 max-poolings and ReLU without padding (field {field}, stride {stride}), softmax loss "
        f"summed: one image with {GRID[0]}x{GRID[1]} outputs beside its {GRID[0] * GRID[1]} patches, float64", "the same",
        difference(max(parameters, loss)), max(parameters, loss) < 1e-12,
        "With padding inside the net it would not hold: a patch sees zeros where the image goes on.")],
        "numbers": {"parameters": parameters, "loss": loss}}


def message(batch, height, width, grid):
    """Return a net whose loss is the sum over all outputs of all images."""
    n = NetSpec()
    nets.image(n, batch, 3, height, width)
    nets.image(n, batch, 1, *grid, name="label")
    n.conv1 = L.Convolution(n.data, num_output=6, kernel_size=3)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, num_output=8, kernel_size=3)
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n.pool2 = L.Pooling(n.relu2, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.score = L.Convolution(n.pool2, num_output=CLASSES, kernel_size=2)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param={"normalization": P.Loss.NONE})
    return n.to_proto()


def whole_against_patches(seed):
    """Return (difference of the parameters' gradients, of the losses, field, stride)."""
    row = next(row for row in measure(message(1, 99, 99, (23, 23))) if row.layer == "score")
    field, stride = int(row.field[0]), int(row.stride[0])
    high, wide = (field + stride * (count - 1) for count in GRID)
    rng = np.random.default_rng(seed)
    image, label = rng.standard_normal((3, high, wide)), rng.integers(0, CLASSES, GRID)
    whole = nets.make(message(1, high, wide, GRID), seed)
    whole.blobs["data"].data[0], whole.blobs["label"].data[0, 0] = image, label
    patches = nets.make(message(label.size, field, field, (1, 1)), seed)
    for number, (y, x) in enumerate(np.ndindex(*GRID)):
        patches.blobs["data"].data[number] = image[:, y * stride : y * stride + field, x * stride : x * stride + field]
    patches.blobs["label"].data[...] = label.reshape(-1, 1, 1, 1)
    losses = [net.forward_backward() for net in (whole, patches)]
    return nets.worst(nets.gradients(whole), nets.gradients(patches)), abs(losses[0] / losses[1] - 1), field, stride
