"""Patchwise training is loss sampling (section 3.4): the gradient of a loss with dropped cells, and its mean over many draws."""

import numpy as np

from netspec import caffe_pb2
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P
from paper import nets
from paper.experiment import difference, exact

TITLE = "Sampling the loss samples patches"
PLACE = "3.4"
MINUTES = 0.2
NEEDS = ()
DEPENDS = ("paper/nets.py",)
CLASSES, SIZE = 4, (14, 17)
KEPT = 0.25
DRAWS = 4000


def run(context):
    """Mask, drop, average."""
    masked, dropped, patches = mask_is_selection(context.seed)
    error, expected = mean_of_draws(context.seed)
    return {"rows": [
        exact("Restricting the loss to some cells is a mask between output and loss (DropConnect): dropped patches leave the "
              "gradient", "3.4", "labels of dropped cells set to 255 (ignored), beside the loss's gradient times a mask, "
              "beside the sum of the gradients of the kept cells one by one; float64", "equal",
              difference(max(masked, patches)), max(masked, patches) < 1e-12 and not dropped,
              "Scores of dropped cells get a gradient of exactly 0."),
        exact("With cells kept with probability p and 1/p times the images, the expected gradient is that of whole images", "3.4",
              f"mean of {DRAWS} draws with p = {KEPT}, times 1/p, beside the whole gradient", "equal in expectation",
              f"off by {100 * error:.1f} % of its length", error < 3 * expected,
              f"The variance of the draws allows {100 * expected:.1f} %."),
    ], "numbers": {"error": error, "expected": expected}}


def make_net():
    """Return a net that scores the pixels of a random image; the loss is a sum over them."""
    n = NetSpec()
    nets.image(n, 1, 3, *SIZE)
    nets.image(n, 1, 1, *SIZE, name="label")
    n.conv1 = L.Convolution(n.data, num_output=6, kernel_size=3, pad=1)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.score = L.Convolution(n.relu1, num_output=CLASSES, kernel_size=3, pad=1)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param={"normalization": P.Loss.NONE, "ignore_label": 255})
    net = nets.make(n, phase=caffe_pb2.TRAIN)
    net.blobs["data"].data[...] = np.random.default_rng(1).standard_normal(net.blobs["data"].shape)
    return net


def gradient(net, labels):
    """Return the gradients of all parameters for these labels (H, W), as one vector."""
    net.blobs["label"].data[0, 0] = labels
    net.clear_param_diffs()
    net.forward_backward()
    return np.concatenate([blob.diff.ravel() for blobs in net.params.values() for blob in blobs])


def mask_is_selection(seed):
    """Return (difference from the masked gradient, gradient at dropped scores, difference from the sum over kept cells)."""
    rng = np.random.default_rng(seed)
    labels, mask = rng.integers(0, CLASSES, SIZE), rng.random(SIZE) < KEPT
    net = make_net()
    gradient(net, labels)
    whole = net.blobs["score"].diff.copy()
    kept = gradient(net, np.where(mask, labels, 255))
    scores = net.blobs["score"].diff.copy()
    single = sum(gradient(net, np.where(np.arange(labels.size).reshape(SIZE) == cell, labels, 255))
                 for cell in np.flatnonzero(mask))
    return nets.worst(scores, whole * mask), float(abs(scores[..., ~mask]).max()), nets.worst(kept, single)


def mean_of_draws(seed):
    """Return (distance of the mean gradient over draws from the whole one, its expectation), of the whole one's length.

    The gradients of all cells are taken once; a draw adds up those that are kept.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, SIZE)
    net = make_net()
    whole = gradient(net, labels)
    cells = np.stack([gradient(net, np.where(np.arange(labels.size).reshape(SIZE) == cell, labels, 255))
                      for cell in range(labels.size)])
    mean = (rng.random((DRAWS, labels.size)) < KEPT).mean(axis=0) @ cells / KEPT
    variance = (cells**2).sum() * (1 - KEPT) / KEPT / DRAWS
    length = np.sqrt((whole**2).sum())
    return float(np.sqrt(((mean - whole) ** 2).sum()) / length), float(np.sqrt(variance) / length)
