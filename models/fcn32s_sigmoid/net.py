"""FCN-32s on VGG16 for PASCAL VOC with the sigmoid cross-entropy: each class is scored by itself."""

from models import families
from models.datasets import VOC
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-32s on VGG16, PASCAL VOC: sigmoid cross-entropy instead of softmax"
SECTION = "4.4, 6.1"
SPLITS = VOC.splits
OPTIONS = describe(*COMMON, "sampling", "pad", "training_set", "upsampling")
OWN = {"loss": "sigmoid"}


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(VOC, split, classes, data, **{**OWN, **given})


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn32s_sigmoid", {**OWN, "base_lr": 1e-10}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
