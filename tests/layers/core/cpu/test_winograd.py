"""Winograd convolutions equal the direct sums, in float64, up to their rounding."""

import numpy as np
import pytest

from layers.core.cpu import parallel, winograd
from layers.core.cpu.blocked import Blocked, picture
from layers.core.cpu.memory import address
from tests.layers.core.cpu import plain
from tests.layers.core.cpu.emulated import again
from tests.layers.core.cpu.windows import normal

# images, channels, outputs, height, width, kernel, pad
CASES = [(1, 16, 32, 12, 12, 3, (1, 1)), (2, 20, 37, 9, 21, 3, (1, 1)), (1, 3, 5, 4, 6, 3, (7, 9)), (3, 70, 65, 7, 5, 3, (0, 2)),
         (1, 1, 1, 1, 1, 3, (1, 1)), (1, 32, 48, 60, 73, 3, (1, 0)), (1, 8, 4, 11, 13, 3, (100, 100)),
         (1, 40, 40, 10, 9, 7, (0, 0)), (2, 33, 50, 9, 8, 7, (3, 5))]
SAME = [case for case in CASES if case[5] == 3]


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


@pytest.mark.parametrize("box", [(0, 8, 0, 12), (4, 12, 8, 20), (8, 13, 0, 30), (4, 13, 28, 30), (0, 13, 4, 28), (12, 13, 0, 4),
                                 (4, 4, 0, 30), (0, 13, 0, 30)], ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "blocked"])
