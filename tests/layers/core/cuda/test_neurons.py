"""Layers that map each value by itself, on a card."""

import numpy as np
import pytest

from layers.core.cuda import sums
from netspec import caffe_pb2
from tests.layers.core.cuda.cards import CARD, check_on_card, on_card

X = np.random.RandomState(0).uniform(-3, 3, (2, 3, 5, 7)).astype("f4")
X[0, 0, 0, :4] = 0, np.nan, 100, -100
FINITE = np.where(abs(X) < 50, X, 1)

NEURONS = ['"AbsVal"', '"BNLL"', '"Clip" clip_param { min: -1 max: 2 }', '"ELU" elu_param { alpha: 0.5 }',
           '"Power" power_param { power: 2 scale: 0.5 shift: 1 }', '"Power" power_param { scale: 3 shift: -1 }',
           '"Power" power_param { power: 0 shift: 2 }', '"Sigmoid"', '"Swish" swish_param { beta: 1.5 }', '"TanH"', '"ReLU"']


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("text", NEURONS)
def test_nan_zero_and_large_values_are_as_on_the_cpu(text, in_place):
    check_on_card(f"type: {text}", [X], in_place=in_place)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("text", ['"Exp" exp_param { base: 2 scale: 0.5 shift: 1 }',
                                  '"Log" log_param { base: 2 scale: 2 shift: 7 }',
                                  '"Power" power_param { power: 1.5 shift: 4 }'])
def test_powers_are_as_on_the_cpu(text, in_place):
    check_on_card(f"type: {text}", [FINITE], in_place=in_place)


@pytest.mark.parametrize("in_place", [False, True])
def test_threshold_has_no_gradient(in_place):
    check_on_card('type: "Threshold" threshold_param { threshold: 0.5 }', [X], in_place=in_place, backward=False)


def test_an_empty_blob_is_no_error():
    check_on_card('type: "ELU"', [np.zeros((0, 3), "f4")], backward=False)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (5, 3), (70, 2, 1)])
def test_prelu_adds_to_the_gradients_of_its_slopes(shape, in_place):
    x = np.random.RandomState(1).uniform(-1, 1, shape)
    check_on_card('type: "PReLU"', [x], params=[np.linspace(0.1, 0.9, shape[1])], in_place=in_place)


def test_prelu_with_one_slope():
    check_on_card('type: "PReLU" prelu_param { channel_shared: true }', [FINITE])


@pytest.mark.parametrize("in_place", [False, True])
def test_dropout_drops_what_it_drops_on_the_cpu(in_place):
    layer, _, _ = check_on_card('type: "Dropout" dropout_param { dropout_ratio: 0.3 }', [X], tolerance=0, in_place=in_place)
    state = layer.state()
    again, bottom, top = on_card('type: "Dropout" dropout_param { dropout_ratio: 0.3 }', [X])
    again.set_state(state)
    again.prepare_cuda(bottom, top)
    again.forward_cuda(bottom, top)
    third = top[0].data.copy()
    layer, bottom, top = on_card('type: "Dropout" dropout_param { dropout_ratio: 0.3 }', [X])
    for _ in range(2):
        layer.prepare_cuda(bottom, top)
        layer.forward_cuda(bottom, top)
    np.testing.assert_array_equal(top[0].data, third)


@pytest.mark.parametrize("in_place", [False, True])
def test_dropout_copies_in_test(in_place):
    check_on_card('type: "Dropout"', [X], phase=caffe_pb2.TEST, tolerance=0, in_place=in_place)


@pytest.mark.parametrize("sizes", [(1, 2, 20001), (3, 1, 5600), (2, 9, 50), (40, 3, 3), (1, 500, 1), (7, 100, 5)])
@pytest.mark.parametrize("kind", [sums.VALUES, sums.PRODUCTS, sums.MAGNITUDES, sums.REST])
def test_sums_are_those_of_numpy(kind, sizes):
    if kind in (sums.MAGNITUDES, sums.REST) and np.prod(sizes) > 2000:
        sizes = sizes[:2] + (sizes[2] // 50 + 1,)
    card = CARD
    a, b = np.random.RandomState(2).uniform(-1, 1, (2, *sizes)).astype("f4")
    before = np.arange(sizes[1], dtype="f4")
    spans = []
    for values in (a, b, before):
        spans.append(card.arena.take(values.nbytes))
        card.upload(spans[-1].span, values)
    sums.add_up(card, kind, spans[0].span, spans[1].span, sizes, spans[2].span, 0.5, adds=True)
    found = np.empty_like(before)
    card.download(found, spans[2].span)
    terms = {sums.VALUES: a, sums.PRODUCTS: a.astype("f8") * b, sums.MAGNITUDES: abs(a), sums.REST: np.where(b <= 0, a * b, 0)}
    np.testing.assert_allclose(found, before + 0.5 * terms[kind].sum((0, 2), dtype="f8"), rtol=1e-6, atol=1e-6)
