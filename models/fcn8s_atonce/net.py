"""FCN-8s on VGG16 for PASCAL VOC in one training from VGG16's weights: the skip streams are scaled down instead."""

from models import families
from models.datasets import VOC
from models.design import PASCAL, describe
from models.start import interp

DESCRIPTION = "FCN-8s on VGG16, PASCAL VOC: all streams trained at once, skips scaled"
SECTION = "4.3, Table 3"
SPLITS = VOC.splits
OPTIONS = describe(*PASCAL, "interpolation", "fusion")


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(VOC, split, classes, data, finest=8, scales={"pool4": 0.01, "pool3": 0.0001}, **given)


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn8s_atonce", {"base_lr": 1e-10, "max_iter": 300000}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
