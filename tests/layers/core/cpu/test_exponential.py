"""exp, logistic and tanh of float32 vectors against float64; their bits do not depend on the place."""

import numpy as np
import pytest

from layers.core.cpu.exponential import exp_less, logistics, tanhs
from layers.core.cpu.memory import address
from tests.layers.core.cpu.emulated import again


def exp(x):
    out, zeros = np.empty_like(x), np.zeros_like(x)
    exp_less(address(out), address(x), address(zeros), x.size)
    return out


def logistic(x):
    out = np.empty_like(x)
    logistics(address(out), address(x), np.float32(1), x.size)
    return out


def tanh(x):
    out = np.empty_like(x)
    tanhs(address(out), address(x), x.size)
    return out


def every(step, low, high):
    """Return each `step`-th float32 between two of the same sign, by their bits."""
    first, last = sorted(np.array([low, high], np.float32).view(np.uint32))
    return np.arange(first, last, step, dtype=np.uint32).view(np.float32)


def numbers():
    return np.concatenate([every(2999, sign * 1e-30, sign * 110) for sign in (1, -1)])


def exact(function, x):
    with np.errstate(all="ignore"):
        x = x.astype(np.float64)
        return {exp: np.exp, logistic: lambda x: 1 / (1 + np.exp(-x)), tanh: np.tanh}[function](x)


@pytest.mark.parametrize("function, limit", [(exp, 1.0e-7), (logistic, 1.6e-7), (tanh, 1.6e-7)])
def test_error(function, limit):
    x = numbers()
    wanted, got = exact(function, x), function(x).astype(np.float64)
    normal = (abs(wanted) > 1.2e-38) & (abs(wanted) < 3.4028e38)
    error = abs(got - wanted)[normal] / abs(wanted[normal])
    assert error.max() < limit, error.max()
    # 1 / (1 + exp(-x)) is 0 where exp(-x) is infinite.
    assert abs(got - wanted)[abs(wanted) <= 1.2e-38].max(initial=0) < (3e-39 if function is logistic else 3e-45)


def test_rules():
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 88.7, 88.8, -103, -105, 1e-40, -1e-40], np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(exp(x), np.exp(x.astype(np.float64)).astype(np.float32), rtol=2e-7, atol=1.5e-45)
    np.testing.assert_array_equal(exp(x[:7]), np.array([1, 1, np.inf, 0, np.nan, np.inf, 0], np.float32))
    np.testing.assert_array_equal(logistic(x[:7]), np.array([0.5, 0.5, 1, 0, np.nan, 1, 0], np.float32))
    np.testing.assert_array_equal(tanh(x[:7]), np.array([0, 0, 1, -1, np.nan, 1, -1], np.float32))
    np.testing.assert_array_equal(np.signbit(tanh(x[:2])), [False, True])
    np.testing.assert_array_equal(tanh(x[-2:]), x[-2:])


@pytest.mark.parametrize("function", [exp, logistic, tanh])
def test_bits_do_not_depend_on_the_place(function):
    x = np.random.default_rng(0).standard_normal(70, dtype=np.float32) * 20
    whole = function(x)
    for first, last in ((0, 1), (3, 18), (5, 70), (17, 34), (69, 70)):
        memory = np.concatenate([x[first:last], np.full(16, np.nan, np.float32)])
        part = memory[: last - first]
        assert np.array_equal(function(part), whole[first:last])
        assert np.isnan(memory[last - first :]).all()


def test_subtracts_and_works_in_place():
    x, less = np.random.default_rng(1).standard_normal((2, 35), dtype=np.float32)
    wanted = exp(x - less)
    exp_less(address(x), address(x), address(less), x.size)
    assert np.array_equal(x, wanted)


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
