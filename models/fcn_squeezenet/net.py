"""The paper's method on SqueezeNet v1.0: 5 MB of ImageNet weights, FCN-8s's three streams, trained at once.

Start it from the ImageNet weights, ``--weights squeezenet_v1.0.caffemodel``: the layers have their names.
"""

from models import small
from models.datasets import VOC_ONLY
from models.design import describe

# Features scaled to a spread of about 1 (their standard deviations are 35, 42 and 211) and a trunk that learns at a fifth
# of the new layers' rate: with half of it or all of it the pretrained layers are shaken and the loss falls more slowly,
# with a tenth it ends the same. The solver's numbers are those of a run of 8 passes over 520 images: 0.22 mean IU.
SCALES = (0.03, 0.03, 0.003)  # fire9, fire8, fire4
TRUNK_RATE = 0.2

DESCRIPTION = "the paper's method on SqueezeNet v1.0, PASCAL VOC: streams at strides 32, 16 and 8, trained at once"
SECTION = ""
SPLITS = VOC_ONLY.splits
OPTIONS = describe("finest", "interpolation", "fusion", "features", "normalization", "loss", "background", "class_weights",
                   "condition", "mirror", "jitter", "sampling", "learning", "gradients", "stages")
OWN = {"finest": 8, "normalization": "VALID"}


def net(split, classes=VOC_ONLY.classes, data=None, **given):
    """Return the net of `split`; `given` are the OPTIONS and the numbers of `small.squeezenet`."""
    return small.squeezenet(VOC_ONLY, split, classes, data,
                            **{**OWN, "scales": SCALES, "trunk_rate": TRUNK_RATE, **given})


def solver(**given):
    """Return the solver: the loss is normalised, so the rate is not the paper's, and it falls to 0 at `max_iter`."""
    return VOC_ONLY.solver("fcn_squeezenet", {
        **OWN, "base_lr": 1e-3, "lr_policy": "poly", "power": 0.9, "momentum": 0.9, "max_iter": 4160, "snapshot": 1040},
        given)
