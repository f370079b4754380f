"""FCN-32s on AlexNet for PASCAL VOC: normalised loss, gradients accumulated over 20 images."""

from models import families
from models.datasets import VOC
from models.start import interp

DESCRIPTION = "FCN-32s on AlexNet, PASCAL VOC: gradients accumulated over 20 images (paper 4.1)"
SPLITS = VOC.splits


def net(split, classes=VOC.classes, data=None):
    """Return the net of `split`."""
    return families.alexnet(VOC, split, classes, data)


def solver(**fields):
    """Return the solver."""
    return VOC.solver("fcn_alexnet", **{"base_lr": 1e-4, "momentum": 0.9, "iter_size": 20, **fields})


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
