"""LSTMUnit, LSTM and RNN on a card."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from tests.layers.core.cuda.cards import CARD, check_on_card
from tests.layers.core.cuda.simulated import needs_card

RNG = np.random.RandomState(0)
T, N, D = 3, 2, 3
X = RNG.randn(T, N, 2, 2).astype("f4")
CONT = np.array([[1, 0], [1, 1], [0, 1]], "f4")
STATIC = RNG.randn(N, 2).astype("f4")
STATES = RNG.uniform(-1, 1, (2, 1, N, D)).astype("f4")
GATES = {"LSTM": 4, "RNN": 1}


def params(kind, static):
    width = GATES[kind] * D
    shapes = [(width, 4), (width,), *[(width, 2)] * static, (width, D), *[(D, D), (D,)] * (kind == "RNN")]
    return [RNG.uniform(-1, 1, shape) for shape in shapes]


@pytest.mark.parametrize("wanted", [[0, 1], [0], [1]])
def test_one_step(wanted):
    gates = (2 * RNG.randn(1, N, 4 * D)).astype("f4")
    check_on_card('type: "LSTMUnit"', [STATES[0], gates, CONT[:1]], wanted=wanted)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
@pytest.mark.parametrize("static, exposed", [(False, False), (True, False), (False, True), (True, True)])
def test_sequences(kind, static, exposed):
    states = list(STATES[:1 + (kind == "LSTM")]) if exposed else []
    bottoms = [X, CONT, *[STATIC] * static, *states]
    names = " ".join(f'bottom: "{i}"' for i in range(len(bottoms)))
    text = f'type: "{kind}" {names} recurrent_param {{ num_output: {D} expose_hidden: {str(exposed).lower()} }}'
    wanted = [i for i in range(len(bottoms)) if i != 1]
    check_on_card(text, bottoms, params=params(kind, static), wanted=wanted)


@needs_card
@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_the_state_goes_on_from_replay_to_replay(kind, phase):
    net = f"""
        layer {{ name: "in" type: "Input" top: "x" top: "cont"
                 input_param {{ shape {{ dim: {T} dim: {N} dim: 4 }} shape {{ dim: {T} dim: {N} }} }} }}
        layer {{ name: "it" type: "{kind}" bottom: "x" bottom: "cont" top: "h" recurrent_param {{ num_output: {D} }} }}
        layer {{ name: "loss" type: "Reduction" bottom: "h" top: "loss" loss_weight: 1 }}"""
    found, weights = [], params(kind, False)
    for device in ("cpu", CARD):
        one = Net(text_format.Parse(net, caffe_pb2.NetParameter()), phase, device=device)
        for blob, values in zip(one.params["it"], weights):
            blob.data[...] = values
        one.blobs["cont"].data[...] = 1
        for number in range(4):
            one.blobs["x"].data[...] = np.random.RandomState(number).randn(T, N, 4)
            if phase == caffe_pb2.TRAIN:
                one.forward_backward()
            else:
                one.forward()
        if device is CARD:
            assert one._repeated.recording is not None
        found.append([one.blobs["h"].data.copy(), *(blob.data.copy() for blob in one.layer_dict["it"].carried),
                      *(blob.diff.copy() for blob in one.params["it"] if phase == caffe_pb2.TRAIN), one.state()])
    for ours, plain in zip(found[1][:-1], found[0][:-1]):
        np.testing.assert_allclose(ours, plain, atol=1e-5)
    assert found[0][-1].keys() == found[1][-1].keys() == {"1 it"}
