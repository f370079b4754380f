"""FCN-32s on VGG16 for NYUDv2 with early fusion: depth is a fourth channel of the image."""

from models import families
from models.datasets import NYUD
from models.design import COMMON, describe
from models.start import interp, widen_first_layer

DESCRIPTION = "FCN-32s on VGG16, NYUDv2: colour and depth as four channels"
SECTION = "5, Table 5"
SPLITS = NYUD.splits
OPTIONS = describe(*COMMON, "features", "iterations")
FIRST = "conv1_1_bgrd"


def net(split, classes=NYUD.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg_early_fusion(NYUD, split, classes, data, **given)


def solver(**given):
    """Return the solver."""
    return NYUD.solver("nyud_fcn32s_color_d", {}, given)


def start(net, weights=()):
    """Fill the upsampling kernels, and the first layer from VGG16's: depth starts as the mean of the colours."""
    lines = interp(net)
    for path in weights:
        lines += widen_first_layer(net, path, FIRST)
    return lines
