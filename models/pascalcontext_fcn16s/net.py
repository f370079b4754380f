"""FCN-16s on VGG16 for PASCAL-Context: 59 classes and the background."""

from models import families
from models.datasets import PASCALCONTEXT
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-16s on VGG16, PASCAL-Context: 59 classes and background"
SECTION = "5, Table 7"
SPLITS = PASCALCONTEXT.splits
OPTIONS = describe(*COMMON, "features", "class_weights", "iterations", "interpolation", "fusion")


def net(split, classes=PASCALCONTEXT.classes, data=None, **given):
    """Return the net of `split`."""
    return families.vgg(PASCALCONTEXT, split, classes, data, finest=16, **given)


def solver(**given):
    """Return the solver."""
    return PASCALCONTEXT.solver("pascalcontext_fcn16s", {"base_lr": 1e-12}, given)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
