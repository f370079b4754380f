"""A small FCN-8s for the embedded sample images: learns from scratch in about two minutes on a CPU.

Its options are those of the paper's experiments, at a size where they can be run: ``--set finest=32``, ``--set only=pool4``,
``--set learning=accum`` ... In stages, weights carry over by name: 32, then ``--set finest=16 --set stages=staged``, then 8.
"""

from models import small
from models.datasets import SAMPLE
from models.design import describe

DESCRIPTION = "a narrow FCN-8s for the embedded sample images: learns from scratch on a CPU"
SECTION = ""
SPLITS = SAMPLE.splits
OPTIONS = describe("finest", "only", "form", "interpolation", "fusion", "features", "biases", "normalization", "loss",
                   "background", "class_weights", "condition", "mirror", "jitter", "sampling", "learning", "gradients",
                   "stages")
OWN = {"finest": 8, "normalization": "VALID"}


def net(split, classes=SAMPLE.classes, data=None, **given):
    """Return the net of `split`; `given` are the OPTIONS and the numbers of `small.narrow`."""
    return small.narrow(SAMPLE, split, classes, data, **{**OWN, **given})


def solver(**given):
    """Return the solver: the loss is normalised, so the rate is not the paper's."""
    return SAMPLE.solver("fcn_sample", {
        **OWN, "base_lr": 0.01, "momentum": 0.9, "max_iter": 1500, "snapshot": 500, "random_seed": 1337}, given)
