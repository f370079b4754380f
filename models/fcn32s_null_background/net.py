"""FCN-32s on VGG16 for PASCAL VOC without a background model: 20 scores, background is the constant 0."""

from models import families
from models.datasets import VOC
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-32s on VGG16, PASCAL VOC: 20 classes scored, background the constant 0"
SECTION = "6.1"
SPLITS = VOC.splits
OPTIONS = describe(*COMMON, "sampling", "pad", "training_set", "upsampling")
OWN = {"loss": "sigmoid", "background": "null"}


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(VOC, split, classes, data, **{**OWN, **given})


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn32s_null_background", {**OWN, "base_lr": 1e-10}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
