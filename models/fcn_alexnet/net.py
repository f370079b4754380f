"""FCN-32s on AlexNet for PASCAL VOC: normalised loss, gradients accumulated over 20 images."""

from models import families
from models.datasets import VOC
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-32s on AlexNet, PASCAL VOC: gradients accumulated over 20 images"
SECTION = "4.1, Table 1"
SPLITS = VOC.splits
OPTIONS = describe(*COMMON, "features", "pad", "training_set", "rate")
OWN = {"normalization": "VALID"}


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.alexnet(VOC, split, classes, data, **{**OWN, **given})


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn_alexnet", {**OWN, "base_lr": 1e-4, "momentum": 0.9, "iter_size": 20}, given, paper_rate=1e-3)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
