"""The figures that need the paper's data, its weights or ImageNet's: what would be run, and what is missing here."""

import os

from netspec import files
from paper.experiment import Row

TITLE = "What waits for data and weights"
PLACE = "5"
MINUTES = 0.02
NEEDS = ()

# What is asked for: (what it is, where it is looked for).
VGG = ("ImageNet weights of VGG16 cast to convolutions (vgg16-fcn.caffemodel)", "vgg16-fcn.caffemodel")
ALEXNET = ("ImageNet weights of CaffeNet cast to convolutions (alexnet-fcn.caffemodel)", "alexnet-fcn.caffemodel")
GOOGLENET = ("ImageNet weights of GoogLeNet (the authors' own training, never published)", "googlenet-fcn.caffemodel")
SBD = ("SBD's 8,498 training images", "data/sbdd/dataset")
VOC = ("PASCAL VOC 2011", "data/pascal/VOC2011")
VOC_TEST = ("the labels of PASCAL VOC's test sets, which only its server has", "data/pascal/test-labels")
NYUD = ("NYUDv2 with HHA", "data/nyud")
SIFT = ("SIFT Flow", "data/sift-flow")
CONTEXT = ("PASCAL-Context", "data/pascal-context")
PUBLISHED = ("the published caffemodels", "weights")

FOUR = ("pixel acc.", "mean acc.", "mean IU", "f.w. IU")
SCORE = "make published WEIGHTS=weights DATA=data"


def train(model, weights="vgg16-fcn.caffemodel", options=""):
    """Return the commands that train a model and score it on its second split."""
    if options:
        return (f"python -m netspec.make {model} {options} --into runs/{model}; python -m solvers.run "
                f"runs/{model}/solver.prototxt --weights {weights}; python -m solvers.score")
    return f"python -m solvers.run models/{model}/solver.prototxt --weights {weights}; python -m solvers.score"


def four(claim, place, scores, ran, *missing):
    """Return the claim of a table's line with four scores."""
    return claim, place, ", ".join(f"{name} {score}" for name, score in zip(FOUR, scores)), ran, missing


