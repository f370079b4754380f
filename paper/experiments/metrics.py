"""The four metrics of section 5, in fractions beside the project's; and the classes a mean is taken over."""

from fractions import Fraction

import numpy as np

from data import metrics
from paper.experiment import exact

TITLE = "The metrics"
PLACE = "5"
MINUTES = 0.05
NEEDS = ()
DEPENDS = ("data/metrics.py",)
NAMES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")
# Confusion matrices (row: truth) and their four scores, worked by hand: no class absent, three classes, one absent.
WORKED = (
    (((3, 1), (2, 4)), (Fraction(7, 10), Fraction(17, 24), Fraction(15, 28), Fraction(19, 35))),
    (((8, 0, 0), (0, 1, 1), (2, 0, 4)), (Fraction(13, 16), Fraction(13, 18), Fraction(131, 210), Fraction(379, 560))),
    (((6, 2, 0), (1, 3, 0), (0, 0, 0)), (Fraction(3, 4), Fraction(3, 4), Fraction(7, 12), Fraction(11, 18))),
)
DRAWN = 200


def run(context):
    """Score and compare."""
    by_hand = sum(error(matrix, want) < 1e-15 for matrix, want in WORKED)
    rng = np.random.default_rng(context.seed)
    drawn = max(error(matrix, formulas(matrix)) for matrix in (rng.integers(0, 50, (4, 4)) for _ in range(DRAWN)))
    kept, without = absent_classes(), without_background()
    return {"rows": [
        exact("Pixel accuracy, mean accuracy, mean IU and frequency weighted IU", "5",
              f"the formulas in fractions on {DRAWN} drawn matrices and {len(WORKED)} matrices worked by hand, beside ours",
              "four formulas", f"{by_hand} of {len(WORKED)} by hand; off by {drawn:.1g} at most",
              by_hand == len(WORKED) and drawn < 1e-14),
        exact("Classes that the test set does not hold are left out of SIFT Flow's scores", "5, Table 6",
              "a matrix of three classes whose third is only predicted: mean IU of all classes, and with `exclude=absent`",
              "only classes present", f"{kept[0]} of all, {kept[1]} of those present", kept[0] < kept[1],
              "Footnote 6: three of the 33 classes. A class that is wrongly predicted has IU 0 otherwise."),
        exact("Table 8 scores mean IU excluding background", "6.1, Table 8", "a matrix worked by hand, background excluded",
              "4/7", str(without), without == Fraction(4, 7), "Background's pixels still count as errors of the others."),
    ]}


def formulas(matrix):
    """Return the four scores of section 5 as fractions; a class that is neither there nor predicted has no IU."""
    n = [[int(value) for value in row] for row in matrix]
    classes = range(len(n))
    t = [sum(row) for row in n]
    union = [t[i] + sum(n[j][i] for j in classes) - n[i][i] for i in classes]
    accuracy = [Fraction(n[i][i], t[i]) for i in classes if t[i]]
    unions = [Fraction(n[i][i], union[i]) for i in classes if union[i]]
    return (Fraction(sum(n[i][i] for i in classes), sum(t)), sum(accuracy) / len(accuracy), sum(unions) / len(unions),
            sum(Fraction(t[i] * n[i][i], union[i]) for i in classes if union[i]) / sum(t))


def error(matrix, want):
    """Return the largest difference of the four scores."""
    found = metrics.scores(np.array(matrix))
    return max(abs(found[name] - float(value)) for name, value in zip(NAMES, want))


def absent_classes():
    """Return mean IU of a matrix with a class that is only predicted, over all classes and over those present."""
    matrix = np.array([[6, 2, 0], [1, 3, 1], [0, 0, 0]])
    return tuple(str(Fraction(metrics.scores(matrix, exclude=exclude)["mean_iu"]).limit_denominator(1000))
                 for exclude in ((), "absent"))


def without_background():
    """Return the mean IU of the first worked matrix without class 0."""
    return Fraction(metrics.scores(np.array(WORKED[0][0]), exclude=(0,))["mean_iu"]).limit_denominator(1000)
