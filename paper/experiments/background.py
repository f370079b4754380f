"""The null background and the sigmoid loss (sections 4.4 and 6.1): parameters, gradients, inference."""

import numpy as np

from models import families
from models.datasets import VOC
from netspec import caffe_pb2
from netspec.measure import measure
from netspec.spec import NetSpec
from netspec.spec import layers as L
from paper import nets
from paper.experiment import difference, exact

TITLE = "Null background and sigmoid loss"
PLACE = "6.1"
MINUTES = 0.2
NEEDS = ()
DEPENDS = ("paper/nets.py",)
SIZE = (96, 128)


def run(context):
    """Count, compare, infer."""
    whole, without = (sum(row.learned for row in measure(families.vgg(VOC, "deploy", 21, loss="sigmoid", background=background)))
                      for background in ("learned", "null"))
    saved = whole - without
    channel, alike = null_inference(context.seed)
    gradient = sigmoid_gradient(context.seed)
    return {"rows": [
        exact("Discarding the background model reduces the number of parameters by less than 0.1 %", "6.1",
              "learned parameters of FCN-32s with 21 and with 20 scores, counted", "< 0.1 %",
              f"{saved:,} of {whole:,}: {100 * saved / whole:.4f} %", 0 < saved / whole < 0.001),
        exact("A null background scores a constant 0, and each pixel gets the class with the highest score", "6.1",
              "FCN-32s with `background=null` (VGG16's layers at 8 channels): its score of class 0, and its answer beside the "
              "argmax of the 20 learned scores where one is above 0, else background", "constant 0",
              f"{channel:g}; {100 * alike:.0f} % of the pixels alike", channel == 0 and alike == 1),
        exact("The sigmoid cross-entropy loss normalises each class by itself", "4.4",
              "its gradient beside sigmoid(score) - target class by class, ignored pixels at 0; float64", "independent",
              difference(gradient), gradient < 1e-12),
    ], "numbers": {"parameters": whole, "without background": without}}


def null_inference(seed):
    """Return (largest score of class 0, share of pixels whose answer is that of the rule)."""
    message = nets.thin(nets.with_inputs(families.vgg(VOC, "deploy", 21, loss="sigmoid", background="null"), {
        "data": (1, 3, *SIZE)}), 8)
    net = nets.make(message, seed)
    net.blobs["data"].data[...] = 50 * np.random.default_rng(seed).standard_normal(net.blobs["data"].shape)
    net.forward()
    scores, objects = net.blobs["score"].data[0], net.blobs["score_objects"].data[0]
    rule = np.where(objects.max(axis=0) > 0, 1 + objects.argmax(axis=0), 0)
    return float(abs(scores[0]).max()), float((scores.argmax(axis=0) == rule).mean())


def sigmoid_gradient(seed):
    """Return how far the loss's gradient is from sigmoid(score) - target, per image."""
    n = NetSpec()
    score = nets.image(n, 2, 5, 6, 7, name="score")
    label = nets.image(n, 2, 5, 6, 7, name="label")
    n.loss = L.SigmoidCrossEntropyLoss(score, label, loss_param={"normalize": False, "ignore_label": 255})
    net = nets.make(n, phase=caffe_pb2.TRAIN, backward=True)
    rng = np.random.default_rng(seed)
    scores = 4 * rng.standard_normal((2, 5, 6, 7))
    targets = (rng.random((2, 5, 6, 7)) < 0.3).astype(float)
    ignored = np.broadcast_to(rng.random((2, 1, 6, 7)) < 0.1, targets.shape)
    net.blobs["score"].data[...] = scores
    net.blobs["label"].data[...] = np.where(ignored, 255, targets)
    net.forward_backward()
    want = np.where(ignored, 0, 1 / (1 + np.exp(-scores)) - targets) / 2
    return nets.worst(net.blobs["score"].diff.copy(), want)
