"""Sums of squares on a card against NumPy's in double precision."""

import numpy as np
import pytest

from layers.core.blob import Blob
from layers.core.cuda import card as cards
from layers.core.cuda import squares
from tests.layers.core.cuda.simulated import needs_card

pytestmark = needs_card


def blobs_of(arrays, diff=False):
    blobs = [Blob(np.shape(values), "x") for values in arrays]
    for blob, values in zip(blobs, arrays):
        (blob.diff if diff else blob.data)[...] = values
    return blobs


@pytest.mark.parametrize("diff", [False, True])
def test_sums_equal_numpys(diff, monkeypatch):
    monkeypatch.setattr(squares, "BLOCK", 700)  # several blocks of a size that can be simulated
    card, random = cards.find("gpu"), np.random.RandomState(1)
    arrays = [random.randn(*shape).astype("f4") for shape in ((3, 5), (0,), (1500,), (700,))]
    arrays[3] *= 1e30
    found = squares.sums_of_squares(card, blobs_of(arrays, diff), diff)
    expected = [(values.astype("f8") ** 2).sum() for values in arrays]
    assert found == pytest.approx(expected, rel=1e-14) and found[1] == 0
    assert squares.sums_of_squares(card, blobs_of(arrays, diff), diff) == found
    assert squares.sums_of_squares(card, []) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows(bad):
    values = np.full(300, 3e38, "f4")
    whole, broken = blobs_of([values, np.where(np.arange(300) == 299, np.float32(bad), values)])
    found = squares.sums_of_squares(cards.find("gpu"), [whole, broken])
    assert np.isfinite(found[0]) and not np.isfinite(found[1])
