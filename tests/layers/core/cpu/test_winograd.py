"""Winograd convolutions equal the direct sums, in float64, up to their rounding."""

import numpy as np
import pytest

from layers.core.cpu import parallel, winograd
from layers.core.cpu.blocked import Blocked, picture
from layers.core.cpu.memory import address
from tests.layers.core.cpu import plain
from tests.layers.core.cpu.emulated import again

# images, channels, outputs, height, width, kernel, pad
CASES = [(1, 16, 32, 12, 12, 3, (1, 1)), (2, 20, 37, 9, 21, 3, (1, 1)), (1, 3, 5, 4, 6, 3, (7, 9)), (3, 70, 65, 7, 5, 3, (0, 2)),
         (1, 1, 1, 1, 1, 3, (1, 1)), (1, 32, 48, 60, 73, 3, (1, 0)), (1, 8, 4, 11, 13, 3, (100, 100)),
         (1, 40, 40, 10, 9, 7, (0, 0)), (2, 33, 50, 9, 8, 7, (3, 5))]
SAME = [case for case in CASES if case[5] == 3]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def sizes(case):
    images, channels, outputs, height, width, kernel, pad = case
    return (images, channels, height, width), (outputs, channels, kernel, kernel), pad


def close(fast, exact, kernel, scale=1):
    limit = {3: 6e-6, 7: 3e-5}[kernel] * scale
    assert np.isfinite(fast).all()
    assert abs(fast - exact).max() <= limit * max(abs(exact).max(), 1e-30)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_forward(case, relu):
    shape, weight_shape, pad = sizes(case)
    image, weight, bias = normal(*shape), normal(*weight_shape, seed=1), normal(weight_shape[0], seed=2)
    exact = plain.convolution(image, weight, bias, pad=pad)
    out = np.full(exact.shape, np.nan, np.float32)
    winograd.forward(image, winograd.prepare(weight), weight_shape[2], pad, out, bias, relu)
    close(out, np.maximum(exact, 0) if relu else exact, weight_shape[2])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_image_gradient(case):
    shape, weight_shape, pad = sizes(case)
    weight = normal(*weight_shape)
    error = normal(*plain.convolution(np.zeros(shape), weight, pad=pad).shape, seed=1)
    out = np.full(shape, np.nan, np.float32)
    winograd.image_gradient(error, winograd.prepare(weight, turned=True), weight_shape[2], pad, out)
    close(out, plain.image_gradient(error, weight, shape, pad=pad), weight_shape[2], 2)


@pytest.mark.parametrize("case", SAME, ids=str)
def test_weight_gradient_adds(case):
    shape, weight_shape, pad = sizes(case)
    image, before = normal(*shape), normal(*weight_shape, seed=2)
    error = normal(*plain.convolution(image, before, pad=pad).shape, seed=1)
    out = before.copy()
    winograd.weight_gradient(image, error, pad, out)
    close(out, before + plain.weight_gradient(image, error, weight_shape, pad=pad), 3)


