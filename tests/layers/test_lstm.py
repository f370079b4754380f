import json

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.layers.unrolled import lstm_loops, unrolled_lstm
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
T, N, D = 4, 3, 5
X = RNG.randn(T, N, 2, 3).astype("f4")
CONT = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]], "f4")
STATIC = RNG.randn(N, 2, 2).astype("f4")
STATES = RNG.uniform(-1, 1, (2, 1, N, D)).astype("f4")
PARAMS = [RNG.uniform(-1, 1, shape) for shape in [(4 * D, 6), (4 * D,), (4 * D, D)]]
WITH_STATIC = [*PARAMS[:2], RNG.uniform(-1, 1, (4 * D, 4)), PARAMS[2]]


def text(bottoms=2, more="", size=D):
    names = " ".join(f'bottom: "{name}"' for name in ["x", "cont", "static", "h_0", "c_0"][:bottoms])
    return f'type: "LSTM" {names} recurrent_param {{ num_output: {size} {more} }}'


def test_values_are_those_of_plain_loops():
    layer, bottom, top = run_layer(text(), [X, CONT], params=PARAMS)
    w_x, b, w_h = PARAMS
    h, last, cells = lstm_loops(X, CONT, np.zeros((N, D)), np.zeros((N, D)), w_x, b, w_h)
    np.testing.assert_allclose(top[0].data, h, atol=2e-6)
    layer.forward(bottom, top)  # and go on from where the first batch ended
    h, _, _ = lstm_loops(X, CONT, last, cells, w_x, b, w_h)
    np.testing.assert_allclose(top[0].data, h, atol=2e-6)
    assert [blob.shape for blob in layer.blobs] == [(20, 6), (20,), (20, 5)]


def test_a_static_input_is_seen_at_each_step():
    _, _, top = run_layer(text(3), [X, CONT, STATIC], params=WITH_STATIC)
    w_x, b, w_s, w_h = WITH_STATIC
    h, _, _ = lstm_loops(X, CONT, np.zeros((N, D)), np.zeros((N, D)), w_x, b, w_h, STATIC, w_s)
    np.testing.assert_allclose(top[0].data, h, atol=2e-6)


def test_hidden_states_go_in_and_out():
    w_x, b, w_s, w_h = WITH_STATIC
    layer, bottom, top = run_layer(text(5, "expose_hidden: true"), [X, CONT, STATIC, *STATES], params=WITH_STATIC)
    h, last, cells = lstm_loops(X, CONT, STATES[0, 0], STATES[1, 0], w_x, b, w_h, STATIC, w_s)
    for blob, expected in zip(top, (h, last[None], cells[None])):
        np.testing.assert_allclose(blob.data, expected, atol=2e-6)
    layer.forward(bottom, top)
    np.testing.assert_allclose(top[0].data, h, atol=2e-6)  # nothing is carried by the layer
    assert layer.state() is None
    # As in Caffe no gradient passes through states.
    top[0].diff[...] = 1
    for blob in (*top[1:], *bottom[3:]):
        blob.diff[...] = 7
    layer.backward(top, [True, False, True, True, True], bottom)
    assert not bottom[3].diff.any() and not bottom[4].diff.any()
    inside, below, above = make_layer(text(3), [X, CONT, STATIC], params=WITH_STATIC)
    for blob, values in zip(inside.carried, STATES):
        blob.data[...] = values
    inside.forward(below, above)
    above[0].diff[...] = 1
    inside.backward(above, [True, False, True], below)
    for one, other in zip([bottom[0], bottom[2], *layer.blobs], [below[0], below[2], *inside.blobs]):
        np.testing.assert_array_equal(one.diff, other.diff)


@pytest.mark.parametrize("bottoms, params", [(2, PARAMS), (3, WITH_STATIC)])
def test_gradient(bottoms, params):
    check_gradient(text(bottoms), [X, CONT, STATIC][:bottoms], wrt=[0, 2][:bottoms - 1], params=params)


def test_gradient_of_one_step_and_one_stream():
    check_gradient(text(size=2), [X[:1, :1], CONT[:1, :1]], wrt=[0])


def test_it_is_the_net_that_caffe_unrolls():
    net = Net(text_format.Parse(unrolled_lstm(X.shape, STATIC.shape, D), caffe_pb2.NetParameter()), caffe_pb2.TRAIN)
    layer, bottom, top = make_layer(text(3), [X, CONT, STATIC], params=WITH_STATIC)
    for blob, values in zip(net.learnable_params, WITH_STATIC):
        blob.data[...] = values
    for name, values in (("x", X), ("cont", CONT), ("static", STATIC), ("h_0", STATES[0]), ("c_0", STATES[1])):
        net.blobs[name].data[...] = values
    for blob, values in zip(layer.carried, STATES):
        blob.data[...] = values
    net.forward()
    layer.forward(bottom, top)
    np.testing.assert_allclose(top[0].data, net.blobs["h"].data, atol=1e-6)
    dy = RNG.randn(T, N, D)
    net.blobs["h"].diff[...] = top[0].diff[...] = dy
    net.clear_param_diffs()
    net.backward()
    layer.backward(top, [True, False, True], bottom)
    assert len(net.learnable_params) == len(layer.blobs)
    for one, other in zip([bottom[0], bottom[2], *layer.blobs], [net.blobs["x"], net.blobs["static"], *net.learnable_params]):
        np.testing.assert_allclose(one.diff, other.diff, atol=1e-5)


