"""FCN-16s on VGG16 for PASCAL VOC; starts from the weights of fcn32s, at a hundredth of the rate."""

from models import families
from models.datasets import VOC
from models.design import PASCAL, describe
from models.start import interp

DESCRIPTION = "FCN-16s on VGG16, PASCAL VOC: pool4 fused at stride 16"
SECTION = "4.3, Table 3"
SPLITS = VOC.splits
OPTIONS = describe(*PASCAL, "interpolation", "fusion")


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(VOC, split, classes, data, finest=16, **given)


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn16s", {"base_lr": 1e-12}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
