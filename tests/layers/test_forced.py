"""Every kernel in turn, forced on all that it can compute: Caffe's numbers, and gradients."""

import numpy as np
import pytest

from layers.core.cpu import choose
from netspec.errors import UnknownName
from tests.layers import test_goldens as goldens
from tests.layers.windows import window_text
from tests.support import make_layer

FORCED = [path for path in goldens.LAYERS if goldens.kind_of(path) in ("Convolution", "Deconvolution")]
# One of fc6's 3072 units is 4e-4 or 0, as F(2 x 2, 7 x 7) rounds: its ReLU lets its gradient through, or not.
FLIPPED = {("narrow_fcn16s", "winograd")}
NARROW = [path for path in goldens.NETS if path.stem.startswith("narrow")]


@pytest.mark.parametrize("kernel", choose.CAN)
@pytest.mark.parametrize("path", FORCED, ids=lambda path: path.stem)
def test_layer_equals_caffe(path, kernel):
    with choose.force(kernel):
        goldens.test_layer_equals_caffe(path)


@pytest.mark.parametrize("kernel", choose.CAN)
@pytest.mark.parametrize("path", NARROW, ids=lambda path: path.stem)
def test_whole_net_equals_caffe(path, kernel):
    with choose.force(kernel):
        goldens.compare_net(path, goldens.LOOSE.get(path.stem, 2e-3), gradients=(path.stem, kernel) not in FLIPPED)


WINDOWS = {  # channels, outputs, group, size, kernel, stride, pad, dilation
    "3 x 3": (5, 7, 1, (13, 10), (3, 3), (1, 1), (1, 1), (1, 1)),
    "3 x 3 in blocks": (32, 35, 1, (9, 14), (3, 3), (1, 1), (0, 2), (1, 1)),
    "7 x 7": (17, 6, 1, (9, 11), (7, 7), (1, 1), (0, 3), (1, 1)),
    "1 x 1": (18, 33, 1, (5, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    "1 x 1 of groups": (6, 9, 3, (5, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    "stride, dilation and groups": (4, 6, 2, (12, 13), (3, 2), (2, 3), (1, 2), (2, 1)),
    "depthwise": (6, 6, 6, (9, 8), (3, 4), (2, 2), (1, 0), (1, 1)),
    "volume": (3, 4, 1, (4, 5, 6), (3, 3, 3), (1, 2, 1), (1, 1, 0), (1, 1, 1)),
}


@pytest.mark.parametrize("kernel", choose.CAN)
@pytest.mark.parametrize("type_name", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("window", WINDOWS)
def test_backward_is_the_gradient_of_forward(window, type_name, kernel):
    """In float32, as kernels are: a convolution is linear in each operand, so differences with steps of 1 are exact."""
    channels, outputs, group, size, *sizes = WINDOWS[window]
    rng = np.random.default_rng(2)
    image = rng.uniform(-1, 1, (2, channels, *size))
    with choose.force(kernel):
        layer, bottom, top = make_layer(window_text(type_name, outputs, *sizes, group), [image])
    arrays = [bottom[0].data, layer.blobs[0].data, layer.blobs[1].data]
    for array in arrays[1:]:
        array[...] = rng.uniform(-1, 1, array.shape)
    weights = rng.uniform(-1, 1, top[0].shape).astype(np.float32)
    layer.forward(bottom, top)
    before = top[0].data.astype(np.float64)
    top[0].diff[...] = weights
    bottom[0].diff[...] = 12345  # backward must overwrite it
    layer.backward(top, [True], bottom)
    for array, gradient in zip(arrays, (bottom[0].diff, layer.blobs[0].diff, layer.blobs[1].diff)):
        for _ in range(3):
            kept, step = array.copy(), rng.uniform(-1, 1, array.shape).astype(np.float32)
            array += step
            step = array.astype(np.float64) - kept  # what was added after rounding
            layer.forward(bottom, top)
            array[...] = kept
            change = (top[0].data - before) * weights
            assert abs(change.sum() - (gradient * step).sum()) <= 1e-5 * np.linalg.norm(change) * np.sqrt(change.size)


def test_what_is_forced_is_used_and_told_wherever_it_can(monkeypatch):
    text = window_text("Convolution", 32, (3, 3), (1, 1), (1, 1), (1, 1))

    def choices():
        kernels = make_layer(text, [np.zeros((1, 32, 9, 9))])[0].kernels
        return {phase: kernels.choice[phase] for phase in ("forward", "image", "weight")}

    usual = choices()
    assert {choice.name for choice in usual.values()} == {"winograd"}
    with choose.force("direct"):
        assert set(choices().values()) == {("direct", "forced")}
        with choose.force("gemm"):  # no 1 x 1 kernel: as always
            assert choices() == usual
        assert set(choices().values()) == {("direct", "forced")}
    assert choices() == usual
    with choose.force("direct"):
        layer = make_layer(text, [np.zeros((1, 32, 9, 9))])[0]
    assert layer.kernels.choice["image"] == ("direct", "forced")  # first asked for when nothing is forced any more
    monkeypatch.setenv("DEEPJET_KERNEL", "plain")
    assert set(choices().values()) == {("plain", "forced")}


def test_an_unknown_kernel_is_refused(monkeypatch):
    with pytest.raises(UnknownName, match="'winnograd' is forced; did you mean 'winograd'.*known: winograd, depthwise"), \
            choose.force("winnograd"):
        pass
    assert choose.forced() is None
    monkeypatch.setenv("DEEPJET_KERNEL", "fft")
    with pytest.raises(UnknownName, match="unknown kernel 'fft'"):
        choose.forced()
