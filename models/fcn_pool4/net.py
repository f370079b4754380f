"""A truncated FCN on VGG16 for PASCAL VOC: scored on pool4 alone; starts from VGG16's weights."""

from models import families
from models.datasets import VOC
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "VGG16 cut off at pool4 and scored there (field 100), PASCAL VOC"
SECTION = "4.3, Table 3"
SPLITS = VOC.splits
OPTIONS = describe(*COMMON, "form", "features", "pad", "training_set", "upsampling")
OWN = {"only": "pool4"}


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(VOC, split, classes, data, **{**OWN, **given})


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn_pool4", {**OWN, "base_lr": 1e-10}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
