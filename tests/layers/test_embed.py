import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
NUMBERS = np.array([[4, 0, 4], [6, 4, 1]], "f4")
W, B = RNG.randn(7, 5).astype("f4"), RNG.randn(5).astype("f4")


def text(more=""):
    return f'type: "Embed" bottom: "word" embed_param {{ num_output: 5 input_dim: 7 {more} }}'


@pytest.mark.parametrize("shape", [(2, 3), (6,), (1, 3, 2, 1), (0, 3)])
def test_rows_are_looked_up(shape):
    numbers = NUMBERS.reshape(-1)[:int(np.prod(shape))].reshape(shape)
    layer, bottom, top = run_layer(text(), [numbers], params=[W, B])
    np.testing.assert_array_equal(top[0].data, W[numbers.astype(int)] + B)
    dy = RNG.randn(*top[0].shape).astype("f4")
    top[0].diff[...] = dy
    layer.blobs[0].diff[...] = 1  # parameters' gradients are added to
    layer.backward(top, [False], bottom)
    expected = np.ones((7, 5), "f4")
    for place in np.ndindex(*shape):
        expected[int(numbers[place])] += dy[place]
    np.testing.assert_array_equal(layer.blobs[0].diff, expected)
    np.testing.assert_allclose(layer.blobs[1].diff, dy.reshape(-1, 5).sum(0), atol=1e-6)


def test_without_bias():
    layer, _, top = run_layer(text("bias_term: false weight_filler { value: 2 }"), [NUMBERS])
    assert len(layer.blobs) == 1 and (top[0].data == 2).all()


def test_gradient():
    check_gradient(text(), [NUMBERS], wrt=[], params=[W, B])


def test_parameters_that_do_not_learn_get_no_gradient():
    layer, bottom, top = run_layer(text(), [NUMBERS], params=[W, B])
    layer.param_propagate_down = [False, False]
    top[0].diff[...] = 1
    layer.backward(top, [False], bottom)
    assert not any(blob.has_diff for blob in layer.blobs)


@pytest.mark.parametrize("value, why", [(7, "is out of range"), (-1, "is out of range"), (0.5, "is no whole number"),
                                        (np.nan, "is no whole number"), (np.inf, "is no whole number")])
def test_bad_numbers_are_caught(value, why):
    numbers = NUMBERS.copy()
    numbers[1, 2] = value
    with pytest.raises(Error, match=rf"number {value:g} at \[1, 2\] of 'word' {why}: there are 7 rows \(0 to 6\)"):
        run_layer(text(), [numbers])


def test_what_is_missing_is_refused():
    for param, missing in (("input_dim: 3", "num_output"), ("num_output: 3", "input_dim")):
        with pytest.raises(Error, match=f"{missing} is missing or 0; give"):
            make_layer(f'type: "Embed" embed_param {{ {param} }}', [NUMBERS])
    layer, bottom, top = run_layer(text(), [NUMBERS])
    with pytest.raises(Error, match=r"cannot backpropagate to numbers \('word'\)"):
        layer.backward(top, [True], bottom)


def test_force_backward_passes_over_the_numbers():
    net = Net(text_format.Parse("""force_backward: true
        layer { name: "in" type: "Input" top: "word" input_param { shape { dim: 3 } } }
        layer { name: "it" type: "Embed" bottom: "word" top: "y" embed_param { num_output: 2 input_dim: 4 } }""",
                                caffe_pb2.NetParameter()))
    net.forward()
    net.backward()
    assert net.bottom_need_backward[1] == [False]


def test_threads_do_not_change_the_result():
    check_same_bits(text(), [NUMBERS], [False], params=[W, B])
