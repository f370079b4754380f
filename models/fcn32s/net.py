"""FCN-32s on VGG16 for PASCAL VOC; starts from VGG16's ImageNet weights."""

from models import families
from models.datasets import VOC
from models.start import interp

DESCRIPTION = "FCN-32s on VGG16, PASCAL VOC: one stream, upsampled 32x in one step (paper 4.1)"
SPLITS = VOC.splits


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(VOC, split, classes, data, finest=32, **given)


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn32s", {"base_lr": 1e-10}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
