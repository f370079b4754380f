"""The paper's four scores on matrices worked by hand."""

import math

import numpy as np
import pytest

from data import metrics
from netspec.errors import Error


def test_confusion_counts_pairs_and_ignores_255():
    label = np.array([[0, 0, 1], [2, 255, 1]], np.uint8)
    prediction = np.array([[0, 1, 1], [0, 2, 1]])
    assert metrics.confusion(label, prediction, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_confusion_equals_plain_loops_across_chunks(monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 37)
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(-1, 8, (13, 17)), rng.integers(0, 6, (13, 17))
    expected = np.zeros((6, 6), np.int64)
    for truth, guess in zip(label.ravel(), prediction.ravel()):
        if 0 <= truth < 6:
            expected[truth, guess] += 1
    got = metrics.confusion(label, prediction, 6)
    assert got.dtype == np.int64 and np.array_equal(got, expected)


def test_prediction_outside_the_classes_counts_only_where_the_label_does():
    assert metrics.confusion(np.array([255, 1]), np.array([9, 1]), 2).tolist() == [[0, 0], [0, 1]]
    with pytest.raises(Error, match="prediction 2 is outside the 2 classes"):
        metrics.confusion(np.array([0, 1]), np.array([0, 2]), 2)
    with pytest.raises(Error, match="differ in size"):
        metrics.confusion(np.zeros(3, int), np.zeros(4, int), 2)
    with pytest.raises(Error, match="integers"):
        metrics.confusion(np.zeros(3), np.zeros(3, int), 2)


def test_scores_of_a_matrix_worked_by_hand():
    # t = 4, 6, 10; predicted = 5, 6, 9; right = 3, 4, 7
    hist = [[3, 1, 0], [0, 4, 2], [2, 1, 7]]
    s = metrics.scores(hist)
    assert s["pixels"] == 20 and s["class_pixels"].tolist() == [4, 6, 10]
    assert s["pixel_accuracy"] == pytest.approx(14 / 20)
    assert s["mean_accuracy"] == pytest.approx((3 / 4 + 4 / 6 + 7 / 10) / 3)
    assert s["class_iu"] == pytest.approx([3 / 6, 4 / 8, 7 / 12])
    assert s["mean_iu"] == pytest.approx((3 / 6 + 4 / 8 + 7 / 12) / 3)
    assert s["frequency_weighted_iu"] == pytest.approx((4 * 3 / 6 + 6 * 4 / 8 + 10 * 7 / 12) / 20)


def test_absent_everywhere_is_left_out_and_absent_but_predicted_has_iu_zero():
    # class 1 is nowhere; class 2 is not in the truth but predicted once
    hist = [[7, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    s = metrics.scores(hist)
    assert math.isnan(s["class_iu"][1]) and math.isnan(s["class_accuracy"][1])
    assert s["class_iu"][2] == 0 and math.isnan(s["class_accuracy"][2])
    assert s["mean_iu"] == pytest.approx((7 / 9 + 0 + 1 / 2) / 3)
    assert s["mean_accuracy"] == pytest.approx((7 / 8 + 1 / 2) / 2)
    assert s["frequency_weighted_iu"] == pytest.approx((8 * 7 / 9 + 2 / 2) / 10)
    assert metrics.RULE in s["rule"]


def test_classes_can_be_excluded_by_number_name_or_absence():
    hist = [[7, 0, 1], [0, 0, 0], [1, 0, 1]]
    names = ["background", "cow", "moon"]
    without = metrics.scores(hist, exclude=["background"], names=names)
    assert without["mean_iu"] == pytest.approx(1 / 3) and without["excluded"] == [0]
    assert without["mean_accuracy"] == pytest.approx(1 / 2)
    assert metrics.scores(hist, exclude=[0])["mean_iu"] == without["mean_iu"]
    assert without["pixel_accuracy"] == metrics.scores(hist)["pixel_accuracy"]
    absent = metrics.scores([[7, 1, 0], [0, 0, 0], [0, 0, 2]], exclude="absent")
    assert absent["excluded"] == [1] and absent["mean_iu"] == pytest.approx((7 / 8 + 1) / 2)
    with pytest.raises(Error, match="did you mean 'moon'"):
        metrics.scores(hist, exclude=["mon"], names=names)
    with pytest.raises(Error, match="outside the 3 classes"):
        metrics.scores(hist, exclude=[3])


def test_nothing_counted_is_nan_without_a_warning():
    s = metrics.scores(np.zeros((2, 2), int))
    assert math.isnan(s["pixel_accuracy"]) and math.isnan(s["mean_iu"]) and math.isnan(s["frequency_weighted_iu"])


def test_perfect_is_one_and_all_background_is_the_background_share():
    label = np.array([0] * 90 + [1] * 10)
    assert metrics.scores(metrics.confusion(label, label, 2))["mean_iu"] == 1
    assert metrics.scores(metrics.confusion(label, 0 * label, 2))["mean_iu"] == pytest.approx(0.45)


def test_scores_refuses_what_is_not_square():
    with pytest.raises(Error, match="square"):
        metrics.scores(np.zeros((2, 3)))
