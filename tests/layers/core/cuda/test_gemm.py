"""Matrix products on a card against numpy's, and tiles against the plain kernel."""

import numpy as np
import pytest

from layers.core.cuda import tiles
from layers.core.cuda.gemm import gemm, gemm_plain
from tests.layers.core.cuda.support import card, get, put, simulated

pytestmark = simulated
TOLERANCE = {None: 2e-6, tiles.FLOAT32: 2e-6, tiles.SPLIT: 2e-6, tiles.TF32: 2e-3}
KINDS = [(False, False), (False, True), (True, False)]


def product(m, n, k, transpose_a, transpose_b, how, alpha=1, beta=0, biased=False):
    """Compute by gemm and in float64; assert that they are close; return ours."""
    rng = np.random.default_rng(m + n + k)
    a, b, c, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n), (m, n), (n,)))
    expected = alpha * (a.astype(np.float64) @ b) + (beta * c if beta else 0) + (bias if biased else 0)
    if not beta:
        c[...] = np.nan
    parts = [put(array) for array in (a.T if transpose_a else a, b.T if transpose_b else b, c, bias)]
    (_, one), (_, two), (_, to), (_, offset) = parts
    compute = gemm_plain if how is None else gemm
    compute(card(), one, two, to, m, n, k, transpose_a, transpose_b, alpha, beta, offset if biased else None,
            **({} if how is None else {"how": how}))
    ours = get(to, (m, n))
    assert abs(ours - expected).max() <= TOLERANCE[how] * np.sqrt(k)
    return ours


@pytest.mark.parametrize("transpose_a, transpose_b", [*KINDS, (True, True)])
def test_plain_products_equal_numpy(transpose_a, transpose_b):
    product(3, 5, 7, transpose_a, transpose_b, None)
    product(4, 1, 2, transpose_a, transpose_b, None, alpha=-2, beta=0.5, biased=True)


@pytest.fixture
def tiled(monkeypatch):
    """Let small products go by tiles."""
    monkeypatch.setattr("layers.core.cuda.gemm.LEAST", 0)


@pytest.mark.parametrize("transpose_a, transpose_b", KINDS)
def test_tiles_of_float32_equal_numpy(tiled, transpose_a, transpose_b):
    product(5, 9, 19, transpose_a, transpose_b, tiles.FLOAT32, alpha=2, beta=0.5, biased=True)  # nothing is a multiple of 4
    product(68, 260, 20, transpose_a, transpose_b, tiles.FLOAT32)  # all are; several tiles


@pytest.mark.parametrize("transpose_a, transpose_b", KINDS)
def test_tiles_on_tensor_cores_equal_numpy(tiled, transpose_a, transpose_b):
    product(33, 41, 13, transpose_a, transpose_b, tiles.SPLIT, biased=True)


def test_tf32_rounds_its_factors(tiled):
    ours = product(20, 24, 16, False, True, tiles.TF32)
    exact = product(20, 24, 16, False, True, None)
    assert abs(ours - exact).max() > 1e-5


def test_long_sums_are_cut_into_parts_that_are_added_in_order(tiled, monkeypatch):
    monkeypatch.setattr(tiles, "parts_for", lambda card, blocks, steps, count: (3, 2))
    cut = product(3, 5, 16 * 5 + 3, False, True, tiles.FLOAT32, alpha=2, beta=0.5, biased=True)
    np.testing.assert_array_equal(cut, product(3, 5, 16 * 5 + 3, False, True, tiles.FLOAT32, alpha=2, beta=0.5, biased=True))


def test_parts_cover_the_sum_and_fill_the_card():
    class Large:
        processors = 132

    for blocks, steps in ((1, 1), (1, 7), (1, 1568), (64, 288), (132, 288), (3, 30450), (6272, 16)):
        parts, each = tiles.parts_for(Large, blocks, steps, 1 << 20)
        assert (parts - 1) * each < steps <= parts * each
    assert tiles.parts_for(Large, 64, 1568, 1 << 20)[0] > 1
    assert tiles.parts_for(Large, 6272, 16, 1 << 20) == (1, 16)
