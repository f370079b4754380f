"""Layers that move, join, scale and sum up values, on a card."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.cuda import counts, small
from layers.core.net import Net
from netspec import caffe_pb2
from tests.layers.core.cuda.cards import CARD, check_on_card, on_card

RNG = np.random.RandomState(3)
A, B, C = RNG.uniform(-1, 1, (3, 2, 3, 4, 5)).astype("f4")
B[0, 0, 0, :2], A[0, 0, 0, 1:3] = A[0, 0, 0, :2], np.nan


@pytest.mark.parametrize("text", ["", "coeff: 2 coeff: -1 coeff: 0.5", "operation: PROD", "operation: MAX",
                                  "operation: PROD stable_prod_grad: false"])
def test_eltwise_of_three(text):
    check_on_card(f'type: "Eltwise" eltwise_param {{ {text} }}', [A, B, C], tolerance=1e-6)


@pytest.mark.parametrize("text", ["", "operation: MAX"])
def test_eltwise_of_two_leaves_out_a_gradient(text):
    check_on_card(f'type: "Eltwise" eltwise_param {{ {text} }}', [A, B], tolerance=0, wanted=[1])


def test_eltwise_adds_in_place():
    check_on_card('type: "Eltwise"', [A, B], tolerance=0, in_place=True)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_of_unlike_parts(axis):
    parts = [np.take(A, range(1, 2), axis), B, np.take(C, range(2), axis)]
    check_on_card(f'type: "Concat" concat_param {{ axis: {axis} }}', parts, tolerance=0, wanted=[0, 2])


@pytest.mark.parametrize("text", ['top: "a" top: "b" slice_param { axis: 0 }', 'top: "a" top: "b" top: "c"',
                                  'top: "a" top: "b" top: "c" slice_param { axis: -1 slice_point: 1 slice_point: 3 }'])
def test_slice(text):
    check_on_card(f'type: "Slice" {text}', [A], tolerance=0)


@pytest.mark.parametrize("kind", ["Concat", "Slice"])
def test_a_single_part_shares_its_memory(kind):
    layer, bottom, top = on_card(f'type: "{kind}"', [B])
    layer.forward_cuda(bottom, top)
    layer.backward_cuda(top, [True], bottom)
    assert top[0].memory() is bottom[0].memory()
    assert top[0].memory(diff=True) is bottom[0].memory(diff=True)


@pytest.mark.parametrize("tops", [1, 2, 4])
def test_split_adds_up_gradients(tops):
    check_on_card('type: "Split"' + "".join(f' top: "t{i}"' for i in range(tops)), [A], tolerance=0)


def test_split_passes_over_gradients_that_nobody_touched():
    layer, bottom, top = on_card('type: "Split" top: "a" top: "b" top: "c"', [B])
    layer.forward_cuda(bottom, top)
    bottom[0].diff[...] = np.nan
    layer.backward_cuda(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, np.zeros_like(B))
    top[1].diff[...] = C
    layer.backward_cuda(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, C)


@pytest.mark.parametrize("text, size", [("offset: 1", (2, 3, 2, 3)), ("axis: 1 offset: 1 offset: 0 offset: 2", (2, 2, 4, 3)),
                                        ("axis: 0", (1, 2, 3, 4)), ("axis: 3 offset: 4", (2, 3, 4, 1))])
def test_crop(text, size):
    check_on_card(f'type: "Crop" crop_param {{ {text} }}', [A, np.zeros(size)], tolerance=0)


def test_crop_follows_a_new_size():
    layer, bottom, top = on_card('type: "Crop" crop_param { offset: 1 }', [B, np.zeros((2, 3, 2, 3))])
    layer.forward_cuda(bottom, top)
    bottom[1].reshape(2, 3, 3, 2)
    layer.reshape(bottom, top)
    layer.forward_cuda(bottom, top)
    np.testing.assert_array_equal(top[0].data, B[:, :, 1:4, 1:3])


def test_silence_clears_gradients_on_the_card():
    param = text_format.Parse("""
        force_backward: true
        layer { name: "in" type: "Input" top: "x" top: "z" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "quiet" type: "Silence" bottom: "x" bottom: "z" }""", caffe_pb2.NetParameter())
    net = Net(param, device=CARD)
    net.blobs["x"].diff[...] = 1
    net.forward()
    net.backward()
    assert not net.blobs["x"].memory(diff=True).on_host
    assert not net.blobs["z"].has_diff
    np.testing.assert_array_equal(net.blobs["x"].diff, np.zeros((2, 3)))


@pytest.mark.parametrize("kind", ["Scale", "Bias"])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("axis, axes", [(1, 1), (0, 2), (2, -1), (3, 1), (1, 0)])
def test_spread_operands(kind, axis, axes, in_place):
    shape = () if axes == 0 else A.shape[axis:] if axes == -1 else A.shape[axis:axis + axes]
    params = [RNG.uniform(0.5, 1.5, shape)] * (2 if kind == "Scale" else 1)
    bias = "bias_term: true" if kind == "Scale" else ""
    text = f'type: "{kind}" {kind.lower()}_param {{ axis: {axis} num_axes: {axes} {bias} }}'
    check_on_card(text, [C], params=params, in_place=in_place)


@pytest.mark.parametrize("kind", ["Scale", "Bias"])
@pytest.mark.parametrize("in_place", [False, True])
def test_spread_operands_of_a_bottom(kind, in_place):
    check_on_card(f'type: "{kind}" {kind.lower()}_param {{ axis: 0 }}', [C, RNG.uniform(0.5, 1.5, (2, 3))], in_place=in_place)


@pytest.mark.parametrize("axis, tiles", [(0, 3), (1, 2), (3, 1)])
def test_tile(axis, tiles):
    check_on_card(f'type: "Tile" tile_param {{ axis: {axis} tiles: {tiles} }}', [A])


@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_reduction(operation, axis):
    x = np.concatenate([B, C, np.zeros_like(B)])
    check_on_card(f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: 0.5 }}', [x])


def test_counting_is_that_of_numpy(monkeypatch):
    card = CARD
    codes = np.random.RandomState(4).randint(-2, 60, 3000).astype(np.int32)
    for bins, piece in ((1, 4096), (50, 700), (50, 1)):
        monkeypatch.setattr(counts, "PIECE", piece)
        monkeypatch.setattr(counts, "MOST", 3)
        on, target = small.uploaded(card, codes), small.uploaded(card, np.ones(bins, np.int32))
        counts.count_up(card, on.span, codes.size, bins, target.span, adds=True)
        found = np.empty(bins, np.int32)
        card.download(found, target.span)
        np.testing.assert_array_equal(found, 1 + np.bincount(codes[(codes >= 0) & (codes < bins)], minlength=bins))
    many = np.array([0, 4095, 4096, 8191, 8192, 9000, 9001], np.int32)
    on, target = small.uploaded(card, many), small.uploaded(card, np.zeros(9001, np.int32))
    counts.count_up(card, on.span, many.size, 9001, target.span)
    found = np.empty(9001, np.int32)
    card.download(found, target.span)
    np.testing.assert_array_equal(np.flatnonzero(found), many[:-1])
