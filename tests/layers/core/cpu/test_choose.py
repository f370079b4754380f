"""Every window gets a kernel that can do it, with the reason; forced in turn they agree."""

import numpy as np
import pytest

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
    ("direct", window(group=2), {}),
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


@pytest.mark.parametrize("name", ["winograd", "direct", "plain"])
def test_each_kernel_computes_the_same(name):
    made, rng = window(20, 33, size=17), np.random.default_rng(0)
    image, weight = rng.standard_normal((2, 20, 17, 17)), rng.standard_normal((33, 20, 3, 3))
    error, bias = rng.standard_normal((2, 33, 17, 17)), rng.standard_normal(33)
    image, weight, error, bias = (array.astype(np.float32) for array in (image, weight, error, bias))
    kernels = choose.Kernels(made)
    kernels.choice = dict.fromkeys(kernels.choice, Choice(name, "forced"))
    out, below, gradient = np.empty_like(error), np.empty_like(image), np.zeros_like(weight)
    kernels.forward(image, weight, bias, out)
    kernels.image_gradient(error, weight, None, below)
    kernels.weight_gradient(image, error, gradient)
    for fast, exact in ((out, plain.convolution(image, weight, bias, pad=(1, 1))),
                        (below, plain.image_gradient(error, weight, image.shape, pad=(1, 1))),
                        (gradient, plain.weight_gradient(image, error, weight.shape, pad=(1, 1)))):
        assert abs(fast - exact).max() <= 1e-5 * abs(exact).max()


def test_a_change_of_the_weights_in_place_is_seen():
    made, image = window(16, 16, size=8), np.ones((1, 16, 8, 8), np.float32)
    weight, out = np.ones((16, 16, 3, 3), np.float32), np.empty((1, 16, 8, 8), np.float32)
    kernels = choose.Kernels(made)
    assert kernels.choice["forward"].name == "winograd"
    seen = []
    prepared = []
    for factor in (1, 1, 2):
        weight[...] = factor
        kernels.forward(image, weight, None, out)
        seen.append(round(float(out[0, 0, 3, 3])))
        prepared.append(kernels._prepared[False][0])
    assert seen == [144, 144, 288]
    assert prepared[0] == prepared[1] != prepared[2]
