"""Deconvolution against plain loops that scatter, central differences, and its own paths."""

import functools
import itertools

import numpy as np
import pytest

from layers.core.cpu import convolve, depthwise, parallel
from netspec.errors import Error
from tests.layers.windows import window_text
from tests.support import check_gradient, make_layer, run_layer

rng = np.random.RandomState(4)
text = functools.partial(window_text, "Deconvolution")


def loops(x, w, b, stride, pad, dilation, group):
    """Every value of x, times the kernel, added where it falls; x (N, C, *), w (C, M / group, *k); float64."""
    axes, kernel = x.ndim - 2, w.shape[2:]
    outputs, inputs = w.shape[1], x.shape[1] // group
    size = [stride[a] * (x.shape[2 + a] - 1) + dilation[a] * (kernel[a] - 1) + 1 - 2 * pad[a] for a in range(axes)]
    y = np.zeros((x.shape[0], outputs * group, *size))
    if b is not None:
        y += b.reshape(-1, *(1,) * axes)
    for n, c, *i in itertools.product(*(range(s) for s in x.shape)):
        for m, *k in itertools.product(*(range(s) for s in w.shape[1:])):
            at = [i[a] * stride[a] - pad[a] + k[a] * dilation[a] for a in range(axes)]
            if all(0 <= p < s for p, s in zip(at, size)):
                y[(n, c // inputs * outputs + m, *at)] += float(x[(n, c, *i)]) * float(w[(c, m, *k)])
    return y


CASES = {  # bottom shape, num_output, kernel, stride, pad, dilation, group
    "one axis": ((2, 3, 5), 2, (4,), (2,), (1,), (1,), 1),
    "plane": ((2, 3, 4, 5), 2, (3, 4), (2, 3), (1, 0), (1, 1), 1),
    "stride 1": ((1, 2, 5, 4), 3, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "stride above kernel": ((1, 2, 3, 4), 2, (2, 1), (3, 4), (0, 0), (1, 1), 1),
    "groups and dilation": ((2, 4, 3, 4), 6, (3, 2), (2, 1), (1, 1), (2, 3), 2),
    "own kernels": ((2, 3, 4, 5), 3, (4, 5), (2, 3), (1, 2), (1, 1), 3),
    "own kernels, one axis": ((2, 3, 5), 3, (4,), (3,), (1,), (1,), 3),
    "own kernels, dilation": ((1, 2, 4, 3), 2, (3, 3), (2, 2), (2, 1), (3, 2), 2),
    "pointwise": ((2, 3, 4, 5), 2, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "volume": ((1, 2, 2, 3, 4), 3, (2, 3, 2), (2, 1, 3), (1, 1, 0), (1, 2, 1), 1),
    "four axes": ((1, 2, 2, 1, 3, 2), 2, (2, 1, 2, 3), (1, 1, 2, 1), (0, 0, 0, 1), (1, 1, 1, 1), 1),
}


def drawn(case):
    shape, num_output, kernel, *_, group = case
    return (rng.uniform(-1, 1, shape), rng.uniform(-1, 1, (shape[1], num_output // group, *kernel)),
            rng.uniform(-1, 1, num_output))


@pytest.mark.parametrize("name", CASES)
def test_forward_is_the_definition(name):
    case = CASES[name]
    _, num_output, kernel, stride, pad, dilation, group = case
    x, w, b = drawn(case)
    wanted = loops(x, w, b, stride, pad, dilation, group)
    for dtype, tolerance, more in ((np.float32, 1e-5, ""), (np.float64, 1e-12, ""),
                                   (np.float64, 1e-12, "force_nd_im2col: true")):
        layer, _, top = run_layer(text(num_output, kernel, stride, pad, dilation, group, more=more), [x],
                                  params=[w, b], dtype=dtype)
        np.testing.assert_allclose(top[0].data, wanted, atol=tolerance)
    assert layer.macs([x.shape], [wanted.shape]) == x.size * w[0].size


@pytest.mark.parametrize("name", CASES)
def test_backward_is_the_gradient(name):
    case = CASES[name]
    _, num_output, kernel, stride, pad, dilation, group = case
    x, w, b = drawn(case)
    check_gradient(text(num_output, kernel, stride, pad, dilation, group), [x], params=[w, b])


@pytest.mark.parametrize("sizes", [{"BLOCK": 600, "MOST": 600, "PIXELS": 1, "ROWS": 5},
                                   {"BLOCK": 5000, "MOST": 5000, "PIXELS": 3, "OUTPUTS": 2, "ROWS": 20}])
@pytest.mark.parametrize("case", [((2, 5, 9, 4), 4, (5, 3), (2, 2), (1, 1), (1, 1), 1),
                                  ((1, 4, 7, 4), 4, (3, 2), (3, 1), (2, 0), (2, 1), 2),
                                  ((1, 3, 5, 4, 3), 4, (2, 3, 2), (2, 1, 1), (1, 1, 0), (1, 1, 1), 1)])
def test_blocks_do_not_change_the_result(monkeypatch, case, sizes):
    _, num_output, kernel, stride, pad, dilation, group = case
    x, w, b = drawn(case)
    results = []
    for changed in ({}, sizes):
        for key, value in changed.items():
            monkeypatch.setattr(convolve, key, value)
        layer, bottom, top = run_layer(text(num_output, kernel, stride, pad, dilation, group), [x], params=[w, b],
                                       dtype=np.float64)
        top[0].diff[...] = np.sin(np.arange(top[0].count)).reshape(top[0].shape)
        layer.backward(top, [True], bottom)
        results.append([top[0].data, bottom[0].diff, layer.blobs[0].diff])
    for whole, cut in zip(*results):
        np.testing.assert_allclose(cut, whole, atol=1e-12)


def diagonal_weights(channels, size):
    half = (size + 1) // 2
    ramp = 1 - abs(np.arange(size) / half - (size - 1) / (2 * half))
    w = np.zeros((channels, channels, size, size))
    w[np.arange(channels), np.arange(channels)] = np.outer(ramp, ramp)
    return w


@pytest.mark.parametrize("size, stride, pad", [(4, 2, 0), (16, 8, 4), (64, 32, 0), (5, 3, 1), (3, 4, 0), (63, 32, 0)])
def test_diagonal_weights_give_what_dense_ones_do(monkeypatch, size, stride, pad):
    x, w = rng.randn(2, 5, 6, 3), diagonal_weights(5, size)
    results = []
    for dense in (False, True):
        if dense:
            monkeypatch.setattr(depthwise, "diagonal", lambda weight: None)
        layer, bottom, top = run_layer(text(5, (size,), (stride,), (pad,), (), bias=False), [x], params=[w],
                                       dtype=np.float64)
        assert (layer._diagonal() is None) == dense
        top[0].diff[...] = np.random.RandomState(1).randn(*top[0].shape)
        layer.backward(top, [True], bottom)
        results.append([top[0].data, bottom[0].diff, layer.blobs[0].diff])
    for own, other in zip(*results):
        np.testing.assert_allclose(own, other, atol=1e-12)
    assert results[0][2][0, 1].any(), "the gradient of dense weights is dense"


def test_change_of_the_weights_in_place_is_seen():
    x, w = rng.randn(1, 3, 4, 4), diagonal_weights(3, 4)
    layer, bottom, top = run_layer(text(3, (4,), (2,), (1,), (), bias=False), [x], params=[w])
    for value in (0.5, np.nan, 0):
        layer.blobs[0].data[2, 0, 3, 3] = w[2, 0, 3, 3] = value
        layer.forward(bottom, top)
        if not np.isnan(value):
            np.testing.assert_allclose(top[0].data, loops(x, w, None, (2, 2), (1, 1), (1, 1), 1), atol=1e-5)
        else:
            assert np.isnan(top[0].data[0, 0]).any()


def test_bilinear_kernels_interpolate():
    x = np.arange(5.0).reshape(1, 1, 1, 5) + 10 * np.arange(4.0).reshape(1, 1, 4, 1)
    more = "weight_filler { type: 'bilinear' }"
    layer, _, top = run_layer(text(1, (4,), (2,), (1,), (), bias=False, more=more), [x])
    row = np.arange(-0.25, 4.5, 0.5)[1:-1]  # away from the border, where a ramp meets the zeros outside
    np.testing.assert_allclose(top[0].data[0, 0, 3, 1:-1], 12.5 + row, atol=1e-5)


def test_weights_held_fixed_get_no_gradient():
    layer, bottom, top = run_layer(text(3, (4,), (2,), (1,), (), bias=False), [rng.randn(1, 3, 4, 4)],
                                   params=[diagonal_weights(3, 4)])
    layer.param_propagate_down = [False]
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    assert not layer.blobs[0].has_diff
    assert bottom[0].diff.any()


def test_same_bits_for_any_number_of_threads():
    x = rng.randn(2, 21, 12, 11)
    results = []
    before = parallel.threads()
    try:
        for threads in (1, 2, 3):
            parallel.set_threads(threads)
            for w in (diagonal_weights(21, 8), np.random.RandomState(1).randn(21, 21, 8, 8)):
                layer, bottom, top = run_layer(text(21, (8,), (4,), (2,), ()), [x], params=[w])
                top[0].diff[...] = top[0].data
                layer.backward(top, [True], bottom)
                results.append([top[0].data, bottom[0].diff, layer.blobs[0].diff, layer.blobs[1].diff])
    finally:
        parallel.set_threads(before)
    for i in (2, 3, 4, 5):
        for one, other in zip(results[i % 2], results[i]):
            np.testing.assert_array_equal(one, other)


def test_bottoms_share_the_parameters():
    xs = [rng.randn(1, 2, 3, 3) for _ in range(2)]
    check_gradient(text(3, (3, 3), (2, 2), (0, 0), (1, 1)) + "top: 'a' top: 'b'", xs,
                   params=[rng.randn(2, 3, 3, 3), rng.randn(3)])


@pytest.mark.parametrize("inside, shape, message", [
    ("num_output: 4 group: 2 kernel_size: 3", (1, 3, 5, 5), "3 channels on axis 1"),
    ("num_output: 4 kernel_size: 3 pad: 9", (1, 3, 5, 5), "has output size"),
    ("num_output: 4 stride: 2", (1, 3, 5, 5), "'kernel_size' is missing"),
])
def test_refuses(inside, shape, message):
    with pytest.raises(Error, match=message):
        make_layer(f"type: 'Deconvolution' convolution_param {{ {inside} }}", [np.zeros(shape)])
