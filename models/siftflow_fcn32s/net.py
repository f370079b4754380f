"""FCN-32s on VGG16 for SIFT Flow: semantic and geometric scores from one trunk."""

from models import families
from models.datasets import SIFTFLOW
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-32s on VGG16, SIFT Flow: semantic and geometric classes at once"
SECTION = "5, Table 6"
SPLITS = SIFTFLOW.splits
OPTIONS = describe(*COMMON, "features", "iterations")


def net(split, classes=SIFTFLOW.classes, data=None, **given):
    """Return the net of `split`; `classes` are the semantic ones."""
    return families.vgg_two_heads(SIFTFLOW, split, classes, data, finest=32, **given)


def solver(**given):
    """Return the solver."""
    return SIFTFLOW.solver("siftflow_fcn32s", {"base_lr": 1e-10}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
