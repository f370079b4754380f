"""Pooling against plain loops, central differences and Caffe's rules for windows at the border."""

import itertools

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.cpu import parallel
from layers.core.net import Net
from layers.pooling import LOWEST
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.drawing import check_draws_anew
from tests.support import check_gradient, make_layer, run_layer

rng = np.random.RandomState(5)


def out_size(size, kernel, stride, pad, any_pad, ceil=True):
    out = (np.ceil if ceil else np.floor)((size + 2 * pad - kernel) / stride) + 1
    if any_pad and (out - 1) * stride >= size + pad:
        out -= 1
    return int(out)


def windows(x, kernel, stride, pad, ceil=True):
    """Yield (n, c, oh, ow), the window's values, their flat indices and the area that AVE divides by."""
    height, width = x.shape[2:]
    size = [out_size(s, k, t, p, any(pad), ceil) for s, k, t, p in zip((height, width), kernel, stride, pad)]
    for n, c, oh, ow in itertools.product(*map(range, (*x.shape[:2], *size))):
        top, left = oh * stride[0] - pad[0], ow * stride[1] - pad[1]
        inside = [(y, z) for y in range(max(top, 0), min(top + kernel[0], height))
                  for z in range(max(left, 0), min(left + kernel[1], width))]
        area = (min(top + kernel[0], height + pad[0]) - top) * (min(left + kernel[1], width + pad[1]) - left)
        yield (n, c, oh, ow), [x[n, c, y, z] for y, z in inside], [y * width + z for y, z in inside], area


def loops(x, kernel, stride, pad, method, ceil=True):
    """Return (values, winners) as dictionaries by output position."""
    values, winners = {}, {}
    for at, seen, indices, area in windows(x, kernel, stride, pad, ceil):
        if method == "MAX":
            values[at] = max(seen)
            winners[at] = indices[seen.index(max(seen))]  # the first of equal ones
        elif method == "AVE":
            values[at] = sum(seen) / area
        else:
            values[at] = sum(v * v for v in seen) / sum(seen)
    return values, winners


def text(kernel, stride, pad, method="MAX", more=""):
    return (f"type: 'Pooling' pooling_param {{ pool: {method} kernel_h: {kernel[0]} kernel_w: {kernel[1]} "
            f"stride_h: {stride[0]} stride_w: {stride[1]} pad_h: {pad[0]} pad_w: {pad[1]} {more} }}")


CASES = {  # bottom shape, kernel, stride, pad
    "halves": ((2, 3, 6, 8), (2, 2), (2, 2), (0, 0)),
    "odd size rounds up": ((1, 2, 7, 5), (2, 2), (2, 2), (0, 0)),
    "overlapping": ((1, 2, 8, 7), (3, 3), (2, 2), (0, 0)),
    "padded": ((2, 2, 7, 6), (3, 3), (2, 2), (1, 1)),
    "padded on one axis": ((1, 1, 6, 5), (3, 2), (3, 2), (2, 0)),
    "last window dropped": ((1, 2, 4, 4), (2, 2), (3, 3), (1, 1)),
    "rectangular": ((1, 2, 5, 9), (1, 4), (2, 3), (0, 1)),
    "stride above kernel": ((1, 2, 8, 11), (2, 1), (3, 5), (0, 0)),
    "whole": ((2, 2, 4, 5), (4, 5), (1, 1), (0, 0)),
}
BOTH = [(name, method) for name in CASES for method in ("MAX", "AVE", "STOCHASTIC")
        if method != "STOCHASTIC" or not any(CASES[name][3])]  # STOCHASTIC has no padding


@pytest.mark.parametrize("name, method", BOTH)
@pytest.mark.parametrize("ceil", [True, False])
def test_forward_is_the_definition(name, method, ceil):
    shape, kernel, stride, pad = CASES[name]
    x = rng.uniform(0.1, 1, shape).astype(np.float32)
    values, winners = loops(x.astype(np.float64), kernel, stride, pad, method, ceil)
    more = "" if ceil else "round_mode: FLOOR"
    names = "top: 'y' top: 'mask'" if method == "MAX" else ""
    layer, _, top = run_layer(text(kernel, stride, pad, method, more) + names, [x], phase=caffe_pb2.TEST)
    assert top[0].count == len(values)
    for at, value in values.items():
        assert top[0].data[at] == pytest.approx(value, rel=1e-6)
    for at, index in winners.items():
        assert top[1].data[at] == index


@pytest.mark.parametrize("name, method", BOTH)
def test_backward_is_the_gradient(name, method):
    shape, kernel, stride, pad = CASES[name]
    x = np.random.RandomState(1).permutation(np.prod(shape)).reshape(shape) / 10 + 0.1  # no ties
    check_gradient(text(kernel, stride, pad, method), [x], phase=caffe_pb2.TEST)


