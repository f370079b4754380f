"""LRN against plain loops and central differences."""

import itertools

import numpy as np
import pytest

from layers.core.cpu import parallel
from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

rng = np.random.RandomState(6)


def loops(x, size, alpha, beta, k, across):
    y = np.zeros(x.shape)
    half = size // 2
    for n, c, h, w in itertools.product(*map(range, x.shape)):
        if across:
            near = x[n, max(c - half, 0) : c + half + 1, h, w]
            scale = k + alpha / size * (near**2).sum()
        else:
            near = x[n, c, max(h - half, 0) : h + half + 1, max(w - half, 0) : w + half + 1]
            scale = 1 + alpha / size**2 * (near**2).sum()
        y[n, c, h, w] = x[n, c, h, w] * scale**-beta
    return y


def text(size, alpha, beta, k, across):
    region = "ACROSS_CHANNELS" if across else "WITHIN_CHANNEL"
    return (f"type: 'LRN' lrn_param {{ local_size: {size} alpha: {alpha} beta: {beta} k: {k} norm_region: {region} }}")


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("size, alpha, beta, k", [(5, 0.5, 0.75, 1), (3, 2, 0.6, 2), (1, 1, 1, 1), (11, 0.01, 0.75, 1)])
def test_forward_is_the_definition(size, alpha, beta, k, across):
    x = rng.randn(2, 7, 5, 3) * 3
    wanted = loops(x, size, alpha, beta, k, across)
    for dtype, tolerance in ((np.float32, 3e-6), (np.float64, 1e-7)):  # the float field holds alpha to 6e-8
        _, _, top = run_layer(text(size, alpha, beta, k, across), [x], dtype=dtype)
        np.testing.assert_allclose(top[0].data, wanted, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("size, beta", [(3, 0.75), (5, 0.5)])
def test_backward_is_the_gradient(size, beta, across):
    check_gradient(text(size, 1.5, beta, 2, across), [rng.randn(2, 5, 4, 3)])


def test_defaults_are_caffes():
    x = rng.randn(1, 6, 3, 3)
    _, _, top = run_layer("type: 'LRN'", [x])
    np.testing.assert_allclose(top[0].data, loops(x, 5, 1, 0.75, 1, True), atol=1e-6)


@pytest.mark.parametrize("across", [True, False])
def test_same_bits_for_any_number_of_threads(across):
    x = rng.randn(1, 9, 41, 31)
    results = []
    before = parallel.threads()
    try:
        for threads in (1, 2, 3):
            parallel.set_threads(threads)
            layer, bottom, top = run_layer(text(5, 1, 0.75, 1, across), [x])
            top[0].diff[...] = top[0].data
            layer.backward(top, [True], bottom)
            results.append((top[0].data, bottom[0].diff))
    finally:
        parallel.set_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)
    layer.backward(top, [False], bottom)


def test_refuses_an_even_neighbourhood_and_other_axes():
    with pytest.raises(Error, match="local_size is 4; it must be odd"):
        make_layer(text(4, 1, 1, 1, True), [np.zeros((1, 2, 3, 3))])
    with pytest.raises(Error, match="4 axes"):
        make_layer(text(3, 1, 1, 1, True), [np.zeros((1, 2, 3))])