def test_gradients_of_parameters_are_added_up_where_they_learn():
    layer, bottom, top = run_layer(text(3), [X, CONT, STATIC], params=WITH_STATIC)
    top[0].diff[...] = 1
    layer.backward(top, [False, False, False], bottom)
    once = [blob.diff.copy() for blob in layer.blobs]
    layer.param_propagate_down = [True, False, True, False]
    layer.backward(top, [False, False, False], bottom)
    for number, (blob, values) in enumerate(zip(layer.blobs, once)):
        np.testing.assert_allclose(blob.diff, values * (1 + layer.param_propagate_down[number]), rtol=1e-6)
    assert not bottom[0].has_diff


def test_steps_and_streams_may_change():
    layer, bottom, top = run_layer(text(), [X, CONT], params=PARAMS)
    bottom[0].reshape(2, 4, 6)
    bottom[1].reshape(2, 4)
    layer.reshape(bottom, top)
    x = RNG.randn(2, 4, 6).astype("f4")
    bottom[0].data[...], bottom[1].data[...] = x, np.array([[0] * 4, [1] * 4])
    layer.forward(bottom, top)
    h, _, _ = lstm_loops(x, bottom[1].data, np.zeros((4, D)), np.zeros((4, D)), *PARAMS)
    np.testing.assert_allclose(top[0].data, h, atol=2e-6)


NET = """
    layer { name: "in" type: "Input" top: "x" top: "cont" input_param { shape { dim: 4 dim: 3 dim: 6 } shape { dim: 4 dim: 3 } } }
    layer { name: "it" type: "LSTM" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 5
            weight_filler { type: "xavier" } bias_filler { value: 0.5 } } }
"""


def test_a_resumed_net_goes_on_in_the_same_state():
    nets = [Net(text_format.Parse(NET, caffe_pb2.NetParameter()), caffe_pb2.TRAIN, seed=5) for _ in range(2)]
    for net in nets:
        net.blobs["x"].data[...], net.blobs["cont"].data[...] = X.reshape(4, 3, 6), 1
    nets[0].forward()
    nets[1].set_state(json.loads(json.dumps(nets[0].state())))
    for net in nets:
        net.forward()
    np.testing.assert_array_equal(nets[0].blobs["h"].data, nets[1].blobs["h"].data)
    assert (nets[0].params["it"][1].data == 0.5).all() and nets[0].params["it"][2].data.any()


@pytest.mark.parametrize("bottoms, more, message", [
    ([X[:, :, 0, 0], CONT], "", r"needs sequences of 3 or more axes .* 'x' has \[4, 3\]"),
    ([X[:0], CONT[:0]], "", r"at least one step, but 'x' has \[0, 3, 2, 3\]"),
    ([X, CONT[:, :2]], "", r"a sequence indicator for each step and stream of 'x', \[4, 3\], but 'cont' has \[4, 2\]"),
    ([X, CONT, STATIC[:2]], "", r"a static input of 3 streams \(streams, values\), but 'static' has \[2, 2, 2\]"),
    ([X, CONT], "expose_hidden: true", "takes at least 4 bottom blobs, 2 given"),
    ([X, CONT, STATIC, STATES[0], STATES[1, :, :2]], "expose_hidden: true",
     r"needs hidden states \[1, 3, 5\], but 'c_0' has \[1, 2, 5\]"),
])
def test_what_does_not_fit_is_refused(bottoms, more, message):
    with pytest.raises(Error, match=message):
        make_layer(text(len(bottoms), more), bottoms)


def test_more_that_is_refused():
    with pytest.raises(Error, match="num_output is missing or 0"):
        make_layer(text(size=0), [X, CONT])
    layer, bottom, top = run_layer(text(), [X, CONT])
    with pytest.raises(Error, match=r"cannot backpropagate to sequence indicators \('cont'\)"):
        layer.backward(top, [True, True], bottom)
    bottom[0].reshape(4, 3, 7)
    with pytest.raises(Error, match=r"need parameters \[20, 7\], but they are \[20, 6\]"):
        layer.reshape(bottom, top)


def test_threads_do_not_change_the_result():
    check_same_bits(text(3, size=150), [X, CONT, STATIC], [True, False, True])


def test_multiplications_are_counted():
    layer, bottom, top = make_layer(text(3), [X, CONT, STATIC])
    assert layer.macs([b.shape for b in bottom], [top[0].shape]) == T * N * 20 * (6 + 5) + N * 20 * 4
