"""The paper's method on SqueezeNet v1.0: 5 MB of ImageNet weights, streams at strides 16, 8 and 4, trained at once.

Start it from the ImageNet weights, ``--weights squeezenet_v1.0.caffemodel``: the layers have their names.
"""

from models import families
from models.datasets import VOC_ONLY

DESCRIPTION = "the paper's method on SqueezeNet v1.0, PASCAL VOC: streams at strides 16, 8 and 4, trained at once"
SPLITS = VOC_ONLY.splits


def net(split, classes=VOC_ONLY.classes, data=None, **options):
    """Return the net of `split`; `options` are those of `families.squeezenet`, for trying other numbers."""
    return families.squeezenet(VOC_ONLY, split, classes, data, **options)


def solver(**fields):
    """Return the solver: the loss is normalised, so the rate is not the paper's."""
    return VOC_ONLY.solver("fcn_squeezenet", **{
        "base_lr": 1e-3, "momentum": 0.9, "max_iter": 4000, "snapshot": 1000, **fields})
