"""FCN-32s on GoogLeNet for PASCAL VOC, trained as section 4.1 says: 20 images an update, momentum 0.9, rate 5e-5.

No code of it was published. The rate makes sense only for a normalised loss, as in the published fcn_alexnet.
"""

from models import families
from models.datasets import VOC
from models.design import COMMON, describe
from models.start import interp

DESCRIPTION = "FCN-32s on GoogLeNet, PASCAL VOC: the last classifier's features, without its average pooling"
SECTION = "4.1, Table 1"
SPLITS = VOC.splits
OPTIONS = describe(*COMMON, "features", "average_pool", "pad", "training_set")
OWN = {"normalization": "VALID"}


def net(split, classes=VOC.classes, data=None, **given):
    """Return the net of `split`."""
    return families.googlenet(VOC, split, classes, data, **{**OWN, **given})


def solver(**given):
    """Return the solver."""
    return VOC.solver("fcn_googlenet", {**OWN, "base_lr": 5e-5, "momentum": 0.9, "iter_size": 20}, given, paper_rate=5e-5)


def start(net, weights=()):
    """Fill the upsampling kernels."""
    return interp(net)
