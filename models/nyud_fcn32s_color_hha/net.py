"""FCN-32s on VGG16 for NYUDv2 with late fusion: two trunks, one for colour and one for HHA, their scores averaged."""

from models import families
from models.datasets import NYUD
from models.design import COMMON, describe
from models.start import interp, transplant

DESCRIPTION = "FCN-32s on VGG16, NYUDv2: colour and HHA nets with their scores averaged"
SECTION = "5, Table 5"
SPLITS = NYUD.splits
OPTIONS = describe(*COMMON, "features", "late", "iterations")
MODALITIES = ("color", "hha")


def net(split, classes=NYUD.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg_late_fusion(NYUD, split, classes, data, MODALITIES, **given)


def solver(**given):
    """Return the solver."""
    return NYUD.solver("nyud_fcn32s_color_hha", {"base_lr": 1e-12}, given)


def start(net, weights=()):
    """Fill the upsampling kernels; give ``--weights COLOR,HHA`` to fill the two trunks from the two nets' weights."""
    lines = interp(net)
    if len(weights) == len(MODALITIES):
        for path, tail in zip(weights, MODALITIES):
            lines += transplant(net, path, tail)
    return lines
