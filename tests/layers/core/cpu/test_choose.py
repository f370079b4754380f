"""Every window gets a kernel that can do it, with the reason; forced in turn they agree."""

import numpy as np
import pytest

from layers.core.blob import Blob
from layers.core.cpu import choose
from layers.core.cpu.choose import Choice
from layers.core.cpu.convolve import Window
from tests.layers.core.cpu import plain


def window(channels=64, outputs=64, group=1, size=20, kernel=3, stride=1, pad=1, dilation=1, axes=2, **more):
    out = (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    return Window(channels, outputs, group, *((n,) * axes for n in (size, kernel, stride, pad, dilation, out)), **more)


@pytest.mark.parametrize("name, made, how", [
    ("winograd", window(), {}),
    ("winograd", window(kernel=7, pad=0), {}),
    ("winograd", window(), {"phase": "weight", "test": False}),
    ("direct", window(kernel=7, pad=0), {"test": False}),
    ("direct", window(kernel=7, pad=0), {"phase": "weight"}),
    ("direct", window(), {"math": "strict"}),
    ("direct", window(channels=3), {}),
    ("direct", window(stride=2), {}),
    ("direct", window(dilation=2), {}),
    ("winograd", window(group=2), {}),
    ("direct", window(channels=48, group=2), {}),
    ("direct", window(group=8), {}),
    ("blocked", window(kernel=5, pad=2), {"blocks": True}),
    ("blocked", window(512, 4096, size=22, kernel=7, pad=0), {"blocks": True, "math": "strict"}),
    ("direct", window(512, 4096, size=22, kernel=7, pad=0), {"blocks": True, "test": False}),
    ("gemm", window(4096, 4096, size=16, kernel=1, pad=0), {"blocks": True, "test": False}),
    ("blocked", window(stride=2, group=2), {"blocks": True}),
    ("blocked", window(channels=3, kernel=11, stride=4), {"blocks": True}),
    ("direct", window(channels=24, outputs=24, group=2, kernel=5), {"blocks": True}),
    ("blocked", window(kernel=5, pad=2), {"blocks": True, "phase": "image"}),
    ("blocked", window(stride=2, group=2), {"blocks": True, "phase": "weight"}),
    ("blocked", window(channels=3, pad=100), {"blocks": True, "phase": "weight"}),
    ("direct", window(channels=6, outputs=12, group=2), {"blocks": True, "phase": "weight"}),
    ("direct", window(channels=32, outputs=24, group=2), {"blocks": True, "phase": "image"}),
    ("blocked", window(kernel=7, pad=0), {"blocks": True, "phase": "image"}),
    ("winograd", window(), {"blocks": True, "phase": "image"}),
    ("blocked", window(), {"blocks": True, "phase": "weight", "math": "strict"}),
    ("depthwise", window(group=64), {"blocks": True, "phase": "weight"}),
    ("winograd", window(), {"blocks": True}),
    ("blocked", window(), {"blocks": True, "math": "strict"}),
    ("depthwise blocked", window(group=64), {"blocks": True}),
    ("direct", window(kernel=5, pad=2), {}),
    ("direct", window(size=2), {}),
    ("direct", window(axes=1), {}),
    ("direct", window(axes=3), {}),
    ("direct", window(kernel=1, stride=2, pad=0), {}),
    ("gemm", window(kernel=1, pad=0), {}),
    ("depthwise", window(group=64), {}),
    ("plain", window(plain=True), {}),
    ("plain", window(axes=4, size=5), {}),
    ("plain", window(), {"single": False}),
    ("plain", window(), {"math": "caffe"}),
])
def test_choice_and_reason(name, made, how):
    choice = choose.choose(made, **how)
    assert choice.name == name and choice.reason


def blob(values):
    made = Blob(values.shape)
    made.data = values
    return made


@pytest.mark.parametrize("name", ["winograd", "blocked", "direct", "plain"])
def test_each_kernel_computes_the_same(name):
    made, rng = window(20, 33, size=17), np.random.default_rng(0)
    image, weight = rng.standard_normal((2, 20, 17, 17)), rng.standard_normal((33, 20, 3, 3))
    error, bias = rng.standard_normal((2, 33, 17, 17)), rng.standard_normal(33)
    image, weight, error, bias = (array.astype(np.float32) for array in (image, weight, error, bias))
    kernels = choose.Kernels(made)
    kernels.choice = dict.fromkeys(("forward", "image", "weight"), Choice(name, "forced"))
    out, below, gradient = np.empty_like(error), np.empty_like(image), np.zeros_like(weight)
    kernels.forward(image, blob(weight), bias, out)
    kernels.image_gradient(error, blob(weight), None, below)
    kernels.weight_gradient(image, error, gradient)
    for fast, exact in ((out, plain.convolution(image, weight, bias, pad=(1, 1))),
                        (below, plain.image_gradient(error, weight, image.shape, pad=(1, 1))),
                        (gradient, plain.weight_gradient(image, error, weight.shape, pad=(1, 1)))):
        assert abs(fast - exact).max() <= 1e-5 * abs(exact).max()


def test_a_change_of_the_weights_in_place_is_seen():
    made, image = window(16, 16, size=8), np.ones((1, 16, 8, 8), np.float32)
    weight, out = Blob((16, 16, 3, 3)), np.empty((1, 16, 8, 8), np.float32)
    kernels = choose.Kernels(made)
    assert kernels.choice["forward"].name == "winograd"
    seen = []
    prepared = []
    for factor in (1, 1, 2):
        weight.data[...] = factor
        kernels.forward(image, weight, None, out)
        seen.append(round(float(out[0, 0, 3, 3])))
        prepared.append(kernels._prepared["winograd"][0])
    assert seen == [144, 144, 288]
    assert prepared[0] == prepared[1] != prepared[2]


@pytest.mark.parametrize("kernel, pad, test, kept", [(5, 2, True, 1), (5, 2, False, 0), (7, 0, False, 0)])
def test_turned_weights_are_kept_where_they_are_used_and_stay(kernel, pad, test, kept):
    made, rng = window(16, 32, size=9, kernel=kernel, pad=pad), np.random.default_rng(0)
    kernels, weight = choose.Kernels(made, test=test, blocks=True), blob(rng.standard_normal((32, 16, kernel, kernel)))
    error, image = rng.standard_normal((1, 32, *made.output), dtype=np.float32), np.empty((1, 16, 9, 9), np.float32)
    for factor in (1, 2):
        weight.data[...] *= factor
        kernels.image_gradient(error, weight, None, image)
        exact = plain.image_gradient(error, weight.data, image.shape, pad=(pad, pad))
        assert abs(image - exact).max() <= 1e-5 * abs(exact).max()
    assert len(kernels._prepared) == kept and kernels.kept_bytes() == kept * weight.count * 4


def test_in_training_layers_use_one_place_for_their_weights_in_turn():
    """What is made for one call is in scratch memory, whatever the kernels and sizes, and the values are those that are kept."""
    rng = np.random.default_rng(0)
    for made in (window(16, 32, size=9), window(40, 16, size=9, kernel=5, pad=2), window(24, 24, 24, size=9), window(16, 16)):
        weight = blob(rng.standard_normal((made.outputs, made.channels // made.group, *made.kernel)))
        image = rng.standard_normal((1, made.channels, *made.image), dtype=np.float32)
        error = rng.standard_normal((1, made.outputs, *made.output), dtype=np.float32)
        results = []
        for test in (True, False):
            kernels = choose.Kernels(made, test=test, blocks=True)
            out, below = np.empty_like(error), np.empty_like(image)
            kernels.forward(image, weight, None, out)
            kernels.image_gradient(error, weight, None, below)
            results.append((out, below))
            assert bool(kernels._prepared) == test
        assert all(np.array_equal(*pair) for pair in zip(*results))
