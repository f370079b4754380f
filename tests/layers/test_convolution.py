"""Convolution against plain loops, central differences and its own other paths."""

import functools
import itertools

import numpy as np
import pytest

from layers.core.convolutional import SIZES
from layers.core.cpu import convolve, parallel, winograd
from layers.core.layer import Layer
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from netspec.spec import NetSpec
from netspec.spec import layers as L
from tests.layers.windows import window_text
from tests.support import check_gradient, make_layer, run_layer

rng = np.random.RandomState(3)
text = functools.partial(window_text, "Convolution")


def loops(x, w, b, stride, pad, dilation, group):
    """The definition, term by term, in float64; x (N, C, *), w (M, C / group, *k)."""
    axes = x.ndim - 2
    kernel = w.shape[2:]
    size = [(x.shape[2 + a] + 2 * pad[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in range(axes)]
    y = np.zeros((x.shape[0], w.shape[0], *size))
    per_group_in, per_group_out = w.shape[1], w.shape[0] // group
    for n, m, *o in itertools.product(*(range(s) for s in y.shape)):
        total = 0.0 if b is None else float(b[m])
        for c, *k in itertools.product(*(range(s) for s in w.shape[1:])):
            at = [o[a] * stride[a] - pad[a] + k[a] * dilation[a] for a in range(axes)]
            if all(0 <= i < s for i, s in zip(at, x.shape[2:])):
                total += float(x[(n, m // per_group_out * per_group_in + c, *at)]) * float(w[(m, c, *k)])
        y[(n, m, *o)] = total
    return y


CASES = {  # bottom shape, num_output, kernel, stride, pad, dilation, group
    "one axis": ((2, 3, 11), 4, (3,), (2,), (1,), (1,), 1),
    "odd plane": ((2, 3, 7, 5), 4, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "rectangular": ((1, 2, 9, 6), 3, (1, 4), (3, 2), (0, 2), (1, 1), 1),
    "stride above kernel": ((2, 2, 9, 10), 2, (2, 1), (3, 4), (0, 0), (1, 1), 1),
    "dilation": ((1, 2, 9, 8), 3, (3, 2), (1, 2), (2, 1), (2, 3), 1),
    "groups": ((2, 6, 5, 6), 4, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "depthwise": ((2, 3, 6, 5), 3, (3, 2), (2, 1), (1, 1), (1, 2), 3),
    "depthwise, one axis": ((2, 3, 9), 3, (3,), (2,), (2,), (1,), 3),
    "depthwise volume": ((1, 2, 3, 4, 3), 2, (2, 2, 2), (1, 1, 1), (1, 0, 1), (1, 1, 1), 2),
    "pointwise": ((3, 5, 3, 4), 2, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "pointwise groups": ((2, 4, 3, 4), 6, (1, 1), (1, 1), (0, 0), (1, 1), 2),
    "pointwise stride": ((2, 3, 5, 4), 2, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    "whole image": ((2, 3, 4, 5), 6, (4, 5), (1, 1), (0, 0), (1, 1), 1),
    "pad above kernel": ((1, 2, 3, 4), 2, (3, 2), (1, 2), (6, 5), (1, 1), 1),
    "volume": ((2, 2, 4, 5, 3), 3, (2, 3, 2), (2, 1, 1), (1, 1, 0), (1, 2, 1), 1),
    "four axes": ((1, 2, 3, 2, 3, 4), 2, (2, 1, 2, 3), (1, 1, 2, 1), (0, 1, 0, 1), (1, 1, 1, 1), 1),
}


def drawn(case):
    shape, num_output, kernel, *_, group = case
    return (rng.uniform(-1, 1, shape), rng.uniform(-1, 1, (num_output, shape[1] // group, *kernel)),
            rng.uniform(-1, 1, num_output))


@pytest.mark.parametrize("name", CASES)
def test_forward_is_the_definition(name):
    case = CASES[name]
    _, num_output, kernel, stride, pad, dilation, group = case
    x, w, b = drawn(case)
    wanted = loops(x, w, b, stride, pad, dilation, group)
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        layer, _, top = run_layer(text(num_output, kernel, stride, pad, dilation, group), [x], params=[w, b],
                                  dtype=dtype)
        assert top[0].data.dtype == dtype
        np.testing.assert_allclose(top[0].data, wanted, atol=tolerance)
    assert layer.macs([x.shape], [wanted.shape]) == wanted.size * w[0].size


@pytest.mark.parametrize("name", CASES)
def test_backward_is_the_gradient(name):
    case = CASES[name]
    _, num_output, kernel, stride, pad, dilation, group = case
    x, w, b = drawn(case)
    check_gradient(text(num_output, kernel, stride, pad, dilation, group), [x], params=[w, b])


def everything(case, **sizes):
    """Forward and backward in float64 with the module's sizes changed."""
    _, num_output, kernel, stride, pad, dilation, group = case
    state = np.random.RandomState(5)
    x = state.uniform(-1, 1, case[0])
    w = state.uniform(-1, 1, (num_output, case[0][1] // group, *kernel))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sizes.items():
            patch.setattr(convolve, name, value)
        layer, bottom, top = run_layer(text(num_output, kernel, stride, pad, dilation, group), [x],
                                       params=[w, np.ones(num_output)], dtype=np.float64)
        top[0].diff[...] = state.uniform(-1, 1, top[0].shape)
        layer.backward(top, [True], bottom)
    return [top[0].data.copy(), bottom[0].diff.copy(), layer.blobs[0].diff.copy(), layer.blobs[1].diff.copy()]


SPLIT = {
    "plane": ((2, 5, 19, 7), 6, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "stride and dilation": ((1, 4, 23, 11), 6, (3, 2), (2, 3), (3, 1), (3, 2), 2),
    "volume": ((1, 3, 5, 6, 7), 4, (2, 3, 2), (1, 2, 1), (1, 0, 1), (1, 1, 1), 1),
    "pointwise": ((1, 6, 9, 5), 7, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "many small images": ((17, 2, 4, 3), 3, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "large plane": ((1, 17, 66, 65), 5, (3, 3), (1, 1), (1, 1), (1, 1), 1),  # its gradient is a convolution
    "skipped rows": ((1, 2, 20, 5), 2, (1, 2), (4, 1), (2, 0), (1, 1), 1),
}


@pytest.mark.parametrize("name", [name for name in (*CASES, *SPLIT) if name != "four axes"])
def test_plain_twin_is_equal(name):
    case = {**CASES, **SPLIT}[name]
    _, num_output, kernel, stride, pad, dilation, group = case
    x, w, b = drawn(case)
    results = []
    for more in ("", "force_nd_im2col: true"):
        layer, bottom, top = run_layer(text(num_output, kernel, stride, pad, dilation, group, more=more), [x],
                                       params=[w, b], dtype=np.float64)
        top[0].diff[...] = np.cos(np.arange(top[0].count)).reshape(top[0].shape)
        layer.backward(top, [True], bottom)
        results.append([top[0].data, bottom[0].diff, layer.blobs[0].diff, layer.blobs[1].diff])
    assert layer.window.simple is False
    for fast, plain in zip(*results):
        np.testing.assert_allclose(fast, plain, atol=1e-12)


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("sizes", [{"BLOCK": 600, "MOST": 600, "PIXELS": 1, "ROWS": 5},
                                   {"BLOCK": 5000, "MOST": 5000, "PIXELS": 3, "OUTPUTS": 2, "ROWS": 20},
                                   {"BLOCK": 1 << 30, "MOST": 1 << 30, "PIXELS": 1 << 20, "OUTPUTS": 1}])
def test_blocks_do_not_change_the_result(name, sizes):
    for whole, cut in zip(everything(SPLIT[name]), everything(SPLIT[name], **sizes)):
        np.testing.assert_allclose(cut, whole, atol=1e-12)


@pytest.mark.parametrize("case", [SPLIT["plane"], ((1, 24, 40, 33), 40, (3, 3), (1, 1), (1, 1), (1, 1), 1),
                                  ((1, 64, 6, 6), 600, (4, 4), (1, 1), (0, 0), (1, 1), 1),
                                  ((9, 30, 12, 12), 20, (5, 5), (1, 1), (0, 0), (1, 1), 1),
                                  ((2, 24, 30, 30), 24, (3, 3), (2, 2), (1, 1), (1, 1), 24)])
def test_same_bits_for_any_number_of_threads(case):
    shape, num_output, kernel, stride, pad, dilation, group = case
    state = np.random.RandomState(5)
    x = state.randn(*shape)
    w = state.randn(num_output, shape[1] // group, *kernel)
    results = []
    before = parallel.threads()
    try:
        for threads in (1, 2, 3):
            parallel.set_threads(threads)
            layer, bottom, top = run_layer(text(num_output, kernel, stride, pad, dilation, group), [x],
                                           params=[w, w.ravel()[:num_output]])
            top[0].diff[...] = top[0].data
            layer.backward(top, [True], bottom)
            results.append([top[0].data, bottom[0].diff, layer.blobs[0].diff, layer.blobs[1].diff])
    finally:
        parallel.set_threads(before)
    for other in results[1:]:
        for one, more in zip(results[0], other):
            np.testing.assert_array_equal(one, more)


def test_backward_adds_to_parameters_and_overwrites_bottoms():
    layer, bottom, top = run_layer(text(2, (3, 3), (1, 1), (1, 1), (1, 1)), [np.ones((1, 2, 4, 4))])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    once = [b.diff.copy() for b in layer.blobs], bottom[0].diff.copy()
    layer.backward(top, [True], bottom)
    for blob, first in zip(layer.blobs, once[0]):
        np.testing.assert_allclose(blob.diff, 2 * first)
    np.testing.assert_array_equal(bottom[0].diff, once[1])


def test_backward_skips_what_is_not_wanted():
    layer, bottom, top = run_layer(text(2, (3, 3), (1, 1), (1, 1), (1, 1)), [np.ones((1, 2, 4, 4))])
    top[0].diff[...] = 1
    bottom[0].diff[...] = 7
    layer.param_propagate_down = [False, True]
    layer.backward(top, [False], bottom)
    assert (bottom[0].diff == 7).all()
    assert not layer.blobs[0].has_diff
    np.testing.assert_array_equal(layer.blobs[1].diff, [16, 16])


def test_bottoms_share_the_parameters():
    xs = [rng.randn(1, 2, 5, 5) for _ in range(2)]
    layer, bottom, top = run_layer(text(3, (3, 3), (1, 1), (0, 0), (1, 1)) + "top: 'a' top: 'b'", xs)
    for x, blob in zip(xs, top):
        alone = run_layer(text(3, (3, 3), (1, 1), (0, 0), (1, 1)), [x], params=[b.data for b in layer.blobs])[2]
        np.testing.assert_array_equal(blob.data, alone[0].data)
    check_gradient(text(2, (2, 2), (1, 1), (0, 0), (1, 1)) + "top: 'a' top: 'b'", [x[:, :, :3, :3] for x in xs],
                   params=[rng.randn(2, 2, 2, 2), rng.randn(2)])


def test_axis_says_where_the_channels_are():
    x = rng.randn(2, 3, 4, 5, 6)
    w = rng.randn(2, 4, 3, 3)
    _, _, top = run_layer("type: 'Convolution' convolution_param { num_output: 2 axis: -3 kernel_size: 3 "
                          "bias_term: false }", [x], params=[w])
    wanted = loops(x.reshape(6, 4, 5, 6), w, None, (1, 1), (0, 0), (1, 1), 1)
    assert top[0].shape == (2, 3, 2, 3, 4)
    np.testing.assert_allclose(top[0].data.reshape(wanted.shape), wanted, atol=1e-5)


def test_no_spatial_axis_is_an_inner_product():
    x, w = rng.randn(3, 4), rng.randn(2, 4)
    _, _, top = run_layer("type: 'Convolution' convolution_param { num_output: 2 bias_term: false }", [x], params=[w])
    np.testing.assert_allclose(top[0].data, x @ w.T, atol=1e-5)


def test_h_and_w_form_equals_the_repeated_one():
    x, w = rng.randn(1, 2, 8, 9), rng.randn(3, 2, 3, 2)
    one = run_layer(text(3, (3, 2), (2, 1), (1, 2), (1, 1), bias=False), [x], params=[w])[2]
    two = run_layer("type: 'Convolution' convolution_param { num_output: 3 kernel_h: 3 kernel_w: 2 stride_h: 2 "
                    "stride_w: 1 pad_h: 1 pad_w: 2 bias_term: false }", [x], params=[w])[2]
    np.testing.assert_array_equal(one[0].data, two[0].data)


def test_image_may_change_its_size_and_batch_may_be_empty():
    layer, bottom, top = run_layer(text(2, (3, 3), (1, 1), (1, 1), (1, 1)), [np.ones((1, 2, 4, 4))])
    for shape in ((2, 2, 6, 5), (0, 2, 6, 5), (1, 2, 3, 3)):
        bottom[0].reshape(shape)
        bottom[0].data[...] = 1
        layer.reshape(bottom, top)
        layer.forward(bottom, top)
        assert top[0].shape == shape
        wanted = run_layer(text(2, (3, 3), (1, 1), (1, 1), (1, 1)), [np.ones(shape)],
                           params=[b.data for b in layer.blobs])[2]
        np.testing.assert_array_equal(top[0].data, wanted[0].data)
        layer.backward(top, [True], bottom)


def test_nan_and_infinity_pass_without_a_warning():
    x = rng.randn(1, 2, 5, 5)
    x[0, 0, 2, 2], x[0, 1, 0, 0] = np.nan, np.inf
    layer, bottom, top = run_layer(text(2, (3, 3), (1, 1), (1, 1), (1, 1)), [x], params=[np.zeros((2, 2, 3, 3))])
    assert np.isnan(top[0].data[0, :, 1:4, 1:4]).all()
    top[0].diff[...] = top[0].data
    layer.backward(top, [True], bottom)


def test_block_of_columns_stays_small(monkeypatch):
    taken = []
    scratch = convolve.blas.scratch
    monkeypatch.setattr(convolve.blas, "scratch", lambda shape, dtype, slot="": (
        taken.append(np.prod(shape) * np.dtype(dtype).itemsize), scratch(shape, dtype, slot))[1])
    monkeypatch.setattr(Layer, "math", "caffe")
    layer, bottom, top = run_layer(text(4, (3, 3), (1, 1), (1, 1), (1, 1)), [np.zeros((1, 64, 400, 300))])
    layer.backward(top, [True], bottom)
    assert 1 << 18 < max(taken) <= 1 << 23  # all columns would be 276 MB


@pytest.mark.parametrize("inside, shape, message", [
    ("kernel_size: 3", (1, 2, 5, 5), "num_output is missing"),
    ("num_output: 3 group: 2 kernel_size: 3", (1, 2, 5, 5), "num_output 3 cannot be cut into 2 groups"),
    ("num_output: 4 group: 0 kernel_size: 3", (1, 2, 5, 5), "0 groups"),
    ("num_output: 4 group: 2 kernel_size: 3", (1, 3, 5, 5), "3 channels on axis 1"),
    ("num_output: 4", (1, 3, 5, 5), "'kernel_size' is missing"),
    ("num_output: 4 kernel_size: 7", (1, 3, 5, 5), "does not fit into size 5"),
    ("num_output: 4 kernel_size: 3 axis: 4", (1, 3, 5, 5), "axis 4 is out of range"),
    ("num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 3", (1, 3, 5, 5), "keep one of these forms"),
    ("num_output: 4 kernel_size: 3 stride: 0", (1, 3, 5, 5), "'stride' is 0"),
])
def test_refuses(inside, shape, message):
    with pytest.raises(Error, match=message):
        make_layer(f"type: 'Convolution' convolution_param {{ {inside} }}", [np.zeros(shape)])


def test_refuses_bottoms_of_two_shapes_and_changed_channels():
    with pytest.raises(Error, match="one shape, but they have .1, 2, 5, 5. and .1, 2, 5, 6."):
        make_layer(text(2, (3, 3), (1, 1), (1, 1), (1, 1)), [np.zeros((1, 2, 5, 5)), np.zeros((1, 2, 5, 6))])
    layer, bottom, top = make_layer(text(2, (3, 3), (1, 1), (1, 1), (1, 1)), [np.zeros((1, 2, 5, 5))])
    bottom[0].reshape(1, 3, 5, 5)
    with pytest.raises(Error, match="needs weights .2, 3, 3, 3., but they are .2, 2, 3, 3."):
        layer.reshape(bottom, top)


def test_fillers_fill_weights_and_bias():
    layer, _, _ = make_layer(text(2, (3, 3), (1, 1), (0, 0), (1, 1), more="weight_filler { type: 'xavier' } "
                                  "bias_filler { value: 0.5 }"), [np.zeros((1, 2, 5, 5))], phase=caffe_pb2.TEST)
    assert layer.blobs[0].data.std() > 0.1
    assert (layer.blobs[1].data == 0.5).all()


@pytest.mark.parametrize("rate", [0, 1])
def test_transformed_weights_are_kept_in_training_where_nothing_learns_them(rate, monkeypatch):
    n = NetSpec()
    n.data = L.Input(input_param={"shape": {"dim": [1, 16, 12, 12]}})
    n.out = L.Convolution(n.data, num_output=16, kernel_size=3, pad=1, weight_filler={"type": "msra"},
                          param=[{"lr_mult": rate}, {"lr_mult": 0}])
    n.loss = L.Reduction(n.out, loss_weight=1)
    net, made = Net(n.to_proto(), caffe_pb2.TRAIN, seed=1), []
    prepare = winograd.prepare
    monkeypatch.setattr(winograd, "prepare", lambda *args, **more: made.append(1) or prepare(*args, **more))
    for _ in range(3):
        net.forward()
    assert len(made) == (3 if rate else 1)


def test_transformed_weights_serve_images_of_all_sizes(monkeypatch):
    prepared = []
    prepare = winograd.prepare
    monkeypatch.setattr(winograd, "prepare", lambda *given, **named: prepared.append(1) or prepare(*given, **named))
    x, w = rng.randn(1, 16, 12, 9).astype("f4"), rng.randn(16, 16, 3, 3)
    layer, bottom, top = run_layer(text(16, (3, 3), (), (1, 1), (), bias=False), [x], params=[w],
                                   phase=caffe_pb2.TEST)
    for height, width in ((9, 12), (20, 7), (12, 9)):
        bottom[0].reshape(1, 16, height, width)
        bottom[0].data[...] = 1
        layer.reshape(bottom, top)
        layer.forward(bottom, top)
        assert top[0].data[0, 3, 4, 4] == pytest.approx(w[3].sum(), rel=1e-4, abs=1e-4)
    assert len(prepared) == 1


def test_sizes_met_before_are_remembered_and_a_misfit_leaves_no_trace():
    x, w = rng.randn(1, 16, 12, 9).astype("f4"), rng.randn(16, 16, 3, 3)
    layer, bottom, top = run_layer(text(16, (3, 3), (), (1, 1), (), bias=False), [x], params=[w])
    kernels = layer.kernels
    for shape, misfit in (((2, 16, 9, 12), False), ((1, 17, 12, 9), True), ((2, 16, 9, 12), False), ((1, 16, 12, 9), False)):
        bottom[0].reshape(shape)
        if misfit:
            with pytest.raises(Error, match="needs weights"):
                layer.reshape(bottom, top)
            continue
        bottom[0].data[...] = np.resize(x, shape)
        layer.reshape(bottom, top)
        layer.forward(bottom, top)
        other, _, expected = run_layer(text(16, (3, 3), (), (1, 1), (), bias=False), [np.resize(x, shape)], params=[w])
        assert top[0].shape == shape and np.array_equal(top[0].data, expected[0].data)
    assert layer.kernels is kernels
    for size in range(SIZES + 1):
        bottom[0].reshape(1, 16, 20, 20 + size)
        layer.reshape(bottom, top)
    assert len(layer._met) == SIZES
