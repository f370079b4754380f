import numpy as np
import pytest

from layers.core.blob import Blob
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.core.cuda.cards import check_on_card
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
RNG = np.random.RandomState(0)
X = (RNG.randn(2, 3, 5, 7) * [[[[1]], [[5]], [[0.1]]]] + [[[[0]], [[30]], [[-2]]]]).astype("f4")
SCALE, SHIFT, MEAN = RNG.uniform(0.5, 2, (3, 1, 3, 1, 1)).astype("f4")
VARIANCE = np.array([1, 20, 0.02], "f4").reshape(1, 3, 1, 1)
BOTH, ALL = [SCALE, SHIFT], [SCALE, SHIFT, MEAN, VARIANCE]
AXES = (0, 2, 3)


def text(param="", more=""):
    return f'type: "BN" {more} bn_param {{ {param} }}'


def normalised(mean, variance, eps):
    return SCALE * ((X.astype("f8") - mean) / np.sqrt(variance + eps)) + SHIFT


def of_batch(eps):
    x = X.astype("f8")
    return normalised(x.mean(AXES, keepdims=True), x.var(AXES, keepdims=True), eps)


@pytest.mark.parametrize("param, phase, wanted", [
    ("", TRAIN, of_batch(1e-9)),
    ("bn_mode: LEARN", TEST, of_batch(1e-9)),
    ("bn_mode: INFERENCE", TRAIN, SCALE * X + SHIFT),
    ("bn_mode: INFERENCE", TEST, SCALE * X + SHIFT),
    ("moving_average: true", TRAIN, of_batch(1e-10)),
    ("moving_average: true", TEST, normalised(MEAN, VARIANCE, 1e-10)),
    ("moving_average: false var_eps: 0.1", TEST, of_batch(0.1)),
    ("moving_average: true var_eps: 0.1", TEST, normalised(MEAN, VARIANCE, 0.1)),
    ("momentum: 0.95", TRAIN, of_batch(1e-5)),
    ("momentum: 0.95", TEST, normalised(MEAN, VARIANCE, 1e-5)),
    ("frozen: true eps: 0.1", TRAIN, normalised(MEAN, VARIANCE, 0.1)),
])
def test_channels_are_normalised_as_each_fork_does(param, phase, wanted):
    params = BOTH if not param or "bn_mode" in param else ALL
    layer, _, top = run_layer(text(param), [X], phase, params=params)
    assert [blob.shape for blob in layer.blobs] == [(1, 3, 1, 1)] * len(params)
    np.testing.assert_allclose(top[0].data, wanted, rtol=2e-5, atol=2e-5)
    check_on_card(text(param), [X], phase, params, tolerance=1e-5)
    check_on_card(text(param), [X], phase, params, tolerance=1e-5, in_place=True)
    check_same_bits(text(param), [X], phase=phase, params=params)


@pytest.mark.parametrize("param, phase", [("", TRAIN), ("bn_mode: INFERENCE", TEST), ("moving_average: true", TRAIN),
                                          ("moving_average: false", TEST), ("momentum: 0.5", TRAIN)])
@pytest.mark.parametrize("shape", [(2, 3, 2, 3), (5, 3), (1, 3, 4)])
def test_gradient(param, phase, shape):
    params = BOTH if not param or "bn_mode" in param else ALL
    check_gradient(text(param), [RNG.randn(*shape)], phase=phase, params=params)


def test_gradient_with_running_statistics():
    for phase, param in ((TEST, "moving_average: true"), (TRAIN, "frozen: true")):
        layer, bottom, top = run_layer(text(param), [X], phase, params=ALL)
        dy = RNG.randn(*X.shape).astype("f4")
        top[0].diff[...] = dy
        layer.backward(top, [True], bottom)
        inverse = 1 / np.sqrt(VARIANCE + layer.eps)
        np.testing.assert_allclose(bottom[0].diff, dy * SCALE * inverse, rtol=1e-5)
        np.testing.assert_allclose(layer.blobs[0].diff, (dy * (X - MEAN) * inverse).sum(AXES, keepdims=True), rtol=1e-4)
        np.testing.assert_allclose(layer.blobs[1].diff, dy.sum(AXES, keepdims=True), rtol=1e-4)
        assert not layer.blobs[2].has_diff and not layer.blobs[3].has_diff


@pytest.mark.parametrize("param, share", [("moving_average: true", 0.05), ("decay: 0.25", 0.25), ("momentum: 0.75", 0.25),
                                          ("eps: 1e-3", 0.1)])
def test_training_moves_the_running_statistics(param, share):
    layer, bottom, top = run_layer(text(param), [X], TRAIN, params=ALL)
    mean, variance = X.mean(AXES, keepdims=True), X.var(AXES, keepdims=True)
    np.testing.assert_allclose(layer.blobs[2].data, MEAN + share * (mean - MEAN), rtol=1e-5)
    np.testing.assert_allclose(layer.blobs[3].data, VARIANCE + share * (variance - VARIANCE), rtol=1e-4)
    on_card, _, _ = check_on_card(text(param), [X], TRAIN, ALL, tolerance=1e-5)
    for ours, theirs in zip(on_card.blobs, layer.blobs):
        np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-4)
    layer, _, _ = run_layer(text("frozen: true"), [X], TRAIN, params=ALL)
    np.testing.assert_array_equal(layer.blobs[2].data, MEAN)