def test_backward_of_stochastic_follows_what_was_drawn():
    check_gradient(text((2, 3), (2, 2), (0, 0), "STOCHASTIC"), [rng.uniform(1, 2, (2, 2, 5, 6))],
                   phase=caffe_pb2.TRAIN)


def test_stochastic_draws_in_proportion_and_anew_each_time():
    x = np.tile(np.array([1.0, 0, 2, 5]).reshape(1, 1, 2, 2), (1, 8000, 1, 1))
    layer, bottom, top = run_layer(text((2, 2), (1, 1), (0, 0), "STOCHASTIC"), [x], seed=2)
    for value, share in ((1, 1 / 8), (0, 0), (2, 2 / 8), (5, 5 / 8)):
        assert (top[0].data == value).mean() == pytest.approx(share, abs=0.02)
    check_draws_anew(layer, bottom, top)


def test_only_drawing_has_a_state():
    for method, has in (("MAX", False), ("AVE", False), ("STOCHASTIC", True)):
        layer = make_layer(text((2, 2), (1, 1), (0, 0), method), [np.zeros((1, 1, 4, 4))])[0]
        assert (layer.state() is not None) == has


def test_stochastic_of_zeros_is_zero():
    for phase in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        layer, bottom, top = run_layer(text((2, 2), (2, 2), (0, 0), "STOCHASTIC"), [np.zeros((1, 1, 4, 4))], phase)
        layer.backward(top, [True], bottom)
        assert not top[0].data.any() and not bottom[0].diff.any()


def test_ties_go_to_the_first_in_scan_order():
    layer, bottom, top = run_layer(text((3, 3), (2, 2), (0, 0)), [np.zeros((1, 1, 5, 5))])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    wanted = np.zeros((5, 5))
    wanted[:3:2, :3:2] = 1
    np.testing.assert_array_equal(bottom[0].diff[0, 0], wanted)


def test_winners_add_up_where_windows_overlap():
    x = np.zeros((1, 1, 3, 3))
    x[0, 0, 1, 1] = 1
    layer, bottom, top = run_layer(text((2, 2), (1, 1), (0, 0)), [x])
    top[0].diff[...] = [[[[1, 2], [3, 4]]]]
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, 10 * x)


def test_nan_loses_and_windows_of_nan_stay_nan_and_harmless():
    x = np.full((1, 2, 4, 4), np.nan)
    x[0, 0, 0, 1] = -3
    x[0, 1, 2:, :2] = -np.inf
    x[0, 1, 2:, 2:] = [[np.nan, -np.inf], [np.nan, np.nan]]
    layer, bottom, top = run_layer(text((2, 2), (2, 2), (0, 0)) + "top: 'y' top: 'mask'", [x])
    np.testing.assert_array_equal(top[0].data[0], [[[-3, np.nan], [np.nan] * 2], [[np.nan] * 2, [-np.inf] * 2]])
    np.testing.assert_array_equal(top[1].data[0], [[[1, 2], [8, 10]], [[0, 2], [8, 11]]])
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    assert bottom[0].diff.sum() == 8


@pytest.mark.parametrize("method, value", [("MAX", LOWEST), ("AVE", 0), ("STOCHASTIC", 0)])
def test_window_outside_the_image_is_harmless(method, value):
    # Size 3, kernel 1, stride 3, rounding up: the second window begins at 3.
    names = "top: 'y' top: 'mask'" if method == "MAX" else ""
    for phase in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        layer, bottom, top = run_layer(text((1, 1), (3, 3), (0, 0), method) + names, [np.ones((1, 1, 3, 3))], phase)
        np.testing.assert_array_equal(top[0].data[0, 0], [[1, value], [value, value]])
        if names:
            np.testing.assert_array_equal(top[1].data[0, 0], [[0, -1], [-1, -1]])
        top[0].diff[...] = 1
        layer.backward(top, [True], bottom)
        assert bottom[0].diff.sum() == 1


def test_global_pooling_follows_the_image():
    layer, bottom, top = run_layer("type: 'Pooling' pooling_param { pool: AVE global_pooling: true }",
                                   [np.arange(24.0).reshape(1, 2, 3, 4)])
    np.testing.assert_allclose(top[0].data.ravel(), [5.5, 17.5])
    bottom[0].reshape(3, 2, 5, 7)
    bottom[0].data[...] = 2
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    assert top[0].shape == (3, 2, 1, 1)
    assert (top[0].data == 2).all()


