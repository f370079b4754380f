"""Direct convolutions of blocked pictures equal the plain sums, for any window, layout and box."""

import functools

import numpy as np
import pytest

from layers.core.cpu import direct_blocked, parallel
from layers.core.cpu.blocked import Blocked, place
from tests.layers.core.cpu import windows
from tests.layers.core.cpu.emulated import again
from tests.layers.core.cpu.windows import Planes, a_box_has_the_bits_of_the_whole, close, make, nothing_around

# images, channels, outputs, group, (height, width), kernel, stride, pad, dilation
CASES = {
    "1x1": (2, 48, 40, 1, (5, 17), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 narrow": (2, 20, 21, 1, (7, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 wide": (1, 16, 40, 1, (4, 260), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 one tile": (1, 16, 16, 1, (14, 14), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 long sums": (1, 600, 75, 1, (6, 9), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 three quarters of a panel": (1, 280, 56, 1, (5, 23), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 with stride": (1, 32, 21, 1, (9, 30), (1, 1), (2, 2), (0, 0), (1, 1)),
    "1x1 with pad": (1, 33, 16, 1, (4, 5), (1, 1), (1, 1), (1, 2), (1, 1)),
    "1x1 grouped": (2, 64, 96, 2, (5, 16), (1, 1), (1, 1), (0, 0), (1, 1)),
    "3x3": (2, 20, 21, 1, (9, 31), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3 grouped": (2, 48, 48, 3, (6, 15), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3x3 stride 2": (1, 48, 32, 1, (13, 35), (3, 3), (2, 2), (1, 1), (1, 1)),
    "3x3 row stride 2": (1, 16, 40, 1, (13, 35), (3, 3), (2, 1), (1, 1), (1, 1)),
    "3x3 dilated": (1, 16, 20, 1, (15, 34), (3, 3), (1, 1), (3, 3), (3, 3)),
    "3x3 much padding": (2, 16, 40, 1, (6, 5), (3, 3), (1, 1), (9, 20), (1, 1)),
    "only padding": (1, 16, 16, 1, (2, 3), (3, 3), (30, 30), (10, 10), (1, 1)),
    "5x5 grouped": (1, 32, 64, 2, (9, 27), (5, 5), (1, 1), (2, 2), (1, 1)),
    "7x7": (1, 20, 32, 1, (9, 8), (7, 7), (1, 1), (3, 3), (1, 1)),
    "1x3": (1, 16, 21, 1, (5, 40), (1, 3), (1, 1), (0, 1), (1, 1)),
    "wide": (1, 16, 20, 1, (3, 260), (1, 3), (1, 1), (0, 0), (1, 1)),
}
PLANES = {
    "3 channels": (2, 3, 40, 1, (9, 31), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3 channels, much padding": (1, 3, 21, 1, (6, 5), (3, 3), (1, 1), (30, 30), (1, 1)),
    "wide": (1, 3, 64, 1, (6, 530), (3, 3), (1, 1), (9, 9), (1, 1)),
    "7x7 stride 2": (1, 3, 32, 1, (23, 39), (7, 7), (2, 2), (3, 3), (1, 1)),
    "11x11 stride 4": (2, 3, 21, 1, (43, 39), (11, 11), (4, 4), (2, 5), (1, 1)),
    "3x3 stride 2": (1, 5, 40, 1, (13, 35), (3, 3), (2, 2), (0, 0), (1, 1)),
    "dilated with stride": (1, 4, 32, 2, (15, 34), (3, 2), (2, 3), (1, 2), (3, 2)),
    "16 channels": (1, 16, 20, 1, (5, 6), (5, 5), (1, 1), (2, 2), (1, 1)),
    "one pixel": (1, 1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
}
BOTH = {name: (Blocked, case) for name, case in CASES.items()} | {
    f"planes: {name}": (Planes, case) for name, case in PLANES.items()}


def run(window, image, weight, source, target, borders=(0, 0), **more):
    weights = direct_blocked.prepare(window, weight, blocked=source is Blocked)
    return windows.run(direct_blocked, window, image, weights, source, target, borders, **more)


@pytest.mark.parametrize("borders", [(0, 0), (1, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_blocked(case, borders):
    window, image, weight, bias, exact = make(case)
    assert direct_blocked.fits(window, True)
    top = run(window, image, weight, Blocked, Blocked, borders, bias=bias, relu=True)
    close(top.get(), np.maximum(exact, 0))
    nothing_around(top)
    close(run(window, image, weight, Blocked, Planes, borders).get(), exact - bias[:, None, None])


@pytest.mark.parametrize("case", PLANES.values(), ids=PLANES)
def test_planes(case):
    window, image, weight, bias, exact = make(case)
    assert direct_blocked.fits(window, False)
    top = run(window, image, weight, Planes, Blocked, (0, 1), bias=bias)
    close(top.get(), exact)
    nothing_around(top)
    close(run(window, image, weight, Planes, Planes, bias=bias, relu=True).get(), np.maximum(exact, 0))


@pytest.mark.parametrize("name", ["1x1", "1x1 narrow", "1x1 wide", "1x1 one tile", "1x1 long sums"])
def test_planes_that_are_put_into_blocks_on_the_way_give_the_bits_of_blocks(name):
    window, image, weight, bias, _ = make(CASES[name])
    assert direct_blocked.turns_planes(window)
    weights = direct_blocked.prepare(window, weight)
    height, width = window.output
    for target in (Blocked, Planes):
        for box in (None, (1, height, width // 3, width // 3 + 2)):
            expected = run(window, image, weight, Blocked, target, (1, 1), bias=bias, relu=True, box=box).get()
            for threads in (1, 3):
                parallel.set_threads(threads)
                top = target(expected.shape, 1).put(np.full(expected.shape, 7, np.float32))
                direct_blocked.forward_pictures(window, *place(image), weights, top.address, top.picture, bias, True, box,
                                                planes=False)
                assert np.array_equal(top.get(), expected)
                if target is Blocked:
                    nothing_around(top)


def test_windows_whose_planes_are_not_put_into_blocks():
    assert not any(direct_blocked.turns_planes(make(CASES[name])[0]) for name in ("1x1 with stride", "1x1 grouped", "3x3"))


def test_outputs_of_groups_to_planes():
    window, image, weight, bias, exact = make((2, 32, 14, 2, (5, 16), (3, 3), (1, 1), (1, 1), (1, 1)))
    assert not direct_blocked.fits(window, True) and direct_blocked.fits(window, True, False)
    close(run(window, image, weight, Blocked, Planes, bias=bias).get(), exact)


@pytest.mark.parametrize("target", [Blocked, Planes])
@pytest.mark.parametrize("source, case", BOTH.values(), ids=BOTH)
def test_a_box_has_the_bits_of_the_whole(source, case, target):
    window, image, weight, bias, _ = make(case)
    a_box_has_the_bits_of_the_whole(window, functools.partial(run, window, image, weight, source, target, (1, 1), bias=bias))


def test_the_border_does_not_show_in_the_bits():
    for name in ("3x3", "1x1", "5x5 grouped", "1x1 long sums"):
        window, image, weight, bias, _ = make(CASES[name])
        results = [run(window, image, weight, Blocked, Blocked, (border, border), bias=bias).get() for border in (0, 1, 2)]
        assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_nan_stays_and_missing_lanes_stay_zero():
    window, image, weight, bias, _ = make(CASES["1x1 narrow"])
    image[0, 0, 3, 3] = np.nan
    top = run(window, image, weight, Blocked, Blocked, (1, 1), bias=bias, relu=True)
    values = top.get()
    assert np.isnan(values[0, :, 3, 3]).all() and np.isnan(values).sum() == window.outputs
    assert (top.array[:, 1, ..., 21 - 16 :] == 0).all()


def test_bits_do_not_depend_on_the_number_of_threads():
    for name in ("1x1 long sums", "3x3", "wide", "3x3 stride 2", "5x5 grouped"):
        window, image, weight, bias, _ = make(CASES[name])
        results = []
        for threads in (1, 2, 3):
            parallel.set_threads(threads)
            results.append(run(window, image, weight, Blocked, Blocked, bias=bias).get())
        assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_large_targets_are_written_past_the_caches(monkeypatch):
    monkeypatch.setattr(direct_blocked, "PAST", 0)
    window, image, weight, bias, exact = make((2, 3, 64, 1, (9, 40), (3, 3), (1, 1), (5, 5), (1, 1)))
    top = run(window, image, weight, Planes, Blocked, (0, 1), bias=bias)
    close(top.get(), exact)
    nothing_around(top)
    box = run(window, image, weight, Planes, Blocked, (0, 1), bias=bias, box=(3, 8, 1, 48)).get()
    assert np.array_equal(box[:, :, 3:8, 1:48], top.get()[:, :, 3:8, 1:48]) and (box[:, :, 8:] == 7).all()


def test_weights_are_packed_again_in_place():
    window, image, weight, bias, exact = make(CASES["3x3"])
    out = direct_blocked.prepare(window, weight + 1)
    assert direct_blocked.prepare(window, weight, out) is out
    assert np.array_equal(out, direct_blocked.prepare(window, weight))


def test_no_images():
    window, image, weight, _, _ = make(CASES["3x3"])
    assert run(window, image[:0], weight, Blocked, Blocked).get().shape == (0, 21, 9, 31)


@pytest.mark.parametrize("processor", ["avx2", "plain"])
def test_on_older_processors(processor):
    again(__file__, processor)
