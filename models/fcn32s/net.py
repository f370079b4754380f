"""FCN-32s on VGG16 for PASCAL VOC; starts from VGG16's ImageNet weights."""

from models import families
from models.datasets import VOC
from models.design import PASCAL, describe
from models.start import interp

DESCRIPTION = "FCN-32s on VGG16, PASCAL VOC: one stream, upsampled 32x in one step"
SECTION = "4.1, 4.2, Tables 2, 3"
SPLITS = VOC.splits
SOLVERS = {  # of Table 2, whose third, heavy, is the published one
    how: {"learning": how, "snapshot_prefix": f"models/fcn32s/snapshot/{how}"} for how in ("accum", "online")
}
OPTIONS = describe(*PASCAL, "form", "loss", "background", "upsampling")


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(VOC, split, classes, data, finest=32, **given)


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn32s", {"base_lr": 1e-10}, given, paper_rate=1e-4)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
