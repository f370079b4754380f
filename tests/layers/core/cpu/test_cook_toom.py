"""The matrices compute correlations exactly."""

from fractions import Fraction

import pytest

from layers.core.cpu import cook_toom


@pytest.mark.parametrize("m, r", [*cook_toom.POINTS, (3, 2)])
def test_matrices_give_the_correlation_exactly(m, r):
    points = cook_toom.POINTS.get((m, r), (0, 2, Fraction(1, 3)))
    at, g, bt = cook_toom.matrices(m, r, points)
    n = m + r - 1
    data, taps = [Fraction(3 * i * i - 7, 5) for i in range(n)], [Fraction(i - 4, i + 1) for i in range(r)]
    left = [sum(a * x for a, x in zip(row, data)) for row in bt]
    right = [sum(a * x for a, x in zip(row, taps)) for row in g]
    results = [sum(a * x * y for a, x, y in zip(row, left, right)) for row in at]
    assert results == [sum(data[i + k] * taps[k] for k in range(r)) for i in range(m)]


def test_points_must_be_different_and_enough():
    for points in [(0, 1, 1), (0, 1)]:
        with pytest.raises(ValueError, match="needs 3 different points"):
            cook_toom.matrices(2, 3, points)
