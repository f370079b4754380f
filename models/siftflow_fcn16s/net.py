"""FCN-16s on VGG16 for SIFT Flow: semantic and geometric scores from one trunk."""

from models import families
from models.datasets import SIFTFLOW
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-16s on VGG16, SIFT Flow: semantic and geometric classes at once"
SECTION = "5, Table 6"
SPLITS = SIFTFLOW.splits
OPTIONS = describe(*COMMON, "features", "iterations", "interpolation", "fusion")


def net(split, classes=SIFTFLOW.classes, data=None, **given):
    """Return the net of `split`; `classes` are the semantic ones."""
    return families.vgg_two_heads(SIFTFLOW, split, classes, data, finest=16, **given)


def solver(**given):
    """Return the solver."""
    return SIFTFLOW.solver("siftflow_fcn16s", {"base_lr": 1e-12}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
