"""Scores to classes on a card, and which class was predicted where which was true: only counts are brought to the host."""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda.counts import count_up
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel


def compare(card, scores, labels, wanted=False):
    """Return (confusion matrix, prediction) of the positions of two blobs, or None if the scores hold NaN or a label a fraction.

    Parameters
    ----------
    scores : Blob
        (N, classes, ...); ties go to the lower class.
    labels : Blob
        As many values as there are positions; those that are no class do not count.
    wanted : bool
        Whether the prediction is asked for.

    Returns
    -------
    (classes, classes) int64, row = truth; and (N, ...) uint8, or int32 for more than 256 classes; None unless `wanted`.
    """
    classes, inner = scores.shape[1], math.prod(scores.shape[2:])
    positions, bins = scores.shape[0] * inner, classes * classes
    prediction, codes = card.arena.borrow(4 * positions), card.arena.borrow(4 * positions)
    counts = card.arena.borrow(4 * (bins + 1))  # and a flag behind them: one download for both
    flag = card.within(counts.span, 4 * bins, 4)
    card.clear(flag, 4)
    card.run(classes_cuda, positions, scores.on(card), classes, inner, prediction.span, flag)
    card.run(pairs_cuda, positions, labels.on(card), prediction.span, classes, codes.span, flag)
    count_up(card, codes.span, positions, bins, counts.span)
    found = np.empty(bins + 1, np.int32)
    card.download(found, counts.span)
    if found[-1]:
        return None
    numbers = None
    if wanted:
        numbers = np.empty((scores.shape[0], *scores.shape[2:]), np.int32)
        card.download(numbers, prediction.span)
        numbers = numbers.astype(np.uint8 if classes <= 256 else np.int32)
    return found[:-1].astype(np.int64).reshape(classes, classes), numbers


def classes(card, scores):
    """Return the class of each position of a blob (N, classes, ...), as `compare` does; None if the scores hold NaN."""
    many, inner = scores.shape[1], math.prod(scores.shape[2:])
    positions = scores.shape[0] * inner
    prediction = card.arena.borrow(4 * (positions + 1))  # and a flag behind them
    flag = card.within(prediction.span, 4 * positions, 4)
    card.clear(flag, 4)
    card.run(classes_cuda, positions, scores.on(card), many, inner, prediction.span, flag)
    found = np.empty(positions + 1, np.int32)
    card.download(found, prediction.span)
    if found[-1]:
        return None
    return found[:-1].reshape(scores.shape[0], *scores.shape[2:]).astype(np.uint8 if many <= 256 else np.int32)


@cached
def is_whole(label):
    """Whether a label is a whole number that fits into 32 bits; NaN is none."""
    return abs(label) < 2.0**31 and label == math.floor(label)


@kernel("float*, int, int, int*, int*, int")
def classes_cuda(scores, classes, inner, prediction, flag, count):
    """The first of the greatest scores of each position; NaN raises the flag."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        first = over(i, inner) * (classes - 1) * inner + i
        best, number, odd = scores[first], 0, scores[first] != scores[first]
        for c in range(1, classes):
            value = scores[first + c * inner]
            if value > best:
                best, number = value, c
            odd |= value != value
        prediction[i] = number
        if odd:
            flag[0] = 1


@kernel("float*, int*, int, int*, int*, int")
def pairs_cuda(labels, prediction, classes, codes, flag, count):
    """truth * classes + prediction of each position, -1 where the label is no class; a fraction raises the flag."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        label, code = labels[i], -1
        if 0 <= label < classes:
            code = np.int64(label) * classes + prediction[i]
        if not is_whole(label):
            flag[0] = 1
        codes[i] = code
