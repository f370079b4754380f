"""FCN-32s on VGG16 for PASCAL VOC with all features fixed: only the score layer learns."""

from models import families
from models.datasets import VOC
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-32s on VGG16, PASCAL VOC: features fixed, only score_fr learns"
SECTION = "4.3, 4.4, Table 3"
SPLITS = VOC.splits
OPTIONS = describe(*COMMON, "pad", "training_set", "upsampling")
OWN = {"features": "fixed"}


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(VOC, split, classes, data, **{**OWN, **given})


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn32s_fixed", {**OWN, "base_lr": 1e-10}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