@pytest.mark.parametrize("case", SAME, ids=str)
def test_pooling_beside_the_output(case):
    shape, weight_shape, pad = sizes(case)
    image, prepared = normal(*shape), winograd.prepare(normal(*weight_shape, seed=1))
    top = (shape[0], weight_shape[0], shape[2] + 2 * pad[0] - 2, shape[3] + 2 * pad[1] - 2)
    alone, out = np.empty(top, np.float32), np.empty(top, np.float32)
    pooled = np.full((*top[:2], -(-top[2] // 2), -(-top[3] // 2)), np.nan, np.float32)
    winograd.forward(image, prepared, 3, pad, alone, relu=True)
    winograd.forward(image, prepared, 3, pad, out, relu=True, pooled=pooled)
    assert np.array_equal(out, alone)
    whole = np.pad(out, [(0, 0), (0, 0), (0, top[2] % 2), (0, top[3] % 2)], constant_values=-np.inf)
    assert np.array_equal(pooled, whole.reshape(*pooled.shape[:3], 2, pooled.shape[3], 2).max(axis=(3, 5)))


@pytest.mark.parametrize("border", [0, 1, 6])
def test_blocked_pictures_give_the_same_bits(border):
    image, weight, bias = normal(2, 20, 13, 30), normal(40, 20, 3, 3, seed=1), normal(40, seed=2)
    out = np.empty((2, 40, 13, 30), np.float32)
    prepared = winograd.prepare(weight)
    winograd.forward(image, prepared, 3, (1, 1), out, bias, relu=True)
    source, target = Blocked(image.shape, border).put(image), Blocked(out.shape, border)
    pooled = Blocked((2, 40, 7, 15), border)
    winograd.forward_pictures(source.address, source.picture, prepared, 3, (1, 1), target.address, target.picture, bias, True,
                              (pooled.address, pooled.picture))
    assert np.array_equal(target.get(), out)
    if border:
        inside = np.zeros(target.array.shape, bool)
        inside[:, :, border:-border, border:-border] = True
        assert (target.array[~inside] == 0).all()
    gradient = np.zeros(weight.shape, np.float32)
    from_blocked = np.zeros(weight.shape, np.float32)
    winograd.weight_gradient(image, out, (1, 1), gradient)
    winograd.weight_gradient_pictures(source.address, source.picture, target.address, target.picture, (1, 1), from_blocked)
    assert np.array_equal(gradient, from_blocked)


def test_blocked_channels_beyond_the_last_stay_zero():
    image, weight = normal(1, 16, 9, 9), normal(20, 16, 3, 3, seed=1)
    target = Blocked((1, 20, 9, 9))
    winograd.forward_pictures(address(image), picture(image), winograd.prepare(weight), 3, (1, 1), target.address, target.picture,
                              np.ones(20, np.float32))
    assert (target.array[0, 1, :, :, 4:] == 0).all()


def test_clamp_keeps_nan():
    image = np.zeros((1, 16, 8, 8), np.float32)
    image[0, 3, 1, 1] = np.nan
    out = np.zeros((1, 32, 8, 8), np.float32)
    winograd.forward(image, winograd.prepare(-np.ones((32, 16, 3, 3), np.float32)), 3, (1, 1), out, relu=True)
    assert np.isnan(out[:, :, :3, :3]).all()


@pytest.mark.parametrize("private", [False, True], ids=["one chunk for all threads", "chunks of each thread"])
def test_bits_do_not_depend_on_the_number_of_threads(private, monkeypatch):
    monkeypatch.setattr(winograd, "SMALL_WEIGHTS", 1 << 30 if private else 0)
    monkeypatch.setattr(winograd, "CACHED", 1 << 17)
    monkeypatch.setattr(winograd, "SHARED", 40)
    monkeypatch.setattr(winograd, "OUTPUTS", winograd.COLUMNS)
    monkeypatch.setattr(winograd, "GRADIENT_CACHED", 1)
    image, weight, error = normal(2, 33, 40, 50), normal(70, 33, 3, 3, seed=1), normal(2, 70, 40, 50, seed=2)
    prepared, turned = winograd.prepare(weight), winograd.prepare(weight, turned=True)
    results = []
    for threads in (1, 2, 3, 5):
        parallel.set_threads(threads)
        out, below, gradient = np.empty_like(error), np.empty_like(image), np.zeros_like(weight)
        winograd.forward(image, prepared, 3, (1, 1), out)
        winograd.image_gradient(error, turned, 3, (1, 1), below)
        winograd.weight_gradient(image, error, (1, 1), gradient)
        results.append((out, below, gradient, winograd.prepare(weight)))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))
    close(results[0][0], plain.convolution(image, weight, pad=(1, 1)), 3)
    close(results[0][1], plain.image_gradient(error, weight, image.shape, pad=(1, 1)), 3, 2)
    close(results[0][2], plain.weight_gradient(image, error, weight.shape, pad=(1, 1)), 3)


def test_bits_do_not_depend_on_the_other_images():
    image, prepared = normal(3, 20, 9, 11), winograd.prepare(normal(8, 20, 3, 3, seed=1))
    together, alone = np.empty((3, 8, 9, 11), np.float32), np.empty((1, 8, 9, 11), np.float32)
    winograd.forward(image, prepared, 3, (1, 1), together)
    winograd.forward(image[1:2], prepared, 3, (1, 1), alone)
    assert np.array_equal(together[1:2], alone)


def test_prepared_weights_are_overwritten_in_place():
    weight = normal(5, 6, 3, 3)
    first = winograd.prepare(weight)
    again_ = winograd.prepare(2 * weight, out=first)
    assert again_ is first and np.array_equal(first, winograd.prepare(2 * weight))


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