@pytest.mark.parametrize("param", ["", "bn_mode: INFERENCE", "moving_average: true"])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_in_place_is_the_same(param, phase):
    params = ALL if "moving" in param else BOTH
    layer, bottom, top = run_layer(text(param), [X], phase, params=params)
    dy = RNG.randn(*X.shape).astype("f4")
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    again, blob, _ = make_layer(text(param), [X], phase, params=params)
    again.reshape(blob, blob)
    again.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    blob[0].data[...] = 0  # the next layer works in place, too
    blob[0].diff[...] = dy
    again.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, bottom[0].diff)
    for ours, theirs in zip(again.blobs[:2], layer.blobs[:2]):
        np.testing.assert_array_equal(ours.diff, theirs.diff)


def test_further_tops_tell_mean_and_variance():
    layer, _, top = run_layer(text("", 'top: "y" top: "mean" top: "variance"'), [X])
    np.testing.assert_allclose(top[1].data, X.mean(AXES, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(top[2].data, X.var(AXES, keepdims=True), rtol=1e-4)
    assert not layer.has_cuda()
    with pytest.raises(Error, match="takes at most 1 top blob, 2 given"):
        make_layer(text("bn_mode: INFERENCE", 'top: "y" top: "mean"'), [X])


def test_fillers_and_rates():
    filler = 'type: "constant" value: %g'
    layer, _, _ = make_layer(text(f"scale_filler {{ {filler % 2} }} shift_filler {{ {filler % 3} }}"), [X])
    assert [blob.data.ravel().tolist() for blob in layer.blobs] == [[2] * 3, [3] * 3]
    more = "param { lr_mult: 5 } param { lr_mult: 6 } param { lr_mult: 7 }"
    layer, _, _ = make_layer(text(f"slope_filler {{ {filler % 2} }} bias_filler {{ {filler % 3} }}", more), [X])
    assert [blob.data.ravel().tolist() for blob in layer.blobs] == [[2] * 3, [3] * 3, [0] * 3, [0] * 3]
    assert [(one.lr_mult, one.decay_mult) for one in layer.param.param] == [(5, 1), (6, 1), (0, 0), (0, 0)]
    layer, _, _ = make_layer(text("frozen: true", more), [X])
    assert [one.lr_mult for one in layer.param.param] == [0] * 4 and (layer.blobs[3].data == 1).all()


def test_frozen_scale_and_shift_get_no_gradient_and_keep_no_copy():
    layer, blob, _ = make_layer(text("bn_mode: INFERENCE"), [X], params=BOTH)
    layer.param_propagate_down = [False, False]
    layer.reshape(blob, blob)
    layer.forward(blob, blob)
    blob[0].diff[...] = 1
    layer.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, np.broadcast_to(SCALE, X.shape))
    assert layer._kept is None and not layer.blobs[0].has_diff


def test_blocks_of_channels_are_taken_as_they_lie():
    x = RNG.randn(2, 20, 5, 7).astype("f4")
    scale, shift = RNG.randn(2, 1, 20, 1, 1).astype("f4")
    layer, bottom, top = make_layer(text("bn_mode: INFERENCE"), [x], TEST, params=[scale, shift])
    layer.forward(bottom, top)
    wanted = top[0].data.copy()
    bottom[0], top[0] = Blob(x.shape), Blob(x.shape)
    bottom[0].data[...] = x
    bottom[0].blocks = top[0].blocks = True
    assert layer.reads_blocks() and bottom[0].memory().to_blocks(x.shape)
    layer.forward(bottom, top)
    assert top[0].memory().in_blocks(x.shape)
    np.testing.assert_array_equal(top[0].data, wanted)


@pytest.mark.parametrize("param, message", [
    ("bn_mode: INFERENCE moving_average: true", "bn_mode is SegNet's and moving_average is PSPNet's; give one of them"),
    ("scale_filler { } slope_filler { }", "scale_filler and slope_filler are both given"),
    ("decay: 0.1 momentum: 0.9", "decay and momentum are both given"),
    ("axis: 2", "axis is 2; only 1, the channels, is known here"),
])
def test_fields_of_two_forks_are_refused(param, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param), [X])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(Error, match="takes blobs of at least 2 axes"):
        make_layer(text(), [X[0, 0, 0]])
    layer, bottom, top = make_layer(text(), [X])
    bottom[0].reshape(2, 4, 5, 7)
    with pytest.raises(Error, match=r"has parameters for 3 channels, bottom 0 \[2, 4, 5, 7\] has 4"):
        layer.reshape(bottom, top)