def test_only_max_has_a_second_top():
    with pytest.raises(Error, match="at most 1 top"):
        make_layer(text((2, 2), (2, 2), (0, 0), "AVE") + "top: 'a' top: 'b'", [np.zeros((1, 1, 4, 4))])


def test_same_bits_for_any_number_of_threads():
    x = rng.randn(2, 5, 61, 50)
    before = parallel.threads()
    try:
        for method, phase in (("MAX", 0), ("AVE", 0), ("STOCHASTIC", 0), ("STOCHASTIC", 1)):
            results = []
            for threads in (1, 2, 3):
                parallel.set_threads(threads)
                layer, bottom, top = run_layer(text((3, 3), (2, 2), (0, 0), method), [abs(x)], phase)
                top[0].diff[...] = top[0].data
                layer.backward(top, [True], bottom)
                results.append((top[0].data, bottom[0].diff))
            for other in results[1:]:
                np.testing.assert_array_equal(results[0][0], other[0])
                np.testing.assert_array_equal(results[0][1], other[1])
    finally:
        parallel.set_threads(before)


@pytest.mark.parametrize("inside, shape, message", [
    ("kernel_size: 2 pad: 2", (1, 1, 5, 5), "pad 2 x 2 must be smaller than the kernel"),
    ("stride: 2", (1, 1, 5, 5), "'kernel_size' is missing"),
    ("kernel_size: 2", (1, 5, 5), "4 axes"),
    ("kernel_size: 2 global_pooling: true", (1, 1, 5, 5), "global_pooling"),
    ("global_pooling: true pad: 1", (1, 1, 5, 5), "pad 0 and stride 1"),
    ("pool: STOCHASTIC kernel_size: 2 pad: 1", (1, 1, 5, 5), "MAX and AVE"),
    ("kernel_size: 9 round_mode: FLOOR", (1, 1, 5, 5), "output size"),
])
def test_refuses(inside, shape, message):
    with pytest.raises(Error, match=message):
        make_layer(f"type: 'Pooling' pooling_param {{ {inside} }}", [np.zeros(shape)])


@pytest.mark.parametrize("shape, kernel, stride, pad", [((2, 3, 9, 11), 2, 2, 0), ((1, 2, 21, 40), 3, 2, 0),
                                                        ((1, 2, 9, 12), 3, 1, 1), ((1, 2, 9, 12), 5, 3, 2)])
def test_backward_in_test_finds_the_winners_that_forward_did_not_keep(shape, kernel, stride, pad):
    x = np.random.RandomState(2).choice([-np.inf, -1, 0, 1], shape).astype(np.float32)
    results = []
    for phase, mask in ((caffe_pb2.TRAIN, ""), (caffe_pb2.TEST, ""), (caffe_pb2.TEST, "top: 'y' top: 'mask'")):
        layer, bottom, top = run_layer(text((kernel,) * 2, (stride,) * 2, (pad,) * 2) + mask, [x], phase=phase)
        top[0].diff[...] = np.random.RandomState(3).randn(*top[0].shape)
        layer.backward(top, [True], bottom)
        results.append((top[0].data.copy(), bottom[0].diff.copy()))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("how", ["pool: AVE global_pooling: true", "pool: MAX global_pooling: true",
                                 "pool: MAX kernel_size: 3 stride: 2 pad: 1", "pool: AVE kernel_size: 3 stride: 2 pad: 1"])
@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_a_bottom_in_blocks_whose_top_is_wanted_in_nchw(how, phase):
    def run(looked_at):
        net = Net(text_format.Parse(f"""
            layer {{ name: "in" type: "Input" top: "data" top: "label" input_param {{
              shape {{ dim: 2 dim: 5 dim: 13 dim: 11 }} shape {{ dim: 2 }} }} }}
            layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{
              num_output: 37 kernel_size: 1 weight_filler {{ type: "msra" }} }} }}
            layer {{ name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {{ {how} }} }}
            layer {{ name: "score" type: "InnerProduct" bottom: "pool" top: "score" inner_product_param {{
              num_output: 3 weight_filler {{ type: "xavier" }} }} }}
            layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }}""",
                                    caffe_pb2.NetParameter()), phase, seed=1)
        held = net.blobs["conv"].data if looked_at else None
        for seed in range(2):
            net.blobs["data"].data[...] = np.random.default_rng(seed).standard_normal((2, 5, 13, 11))
            net.clear_param_diffs()
            net.forward()
            assert net.blobs["conv"].memory().in_blocks((2, 37, 13, 11)) != looked_at
            net.backward()
        del held
        return net.blobs["pool"].data, net.blobs["conv"].diff, net.params["conv"][0].diff

    for fast, plain in zip(run(False), run(True)):
        assert np.array_equal(fast, plain) and fast.std() > 0
