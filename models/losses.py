"""How scores meet labels: softmax or sigmoid, weighted classes, a background that is not learned."""

from models import parts
from netspec.errors import Error
from netspec.spec import layers as L

GEOMETRIC_CLASSES = 3  # SIFT Flow's second task: sky, vertical, horizontal
LARGEST = 100000  # classes; more is a slip of the keyboard, refused before any memory is taken


def check_classes(classes):
    """Return the number of classes as an int, refused when it cannot be one."""
    if not 1 <= int(classes) <= LARGEST:
        raise Error(f"classes is {classes}; give 1 to {LARGEST}, background included")
    return int(classes)


def scored(classes, design):
    """Return how many classes have a score of their own: with a null background one less."""
    if design.background == "null" and classes < 2:
        raise Error(f"background=null needs a class beside it; classes is {classes}")
    return classes - (design.background == "null")


def finish(n, scores, classes, split, splits, design, label="label", name="loss", top="score"):
    """Name the blob of scores `top` and add the loss on blob `label`; nothing follows the scores in a deploy net.

    softmax             SoftmaxWithLoss; with class_weights, in training, InfogainLoss with their diagonal matrix
    sigmoid             in training SigmoidCrossEntropyLoss on one-hot labels (VALID counts pixels times classes, so
                        its gradients are that much smaller); the test net has labels as ever, no loss
    background null     in training `top`_objects meets the loss; elsewhere `top` has a channel of zeros before them
    """
    training = split == splits[0]
    if design.background == "null":
        objects = n[f"{top}_objects"] = scores
        if not training:
            n[top] = parts.with_null_channel(n, objects, classes)
        scores = objects
    else:
        n[top] = scores
    if split == "deploy":
        return
    if design.loss == "sigmoid":
        if training:
            n[name] = L.SigmoidCrossEntropyLoss(scores, n[label], loss_param=loss_param(design))
    elif design.class_weights is not None and training:
        matrix = parts.diagonal(n, "class_weights", design.weights_of(classes))
        n[name] = L.InfogainLoss(scores, n[label], matrix, loss_param=loss_param(design, named=True))
    else:
        n[name] = L.SoftmaxWithLoss(scores, n[label], loss_param=loss_param(design))


def loss_param(design, named=False):
    """Return the LossParameter: ``normalize`` where that says it, as published, unless `named`."""
    how = design.normalized
    normal = {"normalization": how} if named or how not in ("VALID", "BATCH_SIZE") else {"normalize": how == "VALID"}
    return {**normal, "ignore_label": parts.IGNORED_LABEL}
