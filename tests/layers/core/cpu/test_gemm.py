"""The matrix product equals float64's, for all shapes, storages and numbers of threads."""

import numpy as np
import pytest

from layers.core.cpu import gemm, parallel
from layers.core.cpu.isa import ISA
from tests.layers.core.cpu.emulated import again

SHAPES = [(1, 1, 1), (3, 5, 4), (14, 16, 32), (15, 17, 33), (28, 1, 7), (1, 300, 70), (70, 300, 1), (29, 257, 31),
          (97, 530, 451), (6, 0, 5)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product_with_any_storage(shape):
    rows, depth, columns = shape
    a, b = normal(rows, depth), normal(depth, columns, seed=1)
    expected = a.astype(np.float64) @ b
    tolerance = 1e-6 * max(abs(expected).max(), 1)
    for left in (a, np.ascontiguousarray(a.T).T, np.repeat(a, 2, axis=1)[:, ::2], a[::-1][::-1]):
        for right in (b, np.ascontiguousarray(b.T).T, np.pad(b, ((0, 0), (0, 3)))[:, :columns]):
            out = np.full((rows, columns), np.nan, np.float32)
            gemm.gemm(left, right, out)
            np.testing.assert_allclose(out, expected, rtol=0, atol=tolerance)


def test_bias_accumulation_and_clamp():
    a, b = normal(20, 40), normal(40, 50, seed=1)
    down, across = normal(20, seed=2), normal(50, seed=3)
    plain = a @ b + down[:, None] + across
    out = np.full((20, 50), np.nan, np.float32)
    gemm.gemm(a, b, out, down, across)
    np.testing.assert_allclose(out, plain, rtol=0, atol=1e-5)
    gemm.gemm(a, b, out, accumulate=True, relu=True)
    np.testing.assert_allclose(out, np.maximum(plain + a @ b, 0), rtol=0, atol=2e-5)


def test_clamp_keeps_nan():
    a = np.ones((3, 4), np.float32)
    a[1, 2] = np.nan
    out = np.zeros((3, 5), np.float32)
    gemm.gemm(a, -np.ones((4, 5), np.float32), out, relu=True)
    assert np.isnan(out[1]).all() and (out[[0, 2]] == 0).all()


def test_only_the_result_is_written():
    room = np.full((9, 40), 7, np.float32)
    gemm.gemm(normal(5, 3), normal(3, 21), room[2:7, 4:25])
    outside = np.ones(room.shape, bool)
    outside[2:7, 4:25] = False
    assert (room[outside] == 7).all() and (room[~outside] != 7).all()


def test_operands_at_the_end_of_their_memory_are_not_read_beyond():
    guarded = np.full(40 * 33 + 64, np.nan, np.float32)
    b = guarded[: 40 * 33].reshape(40, 33)
    b[...] = normal(40, 33)
    for right, left in ((b, normal(20, 40)), (b.T, normal(20, 33))):
        out = np.zeros((20, right.shape[1]), np.float32)
        gemm.gemm(left, right, out)
        assert np.isfinite(out).all()


# Right operands of many columns, and of few, where either the columns or the rows are shared out.
@pytest.mark.parametrize("shape", [(61, 700, 1500), (21, 700, 250), (250, 700, 61), (5, 300, 20)], ids=str)
def test_bits_do_not_depend_on_the_number_of_threads(shape):
    rows, depth, columns = shape
    a, b = normal(rows, depth), normal(depth, columns, seed=1)
    results = []
    for threads in (1, 2, 3, 5):
        parallel.set_threads(threads)
        out = np.empty((rows, columns), np.float32)
        gemm.gemm(a, b, out)
        results.append(out)
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_left_operand_larger_than_what_is_packed_at_a_time(monkeypatch):
    monkeypatch.setattr(gemm, "PACKED", 3 * ISA.rows * gemm.DEPTH)
    a, b = normal(100, 900), normal(900, 80, seed=1)
    out = np.empty((100, 80), np.float32)
    gemm.gemm(a, b, out, relu=True)
    np.testing.assert_allclose(out, np.maximum(a.astype(np.float64) @ b, 0), rtol=0, atol=1e-4)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"cannot multiply \(2, 3\) by \(4, 5\)"):
        gemm.gemm(normal(2, 3), normal(4, 5), np.empty((2, 5), np.float32))


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
