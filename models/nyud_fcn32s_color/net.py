"""FCN-32s on VGG16 for NYUDv2 with one modality."""

from models import families
from models.datasets import NYUD
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-32s on VGG16, NYUDv2: colour alone"
SECTION = "5, Table 5"
SPLITS = NYUD.splits
OPTIONS = describe(*COMMON, "features", "iterations")


def net(split, classes=NYUD.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg_single_modality(NYUD, split, classes, data, "color", **given)


def solver(**given):
    """Return the solver."""
    return NYUD.solver("nyud_fcn32s_color", {}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