def test_box_writes_its_pixels_only_and_with_the_same_bits(box, layout):
    image, prepared, bias = normal(2, 20, 13, 30), winograd.prepare(normal(40, 20, 3, 3, seed=1)), normal(40, seed=2)
    whole, pooled = np.empty((2, 40, 13, 30), np.float32), np.empty((2, 40, 7, 15), np.float32)
    winograd.forward(image, prepared, 3, (1, 1), whole, bias, True, pooled)
    tops = [np.full_like(array, 7) for array in (whole, pooled)]
    if layout == "NCHW":
        source, target, small = ((address(array), picture(array)) for array in (image, *tops))
    else:
        blocked = [Blocked(array.shape, 1).put(array) for array in (image, *tops)]
        source, target, small = ((one.address, one.picture) for one in blocked)
    winograd.forward_pictures(*source, prepared, 3, (1, 1), *target, bias, True, small, box)
    if layout == "blocked":
        tops = [one.get() for one in blocked[1:]]
    for top, full, (y0, y1, x0, x1) in zip(tops, (whole, pooled), (box, [-(-n // 2) for n in box])):
        inside = np.zeros(top.shape, bool)
        inside[:, :, y0:y1, x0:x1] = True
        assert np.array_equal(top, np.where(inside, full, 7))


def test_box_of_seven_by_seven():
    image, prepared = normal(1, 20, 13, 15), winograd.prepare(normal(8, 20, 7, 7, seed=1))
    whole, part = np.empty((1, 8, 7, 9), np.float32), np.full((1, 8, 7, 9), 7, np.float32)
    winograd.forward(image, prepared, 7, (0, 0), whole)
    winograd.forward_pictures(address(image), picture(image), prepared, 7, (0, 0), address(part), picture(part), box=(2, 7, 4, 8))
    assert np.array_equal(part[:, :, 2:, 4:8], whole[:, :, 2:, 4:8])
    assert (part[:, :, :2] == 7).all() and (part[..., :4] == 7).all() and (part[..., 8:] == 7).all()


@pytest.mark.parametrize("box", [(1, 8, 0, 8), (0, 6, 0, 8), (0, 8, 0, 12), (-4, 8, 0, 8), (8, 4, 0, 8), (0, 8, 2, 8)], ids=str)
def test_box_must_lie_between_tiles(box):
    image, out, prepared = normal(1, 16, 9, 9), np.empty((1, 16, 9, 9), np.float32), winograd.prepare(normal(16, 16, 3, 3))
    with pytest.raises(ValueError, match=r"box: .* of 9: .*multiples of the tile's 4 pixels"):
        winograd.forward_pictures(address(image), picture(image), prepared, 3, (1, 1), address(out), picture(out), box=box)


# images, channels, outputs, group, height, width, kernel, pad
GROUPED = [(2, 32, 96, 2, 13, 13, 3, (1, 1)), (1, 96, 48, 3, 9, 30, 3, (0, 1)), (2, 64, 64, 2, 33, 40, 3, (1, 1)),
           (1, 32, 32, 2, 9, 8, 7, (3, 0)), (1, 10, 14, 2, 9, 11, 3, (1, 1)), (2, 6, 3, 3, 8, 6, 3, (2, 1))]


@pytest.mark.parametrize("case", GROUPED, ids=str)
def test_groups(case):
    images, channels, outputs, group, height, width, kernel, pad = case
    image, weight = normal(images, channels, height, width), normal(outputs, channels // group, kernel, kernel, seed=1)
    bias, before = normal(outputs, seed=2), normal(*weight.shape, seed=4)
    exact = plain.convolution(image, weight, bias, pad=pad, group=group)
    out, error = np.full(exact.shape, np.nan, np.float32), normal(*exact.shape, seed=3)
    below, gradient = np.full(image.shape, np.nan, np.float32), before.copy()
    prepared = winograd.prepare(weight, group=group)
    turned = winograd.prepare(weight, True, group=group)
    winograd.forward(image, prepared, kernel, pad, out, bias, group=group)
    winograd.image_gradient(error, turned, kernel, pad, below, group=group)
    close(out, exact, kernel)
    close(below, plain.image_gradient(error, weight, image.shape, pad=pad, group=group), kernel, 2)
    if kernel == 3:
        winograd.weight_gradient(image, error, pad, gradient, group)
        close(gradient, before + plain.weight_gradient(image, error, weight.shape, pad=pad, group=group), 3)
    if channels // group % 16 or outputs // group % 16:
        return
    source, target, wrong = Blocked(image.shape, 1).put(image), Blocked(out.shape, 1), Blocked(error.shape).put(error)
    winograd.forward_pictures(source.address, source.picture, prepared, kernel, pad, target.address, target.picture, bias,
                              group=group)
    assert np.array_equal(target.get(), out)
    turned_pad = (kernel - 1 - pad[0], kernel - 1 - pad[1])
    winograd.forward_pictures(wrong.address, wrong.picture, turned, kernel, turned_pad, source.address, source.picture,
                              group=group)
    assert np.array_equal(source.get(), below)
    if kernel == 3:
        source.put(image)
        winograd.weight_gradient_pictures(source.address, source.picture, wrong.address, wrong.picture, pad, before, group)
        assert np.array_equal(before, gradient)


def test_groups_pool_and_box():
    image, weight = normal(1, 32, 10, 12), normal(64, 16, 3, 3, seed=1)
    prepared = winograd.prepare(weight, group=2)
    out, pooled = np.empty((1, 64, 10, 12), np.float32), np.empty((1, 64, 5, 6), np.float32)
    winograd.forward(image, prepared, 3, (1, 1), out, relu=True, pooled=pooled, group=2)
    assert np.array_equal(pooled, out.reshape(1, 64, 5, 2, 6, 2).max(axis=(3, 5)))
    part, small = np.full_like(out, 7), np.full_like(pooled, 7)
    winograd.forward_pictures(address(image), picture(image), prepared, 3, (1, 1), address(part), picture(part), None, True,
                              (address(small), picture(small)), (4, 10, 4, 8), 2)
    assert np.array_equal(part[:, :, 4:, 4:8], out[:, :, 4:, 4:8]) and np.array_equal(small[:, :, 2:, 2:4], pooled[:, :, 2:, 2:4])
    assert (part[:, :, :4] == 7).all() and (small[:, :, :, 4:] == 7).all()


def test_groups_that_do_not_divide_are_told():
    image, out = Blocked((1, 48, 8, 8)), Blocked((1, 48, 8, 8))
    prepared = winograd.prepare(normal(48, 24, 3, 3), group=2)
    with pytest.raises(ValueError, match="blocked picture of 48 channels in 2 groups"):
        winograd.forward_pictures(image.address, image.picture, prepared, 3, (1, 1), out.address, out.picture, group=2)


@pytest.mark.parametrize("tiles", range(1, 45))
def test_panels_of_any_number_of_tiles(tiles):
    image, weight = normal(1, 4, 4, 4 * tiles), normal(5, 4, 3, 3, seed=1)
    out = np.full((1, 5, 4, 4 * tiles), np.nan, np.float32)
    winograd.forward(image, winograd.prepare(weight), 3, (1, 1), out)
    close(out, plain.convolution(image, weight, pad=(1, 1)), 3)


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


@pytest.mark.parametrize("private", [False, True], ids=["one chunk for all threads", "chunks of each thread"])
def test_bits_of_groups_do_not_depend_on_the_number_of_threads(private, monkeypatch):
    monkeypatch.setattr(winograd, "SMALL_WEIGHTS", 1 << 30 if private else 0)
    monkeypatch.setattr(winograd, "SHARED", 40)
    monkeypatch.setattr(winograd, "GRADIENT_CACHED", 1)
    image, weight, error = normal(2, 32, 30, 41), normal(96, 16, 3, 3, seed=1), normal(2, 96, 30, 41, seed=2)
    prepared = winograd.prepare(weight, group=2)
    source, wrong, results = Blocked(image.shape, 1).put(image), Blocked(error.shape, 1).put(error), []
    for threads in (1, 2, 5):
        parallel.set_threads(threads)
        target, gradient = Blocked(error.shape, 1), np.zeros_like(weight)
        winograd.forward_pictures(source.address, source.picture, prepared, 3, (1, 1), target.address, target.picture, group=2)
        winograd.weight_gradient_pictures(source.address, source.picture, wrong.address, wrong.picture, (1, 1), gradient, 2)
        results.append((target.array, gradient))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))
    close(target.get(), plain.convolution(image, weight, pad=(1, 1), group=2), 3)
    close(gradient, plain.weight_gradient(image, error, weight.shape, pad=(1, 1), group=2), 3)


@pytest.mark.parametrize("kernel", [3, 7])
def test_storing_past_the_caches_changes_nothing(kernel, monkeypatch):
    image, prepared = normal(2, 20, 13, 30), winograd.prepare(normal(40, 20, kernel, kernel, seed=1))
    source, results = Blocked(image.shape, 1).put(image), []
    for size in (1 << 60, 0):
        monkeypatch.setattr(winograd, "PAST", size)
        target, pooled = Blocked((2, 40, 13, 30), 1), Blocked((2, 40, 7, 15), 1)
        winograd.forward_pictures(source.address, source.picture, prepared, kernel, (kernel // 2,) * 2, target.address,
                                  target.picture, None, True, (pooled.address, pooled.picture) if kernel == 3 else None)
        results.append((target.array, pooled.array))
    assert all(np.array_equal(a, b) for a, b in zip(*results)) and results[0][0].any()


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
