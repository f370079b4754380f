import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
X = RNG.randn(2, 3, 5, 7).astype("f4")


def text(param):
    return f'type: "Scale" scale_param {{ {param} }}'


@pytest.mark.parametrize("param, shape, view", [
    ("", (3,), (1, 3, 1, 1)),
    ("axis: 0 num_axes: 0", (), (1, 1, 1, 1)),
    ("axis: 1 num_axes: 2", (3, 5), (1, 3, 5, 1)),
    ("axis: 0 num_axes: 1", (2,), (2, 1, 1, 1)),
    ("axis: -1", (7,), (1, 1, 1, 7)),
    ("axis: 0 num_axes: -1", (2, 3, 5, 7), (2, 3, 5, 7)),
])
@pytest.mark.parametrize("bias", [False, True])
def test_factors_lie_along_their_axes(param, shape, view, bias):
    s, b = RNG.normal(size=shape), RNG.normal(size=shape)
    layer, bottom, top = run_layer(text(param + " bias_term: true" * bias), [X], params=[s, b][:1 + bias])
    assert [blob.shape for blob in layer.blobs] == [shape] * (1 + bias)
    expected = X * np.reshape(s, view) + (np.reshape(b, view) if bias else 0)
    np.testing.assert_allclose(top[0].data, expected, rtol=1e-6, atol=1e-6)
    dy = RNG.randn(*X.shape).astype("f4")
    top[0].diff[...] = dy
    layer.blobs[0].diff[...] = 1  # parameters' gradients are added to
    layer.backward(top, [True], bottom)
    axes = tuple(i for i in range(4) if view[i] == 1)
    np.testing.assert_allclose(bottom[0].diff, dy * np.reshape(s, view), rtol=1e-6)
    np.testing.assert_allclose(layer.blobs[0].diff, 1 + (dy * X).sum(axes), rtol=1e-4, atol=1e-5)
    if bias:
        np.testing.assert_allclose(layer.blobs[1].diff, dy.sum(axes), rtol=1e-4, atol=1e-5)


def test_factors_are_one_and_bias_zero_by_default():
    _, _, top = run_layer(text("bias_term: true"), [X])
    np.testing.assert_array_equal(top[0].data, X)
    layer, _, _ = run_layer(text('filler { value: 0.01 } bias_term: true bias_filler { value: 3 }'), [X])
    assert (layer.blobs[0].data == np.float32(0.01)).all()
    assert (layer.blobs[1].data == 3).all()


@pytest.mark.parametrize("param", ["bias_term: true", "axis: 0 num_axes: 0", "axis: 1 num_axes: 2 bias_term: true"])
def test_gradient(param):
    check_gradient(text(param), [X[:, :, :2, :3]])


@pytest.mark.parametrize("shape, axis", [((3, 2), 1), ((), 0), ((2, 3, 2, 3), 0)])
@pytest.mark.parametrize("bias", ["", "bias_term: true"])
def test_gradient_of_a_second_bottom(shape, axis, bias):
    check_gradient(f'bottom: "x" bottom: "s" {text(f"axis: {axis} {bias}")}', [X[:, :, :2, :3], RNG.normal(size=shape)])


def test_in_place_keeps_what_the_gradient_needs():
    s, dy = RNG.randn(3).astype("f4"), RNG.randn(*X.shape).astype("f4")
    layer, bottom, top = run_layer(text(""), [X], params=[s])
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    again, blob, _ = make_layer(text(""), [X], params=[s])
    for _ in range(2):
        blob[0].data[...] = X
        again.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    blob[0].diff[...] = dy
    again.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, bottom[0].diff)
    np.testing.assert_array_equal(again.blobs[0].diff, layer.blobs[0].diff)


def test_a_frozen_factor_gets_no_gradient_and_keeps_no_copy():
    layer, blob, _ = make_layer(text("axis: 0 num_axes: 0"), [X])
    layer.param_propagate_down = [False]
    layer.forward(blob, blob)
    layer.backward(blob, [True], blob)
    assert not layer.blobs[0].has_diff
    assert layer.kept is None


@pytest.mark.parametrize("param, shapes, message", [
    ("num_axes: 4", [(2, 3)], "axis 1 and num_axes 4 reach beyond the 2 axes"),
    ("num_axes: -2", [(2, 3)], "num_axes is -2"),
    ("axis: 2", [(2, 3)], "axis 2 is out of range"),
    ("", [(2, 3, 4), (4,)], r"the scale \[4\] does not fit bottom 0 \[2, 3, 4\] from axis 1 on, where it has \[3\]"),
    ("", [(2, 3), (3, 4)], "does not fit"),
])
def test_what_does_not_fit_is_refused(param, shapes, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param), [np.zeros(shape, "f4") for shape in shapes])


def test_a_bottom_whose_channels_change_is_refused():
    layer, bottom, top = make_layer(text(""), [X])
    bottom[0].reshape(2, 4, 5, 7)
    with pytest.raises(Error, match=r"the scale \[3\] does not fit"):
        layer.reshape(bottom, top)


@pytest.mark.parametrize("param", ["bias_term: true", "axis: 0 num_axes: 0", "axis: -1"])
def test_threads_do_not_change_the_result(param):
    check_same_bits(text(param), [X])
