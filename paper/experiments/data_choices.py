"""What is done to images and labels (sections 3.4, 4.4, 6.1): mirroring, jitter, masks, weighted classes - in exact terms."""

import numpy as np

from data import augment
from netspec import caffe_pb2
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P
from paper import nets
from paper.experiment import difference, exact

TITLE = "Masks, shifts and weights in exact terms"
PLACE = "4.4"
MINUTES = 0.1
NEEDS = ()
DEPENDS = ("paper/nets.py", "data/augment.py")
SIZE, CLASSES = (12, 15), 3
WEIGHTS = (0.25, 1.0, 0.5)
JITTER = 32


def run(context):
    """Shift, mask, weigh."""
    kept, moved = jitter(context.seed)
    wrong = masks(context.seed)
    weighted = weighting(context.seed)
    return {"rows": [
        exact("Jitter translates image and labels together by up to 32 pixels in each direction", "4.4",
              f"every shift of up to {JITTER} pixels of a picture that holds its own labels: labels that are not ignored beside "
              "the picture, and what comes in from outside", "up to 32 pixels", f"{kept} of {moved} shifts keep them together",
              kept == moved),
        exact("Foreground and background are masked by the labels, in six conditions", "6.1, Table 8",
              "pixels of a random image under each mask: those kept unchanged, those masked at the mean", "6 conditions",
              f"{len(augment.CONDITIONS)} conditions, {wrong} wrong pixels", wrong == 0 and len(augment.CONDITIONS) == 6,
              "The ambiguous border belongs to neither and is masked with both."),
        exact("Class balance is achieved by weighting or by sampling the loss", "3.4, 4.4",
              f"gradient with weights {', '.join(map(str, WEIGHTS))} of the classes (InfogainLoss with a diagonal matrix) beside "
              "the expected gradient when cells are kept with these probabilities; float64", "either",
              difference(weighted), weighted < 1e-12),
    ]}


def jitter(seed):
    """Return (shifts under which labels stay with their pixels, shifts)."""
    label = np.random.default_rng(seed).integers(0, 21, (1, 40, 50)).astype(np.uint8)
    image = label.astype(np.float32) + 1  # a picture that says which label belongs to each pixel
    kept = moved = 0
    for down in range(-JITTER, JITTER + 1):
        for right in range(-JITTER, JITTER + 1):
            shifted, there = augment.shifted(image, down, right, 0), augment.shifted(label, down, right, 255)
            known = there != 255
            count = (40 - abs(down)) * (50 - abs(right))
            kept += bool((shifted[known] == there[known] + 1).all() and not shifted[~known].any() and known.sum() == count)
            moved += 1
    return kept, moved


def masks(seed):
    """Return how many pixels are not what a mask should leave."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(1, 2, (3, *SIZE)).astype(np.float32)  # no pixel is at the mean, which is 0
    label = rng.choice([0, 1, 2, 255], (1, *SIZE)).astype(np.uint8)
    mean = np.array([104.0, 117.0, 123.0], np.float32)
    background, foreground = label[0] == 0, (label[0] != 0) & (label[0] != 255)
    wrong = 0
    for mask, kept in (("background", foreground), ("foreground", background)):
        out = augment.masked(image, label[0], mask, mean)
        wrong += int((out[:, kept] != image[:, kept]).sum() + (out[:, ~kept] != 0).sum())
    shape = augment.masked(image, label[0], "both", mean)
    white = (augment.WHITE - mean)[:, None]
    return wrong + int((shape[:, foreground] != white).sum() + (shape[:, ~foreground] != 0).sum())


def weighting(seed):
    """Return the difference of the weighted loss's gradient from the expected gradient of a sampled one."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.standard_normal((1, CLASSES, *SIZE)), rng.integers(0, CLASSES, (1, 1, *SIZE))
    found = []
    for weighted in (True, False):
        n = NetSpec()
        nets.image(n, 1, CLASSES, *SIZE, name="score")
        nets.image(n, 1, 1, *SIZE, name="label")
        if weighted:
            matrix = nets.image(n, 1, 1, CLASSES, CLASSES, name="matrix")
            n.loss = L.InfogainLoss(n.score, n.label, matrix, loss_param={"normalization": P.Loss.NONE})
        else:
            n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param={"normalization": P.Loss.NONE})
        net = nets.make(n, phase=caffe_pb2.TRAIN, backward=True)
        net.blobs["score"].data[...], net.blobs["label"].data[...] = scores, labels
        if weighted:
            net.blobs["matrix"].data[0, 0] = np.diag(WEIGHTS)
        net.forward_backward()
        found.append(net.blobs["score"].diff.copy())
    # A cell kept with probability w has w times its gradient in expectation.
    return nets.worst(found[0], found[1] * np.array(WEIGHTS)[labels])
