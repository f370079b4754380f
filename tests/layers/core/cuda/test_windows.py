"""Pooling and LRN on a card."""

import numpy as np
import pytest

from netspec import caffe_pb2
from tests.layers.core.cuda.cards import CARD, check_on_card, on_card

X = np.random.RandomState(6).uniform(-1, 1, (2, 2, 7, 6)).astype("f4")
TIES = np.round(2 * X)
ODD = X.copy()
ODD[0, 0, :3, :3], ODD[0, 1, 2:6, 1:5], ODD[1, 0, 4, 4], ODD[1, 1, :4] = np.nan, -np.inf, np.nan, -3.4028234663852886e38
ODD[0, 1, 3, 2:4] = np.nan
WINDOWS = ["kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1", "kernel_size: 2 stride: 3",
           "kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 2 pad_w: 1", "kernel_size: 3 stride: 2 round_mode: FLOOR",
           "global_pooling: true", "kernel_size: 1 stride: 6"]


@pytest.mark.parametrize("tops", ["", 'top: "y" top: "mask"'])
@pytest.mark.parametrize("window", WINDOWS)
def test_max_takes_the_first_of_ties(window, tops):
    check_on_card(f'type: "Pooling" {tops} pooling_param {{ {window} }}', [TIES], tolerance=0)


@pytest.mark.parametrize("window", WINDOWS)
def test_max_of_nan_and_of_nothing_above_the_lowest(window):
    check_on_card(f'type: "Pooling" top: "y" top: "mask" pooling_param {{ {window} }}', [ODD], tolerance=0)


def test_max_finds_its_winners_in_test_only_when_asked():
    text = 'type: "Pooling" pooling_param { kernel_size: 3 stride: 2 }'
    layer, bottom, top = check_on_card(text, [TIES], phase=caffe_pb2.TEST, tolerance=0)
    wanted = check_on_card(text, [-TIES], phase=caffe_pb2.TEST, tolerance=0)
    bottom[0].data[...] = -TIES  # as when the layer's work is replayed
    layer.backward_cuda(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, wanted[1][0].diff)


@pytest.mark.parametrize("window", WINDOWS)
def test_average(window):
    check_on_card(f'type: "Pooling" pooling_param {{ pool: AVE {window} }}', [X], tolerance=1e-7)


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
@pytest.mark.parametrize("window", [w for w in WINDOWS if "pad" not in w])
def test_stochastic_draws_what_the_cpu_draws(window, phase):
    x = np.maximum(X, 0)
    x[0, 0, :4, :4] = 0
    text = f'type: "Pooling" pooling_param {{ pool: STOCHASTIC {window} }}'
    check_on_card(text, [x], phase=phase, tolerance=0 if phase == caffe_pb2.TRAIN else 2e-7)
    if "3" in window and phase == caffe_pb2.TRAIN:
        layer, bottom, top = on_card(text, [x])
        layer.prepare_cuda(bottom, top)
        layer.forward_cuda(bottom, top)
        first, state = top[0].data.copy(), layer.state()
        layer.prepare_cuda(bottom, top)
        layer.forward_cuda(bottom, top)
        second = top[0].data.copy()
        layer.set_state(state)
        layer.prepare_cuda(bottom, top)
        layer.forward_cuda(bottom, top)
        np.testing.assert_array_equal(top[0].data, second)
        assert (first != second).any()


@pytest.mark.parametrize("text", ["", "local_size: 3 alpha: 0.5 k: 2", "local_size: 9 alpha: 2 beta: 0.4",
                                  "local_size: 3 alpha: 0.7 norm_region: WITHIN_CHANNEL",
                                  "local_size: 15 alpha: 3 beta: 1.1 norm_region: WITHIN_CHANNEL"])
def test_lrn(text):
    x = np.random.RandomState(7).uniform(-2, 2, (2, 6, 4, 3))
    check_on_card(f'type: "LRN" lrn_param {{ {text} }}', [x], tolerance=5e-7)


def test_max_finds_its_winners_after_a_forward_that_was_done_with_another_layers():
    text = 'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }'
    wanted = check_on_card(text, [TIES])
    layer, bottom, top = on_card(text, [TIES])
    layer.card = type(CARD)(7)
    layer.card.arena.reserve(1 << 20)  # one piece: what is given back too early is what is taken next
    layer.was_done()
    top[0].diff[...] = wanted[2][0].diff
    layer.backward_cuda(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, wanted[1][0].diff)
    found = np.empty_like(TIES)
    layer.card.download(found, bottom[0].on(layer.card))
    np.testing.assert_array_equal(found, TIES)
