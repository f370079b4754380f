import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.layers.unrolled import rnn_loops
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
T, N, D = 4, 3, 5
X = RNG.randn(T, N, 6).astype("f4")
CONT = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]], "f4")
STATIC = RNG.randn(N, 4).astype("f4")
HIDDEN = RNG.uniform(-1, 1, (1, N, D)).astype("f4")
PARAMS = [RNG.uniform(-1, 1, shape) for shape in [(D, 6), (D,), (D, D), (D, D), (D,)]]
WITH_STATIC = [*PARAMS[:2], RNG.uniform(-1, 1, (D, 4)), *PARAMS[2:]]


def text(bottoms=2, more="", size=D):
    names = " ".join(f'bottom: "{name}"' for name in ["x", "cont", "static", "h_0"][:bottoms])
    return f'type: "RNN" {names} recurrent_param {{ num_output: {size} {more} }}'


def test_values_are_those_of_plain_loops():
    layer, bottom, top = run_layer(text(), [X, CONT], params=PARAMS)
    o, last = rnn_loops(X, CONT, np.zeros((N, D)), *PARAMS)
    np.testing.assert_allclose(top[0].data, o, atol=2e-6)
    layer.forward(bottom, top)  # and go on from where the first batch ended
    np.testing.assert_allclose(top[0].data, rnn_loops(X, CONT, last, *PARAMS)[0], atol=2e-6)


def test_a_static_input_and_hidden_states():
    layer, bottom, top = run_layer(text(4, "expose_hidden: true"), [X, CONT, STATIC, HIDDEN], params=WITH_STATIC)
    o, last = rnn_loops(X, CONT, HIDDEN[0], *PARAMS, STATIC, WITH_STATIC[2])
    np.testing.assert_allclose(top[0].data, o, atol=2e-6)
    np.testing.assert_allclose(top[1].data[0], last, atol=2e-6)
    assert layer.state() is None
    top[0].diff[...] = 1
    top[1].diff[...] = bottom[3].diff[...] = 7
    layer.backward(top, [True, False, True, True], bottom)
    assert not bottom[3].diff.any()
    inside, below, above = make_layer(text(3), [X, CONT, STATIC], params=WITH_STATIC)
    inside.carried[0].data[...] = HIDDEN
    inside.forward(below, above)
    above[0].diff[...] = 1
    inside.backward(above, [True, False, True], below)
    for one, other in zip([bottom[0], bottom[2], *layer.blobs], [below[0], below[2], *inside.blobs]):
        np.testing.assert_array_equal(one.diff, other.diff)


@pytest.mark.parametrize("bottoms, params", [(2, PARAMS), (3, WITH_STATIC)])
def test_gradient(bottoms, params):
    check_gradient(text(bottoms), [X, CONT, STATIC][:bottoms], wrt=[0, 2][:bottoms - 1], params=params)


def test_what_others_do_with_the_top_in_place_changes_no_gradient():
    found = []
    for changed in (False, True):
        layer, bottom, top = run_layer(text(), [X, CONT], params=PARAMS)
        if changed:
            top[0].data[...] = 0
        top[0].diff[...] = 1
        layer.backward(top, [True, False], bottom)
        found.append([bottom[0].diff, *(blob.diff for blob in layer.blobs)])
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


def test_parameters_that_do_not_learn_get_no_gradient():
    layer, bottom, top = run_layer(text(), [X, CONT], params=PARAMS)
    layer.param_propagate_down = [False] * 5
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    assert bottom[0].diff.any() and not any(blob.has_diff for blob in layer.blobs)


def test_fillers():
    layer, _, _ = make_layer(text(3, 'weight_filler { value: 2 } bias_filler { value: 3 }'), [X, CONT, STATIC])
    assert [blob.data.flat[0] for blob in layer.blobs] == [2, 3, 2, 2, 2, 3]
    assert [blob.shape for blob in layer.blobs] == [(D, 6), (D,), (D, 4), (D, D), (D, D), (D,)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match=r"needs hidden states \[1, 3, 5\], but 'static' has \[1, 4, 5\]"):
        make_layer(text(3, "expose_hidden: true"), [X, CONT, np.zeros((1, 4, 5))])


def test_threads_do_not_change_the_result():
    check_same_bits(text(3, size=600), [X, CONT, STATIC], [True, False, True])
