"""The four scores of the paper's section 5, from a confusion matrix.

With n_ij the number of pixels of class i that are predicted to be class j and t_i = sum_j n_ij:

    pixel accuracy          sum_i n_ii / sum_i t_i
    mean accuracy           mean_i n_ii / t_i
    mean IU                 mean_i n_ii / (t_i + sum_j n_ji - n_ii)
    frequency weighted IU   sum_i t_i n_ii / (t_i + sum_j n_ji - n_ii) / sum_k t_k

The matrix is summed over a whole split first; scores of single pictures are never averaged.
"""

import numpy as np

from netspec.errors import Error, UnknownName, nearest

RULE = ("pixels labelled 255 (or outside the classes) are not counted; a class absent from truth and prediction has no "
        "IU and is left out of the mean; absent from the truth but predicted it has IU 0 and no accuracy")

CHUNK = 1 << 20  # pixels a bincount: its index array stays within the caches


def confusion(label, prediction, classes):
    """Count the pixels of every (truth, prediction) pair.

    Parameters
    ----------
    label : integer array of any shape; only pixels with ``0 <= label < classes`` are counted, so 255 is ignored.
    prediction : integer array of as many pixels, in [0, classes) wherever the label counts.

    Returns
    -------
    (classes, classes) int64; row = truth, column = prediction.
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    if label.size != prediction.size:
        raise Error(f"label {label.shape} and prediction {prediction.shape} differ in size")
    if classes < 1:
        raise Error(f"classes must be 1 or more, got {classes}")
    for what, array in (("label", label), ("prediction", prediction)):
        if array.dtype.kind not in "uib":
            raise Error(f"{what} must hold integers, got {array.dtype}")
    label, prediction = label.reshape(-1), prediction.reshape(-1)
    counts = np.zeros(classes * classes, np.int64)
    for first in range(0, label.size, CHUNK):
        truth, guess = label[first:first + CHUNK], prediction[first:first + CHUNK]
        valid = truth < classes
        if truth.dtype.kind == "i":
            valid &= truth >= 0
        truth, guess = truth[valid].astype(np.int64), guess[valid].astype(np.int64)
        if guess.size and not (guess.min() >= 0 and guess.max() < classes):
            bad = guess.min() if guess.min() < 0 else guess.max()
            raise Error(f"prediction {bad} is outside the {classes} classes (0 to {classes - 1})")
        counts += np.bincount(truth * classes + guess, minlength=classes * classes)
    return counts.reshape(classes, classes)


def scores(hist, exclude=(), names=None):
    """Score a confusion matrix.

    Parameters
    ----------
    hist : (classes, classes) counts, row = truth.
    exclude : classes (indices, or names when `names` is given) left out of mean accuracy and mean IU, such as the
        background, or SIFT Flow's three classes that its test split does not hold; or the word ``"absent"``: every
        class that the truth does not hold. Their pixels still count in the other two scores and as others' errors.
    names : class names, for `exclude` and for the result.

    Returns
    -------
    dict with floats ``pixel_accuracy``, ``mean_accuracy``, ``mean_iu``, ``frequency_weighted_iu`` (nan when nothing was
    counted), float64 arrays ``class_accuracy`` and ``class_iu`` of all classes (nan where undefined), int ``pixels``,
    int array ``class_pixels`` (of the truth), list ``excluded`` (indices), ``names`` and the ``rule``.

    Absent classes: see `RULE`; the published score.py does the same (``nanmean``).
    """
    hist = np.asarray(hist)
    if hist.ndim != 2 or hist.shape[0] != hist.shape[1]:
        raise Error(f"a confusion matrix is square, got {hist.shape}")
    hist = hist.astype(np.float64)
    truth, predicted, right = hist.sum(axis=1), hist.sum(axis=0), np.diag(hist)
    total = truth.sum()
    accuracy = _divide(right, truth)
    union = _divide(right, truth + predicted - right)
    excluded = _excluded(exclude, names, truth)
    kept = np.ones(len(hist), bool)
    kept[excluded] = False
    held = truth > 0
    return {
        "pixel_accuracy": float(_divide(right.sum(), total)),
        "mean_accuracy": _mean(accuracy[kept]),
        "mean_iu": _mean(union[kept]),
        "frequency_weighted_iu": float(_divide((truth[held] * union[held]).sum(), total)),
        "class_accuracy": accuracy,
        "class_iu": union,
        "class_pixels": truth.astype(np.int64),
        "pixels": int(total),
        "excluded": excluded,
        "names": list(names) if names is not None else None,
        "rule": RULE + (f"; {len(excluded)} classes excluded from the two class means" if excluded else ""),
    }


def _excluded(exclude, names, truth):
    # The indices of the excluded classes, ascending.
    if isinstance(exclude, str):
        exclude = [exclude]
    found = set()
    for one in exclude:
        if one == "absent":
            found.update(np.flatnonzero(truth == 0).tolist())
        elif isinstance(one, str):
            if names is None or one not in names:
                known = list(names or [])
                raise UnknownName(f"unknown class '{one}' in exclude{nearest(one, known)}; "
                                  f"classes: {', '.join(known) or 'unnamed'}")
            found.add(list(names).index(one))
        elif 0 <= one < len(truth):
            found.add(int(one))
        else:
            raise UnknownName(f"class {one} in exclude is outside the {len(truth)} classes (0 to {len(truth) - 1})")
    return sorted(found)


def _divide(a, b):
    # a / b, nan where b is 0, without a warning.
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b != 0)


def _mean(values):
    # The mean of what is defined; nan when nothing is.
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