CLAIMS = (
    ("FCN-AlexNet reaches 39.8 mean IU on PASCAL VOC 2011 val", "Table 1", "39.8", train("fcn_alexnet", "alexnet-fcn.caffemodel"),
     (ALEXNET, VOC)),
    ("FCN-VGG16 reaches 56.0 mean IU on PASCAL VOC 2011 val at a fixed rate", "Table 1", "56.0",
     train("fcn32s", options="--set learning=table1"), (VGG, VOC)),
    ("FCN-GoogLeNet reaches 42.5 mean IU on PASCAL VOC 2011 val", "Table 1", "42.5",
     train("fcn_googlenet", "googlenet-fcn.caffemodel"), (GOOGLENET, VOC)),
    four("FCN-accum: the scores of batches of 20, momentum 0.9", "Table 2", (86.0, 66.5, 51.9, 76.5),
         train("fcn32s", options="--set learning=accum"), VGG, SBD, VOC),
    four("FCN-online: the scores of single images, momentum 0.9", "Table 2", (89.3, 76.2, 60.7, 81.8),
         train("fcn32s", options="--set learning=online"), VGG, SBD, VOC),
    four("FCN-heavy: the scores of single images, momentum 0.99", "Table 2", (90.5, 76.5, 63.6, 83.5), SCORE, PUBLISHED, VOC),
    four("FCN-32s", "4.3, Table 3", (90.5, 76.5, 63.6, 83.5), SCORE, PUBLISHED, VOC),
    four("FCN-16s", "4.3, Table 3", (91.0, 78.1, 65.0, 84.3), SCORE, PUBLISHED, VOC),
    four("FCN-8s at-once", "4.3, Table 3", (91.1, 78.5, 65.4, 84.4), SCORE, PUBLISHED, VOC),
    four("FCN-8s staged", "4.3, Table 3", (91.2, 77.6, 65.5, 84.5), SCORE, PUBLISHED, VOC),
    four("FCN-32s fixed", "4.3, Table 3", (82.9, 64.6, 46.6, 72.3), train("fcn32s_fixed"), VGG, SBD, VOC),
    four("FCN-pool5", "4.3, Table 3", (87.4, 60.5, 50.0, 78.5), train("fcn_pool5"), VGG, SBD, VOC),
    four("FCN-pool4", "4.3, Table 3", (78.7, 31.7, 22.4, 67.0), train("fcn_pool4"), VGG, SBD, VOC),
    four("FCN-pool3", "4.3, Table 3", (70.9, 13.7, 9.2, 57.6), train("fcn_pool3"), VGG, SBD, VOC),
    ("SBD's labels instead of VOC's improve FCN-32s from 57.7 to 63.6 mean IU", "4.4", "57.7, 63.6", train("fcn32s"),
     (VGG, SBD, VOC)),
    ("and FCN-AlexNet from 39.8 to 48.0", "4.4", "39.8, 48.0", train("fcn_alexnet", "alexnet-fcn.caffemodel"),
     (ALEXNET, SBD, VOC)),
    ("Training in stages takes 36 hours, all at once half the time", "4.4", "36 h, 18 h",
     f"time {train('fcn32s')}, fcn16s, fcn8s; fcn8s_atonce", (VGG, SBD, VOC)),
    ("Training from scratch gives substantially lower accuracy", "4.4", "lower",
     "python -m solvers.run models/fcn32s/solver.prototxt --fill msra", (SBD, VOC)),
    ("FCN-8s reaches 67.5 mean IU on PASCAL VOC 2011 test", "5, Table 4", "67.5",
     "python -m solvers.infer fcn8s fcn8s-heavy-pascal.caffemodel JPEGImages/ results/", (PUBLISHED, VOC_TEST)),
    ("FCN-8s reaches 67.2 mean IU on PASCAL VOC 2012 test", "5, Table 4", "67.2",
     "python -m solvers.infer fcn8s fcn8s-heavy-pascal.caffemodel JPEGImages/ results/", (PUBLISHED, VOC_TEST)),
    four("NYUDv2, FCN-32s RGB", "5, Table 5", (61.8, 44.7, 31.6, 46.0), SCORE, PUBLISHED, NYUD),
    four("NYUDv2, FCN-32s RGB-D", "5, Table 5", (62.1, 44.8, 31.7, 46.3), train("nyud_fcn32s_color_d"), VGG, NYUD),
    four("NYUDv2, FCN-32s HHA", "5, Table 5", (58.3, 35.7, 25.2, 41.7), SCORE, PUBLISHED, NYUD),
    four("NYUDv2, FCN-32s RGB-HHA", "5, Table 5", (65.3, 44.0, 33.3, 48.6), SCORE, PUBLISHED, NYUD),
    four("SIFT Flow, FCN-8s, semantic classes", "5, Table 6", (85.9, 53.9, 41.2, 77.2), SCORE, PUBLISHED, SIFT),
    ("SIFT Flow, FCN-8s, pixel accuracy of geometric classes", "5, Table 6", "94.6", SCORE, (PUBLISHED, SIFT)),
    ("One net on both tasks is as good as two independently trained", "5, Table 6", "as well", train("siftflow_fcn8s"),
     (VGG, SIFT)),
    four("PASCAL-Context, FCN-32s", "5, Table 7", (65.5, 49.1, 36.7, 50.9), SCORE, PUBLISHED, CONTEXT),
    four("PASCAL-Context, FCN-16s", "5, Table 7", (66.9, 51.3, 38.4, 52.3), SCORE, PUBLISHED, CONTEXT),
    four("PASCAL-Context, FCN-8s", "5, Table 7", (67.5, 52.3, 39.1, 53.0), SCORE, PUBLISHED, CONTEXT),
    ("Fine structures, touching objects and occluders in the output of FCN-8s; lifejackets and hair as failures", "5, Fig. 6",
     "pictures", "python -m solvers.infer fcn8s fcn8s-heavy-pascal.caffemodel JPEGImages/ pictures/", (PUBLISHED, VOC)),
    ("Strides of 32, 16 and 8 show progressively finer structure on PASCAL VOC", "4.3, Fig. 4", "pictures",
     "python -m solvers.infer fcn8s fcn8s-heavy-pascal.caffemodel JPEGImages/ pictures/ (and fcn16s, fcn32s)", (PUBLISHED, VOC)),
    ("A net that has seen only shapes recognises PASCAL VOC's objects by them", "6.1, Fig. 7", "pictures",
     train("fcn32s", options="--set condition=Shape"), (VGG, SBD, VOC)),
    *((f"{name}: mean IU without background on masked images", "6.1, Table 8", f"{score}",
       train("fcn32s", options=f"--set condition={name}"), (VGG, SBD, VOC))
      for name,
      score in (("Reference", 84.8), ("Reference-FG", 81.0), ("Reference-BG", 19.8), ("FG-only", 76.1), ("BG-only", 37.8),
                          ("Shape", 29.1))),
    ("The null background scores 1 point lower than FCN-32s with the softmax loss, or the sigmoid loss and a background", "6.1",
     "-1",
     train("fcn32s_null_background"), (VGG, SBD, VOC)),
)


def run(context):
    """Say what is missing."""
    there = {place: os.path.exists(files.ROOT / place) for *_, missing in CLAIMS for _, place in missing}
    return {"rows": [Row(claim, place, f"`{ran}`", paper, "not run", "needs data", missing_of(missing, there))
                     for claim, place, paper, ran, missing in CLAIMS], "numbers": {"there": there}}


def missing_of(needed, there):
    """Return what of it is missing, and where it is looked for."""
    missing = [f"{what} (`{place}`)" for what, place in needed if not there[place]]
    return f"Missing: {'; '.join(missing)}." if missing else "All of it is there; run the command."
