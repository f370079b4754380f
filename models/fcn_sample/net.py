"""A small FCN-8s for the embedded sample images: learns from scratch in about two minutes on a CPU."""

from models import families
from models.datasets import SAMPLE

DESCRIPTION = "a narrow FCN-8s for the embedded sample images: learns from scratch on a CPU"
SPLITS = SAMPLE.splits


def net(split, classes=SAMPLE.classes, data=None, **options):
    """Return the net of `split`; `options` are those of `families.narrow`, for trying other numbers."""
    return families.narrow(SAMPLE, split, classes, data, **options)


def solver(**fields):
    """Return the solver: the loss is normalised, so the rate is not the paper's."""
    return SAMPLE.solver("fcn_sample", **{
        "base_lr": 0.01, "momentum": 0.9, "max_iter": 1500, "snapshot": 500, "random_seed": 1337, **fields})
