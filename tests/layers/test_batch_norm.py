import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2, upgrade
from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import make_layer, run_layer

RNG = np.random.RandomState(0)
SHAPES = [(3, 2, 5, 7), (4, 3), (5,), (2, 3, 2, 3, 2), (1, 3, 1, 1)]


def text(param=""):
    return f'type: "BatchNorm" batch_norm_param {{ {param} }}'


def by_loops(x, eps=1e-5):
    """Return (y, mean, variance): plain loops over channels."""
    x = x.astype("f8")
    view = x.reshape(x.shape[0], x.shape[1] if x.ndim > 1 else 1, -1)
    y, mean, variance = np.empty_like(view), [], []
    for c in range(view.shape[1]):
        values = view[:, c]
        mean.append(values.sum() / values.size)
        variance.append(((values - mean[c]) ** 2).sum() / values.size)
        y[:, c] = (values - mean[c]) / np.sqrt(variance[c] + eps)
    return y.reshape(x.shape), np.array(mean), np.array(variance)


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_normalised_and_statistics_gathered(shape):
    x = (RNG.randn(*shape) * 3 + 5).astype("f4")
    y, mean, variance = by_loops(x)
    layer, bottom, top = run_layer(text("moving_average_fraction: 0.9"), [x])
    np.testing.assert_allclose(top[0].data, y, atol=2e-5)
    count = x.size // len(mean)
    unbiased = variance * (count / (count - 1) if count > 1 else 1)
    np.testing.assert_allclose(layer.blobs[0].data, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.blobs[1].data, unbiased, rtol=1e-5)
    assert layer.blobs[2].data == 1
    layer.forward(bottom, top)
    np.testing.assert_allclose(layer.blobs[0].data, 1.9 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.blobs[1].data, 1.9 * unbiased, rtol=1e-5)
    assert layer.blobs[2].data == pytest.approx(1.9)


@pytest.mark.parametrize("shape", SHAPES)
def test_gathered_statistics_are_used_in_test(shape):
    x = RNG.randn(*shape).astype("f4")
    channels = shape[1] if len(shape) > 1 else 1
    means, variances = RNG.randn(channels), RNG.rand(channels) + 0.1
    params = [means, variances, [2.5]]
    view = (-1,) + (1,) * (len(shape) - 2)
    layer, bottom, top = run_layer(text("eps: 0.01"), [x], caffe_pb2.TEST, params=params)
    deviation = np.sqrt(variances / 2.5 + 0.01).reshape(view)
    np.testing.assert_allclose(top[0].data, (x - (means / 2.5).reshape(view)) / deviation, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer.blobs[0].data, means.astype("f4"))  # and are not added to
    assert layer.blobs[2].data == 2.5
    top[0].diff[...] = x
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, x / deviation, rtol=1e-5)


def test_use_global_stats_decides_over_the_phase():
    x = RNG.randn(4, 3, 2).astype("f4")
    params = [np.zeros(3), np.full(3, 4.0), [1]]
    _, _, top = run_layer(text("use_global_stats: true"), [x], caffe_pb2.TRAIN, params=params)
    np.testing.assert_allclose(top[0].data, x / 2, rtol=1e-5)
    layer, _, top = run_layer(text("use_global_stats: false"), [x], caffe_pb2.TEST, params=params)
    np.testing.assert_allclose(top[0].data, by_loops(x)[0], atol=2e-5)
    assert layer.blobs[2].data == pytest.approx(1.999)


def test_nothing_gathered_counts_as_zero():
    _, _, top = run_layer(text("eps: 4"), [np.full((2, 3), 6, "f4")], caffe_pb2.TEST)
    assert (top[0].data == 3).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_gradient(shape, phase):
    channels = shape[1] if len(shape) > 1 else 1
    params = [RNG.randn(channels), RNG.rand(channels) + 0.5, [1.5]]
    layer, bottom, top = run_layer(text(), [RNG.randn(*shape)], phase, np.float64, params)
    weights = RNG.uniform(0.5, 1.5, shape)
    top[0].diff[...] = weights
    layer.backward(top, [True], bottom)
    analytic, x = bottom[0].diff.reshape(-1).copy(), bottom[0].data.reshape(-1)
    for i in range(x.size):
        kept, values = x[i], []
        for step in (1e-5, -1e-5):
            x[i] = kept + step
            layer.forward(bottom, top)
            values.append((top[0].data * weights).sum())
        x[i] = kept
        assert analytic[i] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-6)


def test_a_gradient_of_the_statistics_is_not_written():
    layer, bottom, top = run_layer(text(), [RNG.randn(4, 3)])
    layer.backward(top, [False], bottom)
    assert not any(blob.has_diff for blob in layer.blobs) and not bottom[0].has_diff


NET = """
    force_backward: true
    layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 2 dim: 5 } } }
    layer { name: "thin" type: "Power" bottom: "data" top: "x" power_param { scale: 2 } }
    layer { name: "norm" type: "BatchNorm" bottom: "x" top: "%s" %s }
    layer { name: "scale" type: "Scale" bottom: "%s" top: "%s" scale_param { bias_term: true filler { value: 3 } } }
"""


def net_of(norm, scale, more=""):
    return Net(text_format.Parse(NET % (norm, more, norm, scale), caffe_pb2.NetParameter()), caffe_pb2.TRAIN, seed=1)


def test_the_scale_that_follows_in_place_changes_no_gradient():
    x, dy = RNG.randn(2, 4, 3, 2, 5).astype("f4")
    found = []
    for norm, scale in (("y", "z"), ("y", "y"), ("x", "x")):
        net = net_of(norm, scale)
        net.blobs["data"].data[...] = x
        net.forward()
        net.blobs[scale].diff[...] = dy
        net.backward()
        found.append([net.blobs["data"].diff, net.params["scale"][0].diff, net.params["norm"][1].data, net.blobs[scale].data])
    for other in found[1:]:
        for one, two in zip(found[0], other):
            np.testing.assert_array_equal(one, two)


def test_statistics_are_no_weights():
    net = net_of("y", "z")
    assert net.params_lr == [0, 0, 0, 1, 1]
    assert [blob.shape for blob in net.params["norm"]] == [(3,), (3,), (1,)]
    with pytest.raises(Error, match=r"cannot learn them, but its param 0 has lr_mult 1; give lr_mult: 0 three times"):
        net_of("y", "z", "param { decay_mult: 0 }")
    three = "param { lr_mult: 0 } " * 3
    assert net_of("y", "z", three).params_lr == [0, 0, 0, 1, 1]
    old = text_format.Parse(NET % ("y", "param { lr_mult: 1 } " * 3, "y", "z"), caffe_pb2.NetParameter())
    assert [p.lr_mult for p in upgrade.upgrade_net(old).layer[2].param] == [0, 0, 0]
    assert Net(old).params_lr == [0, 0, 0, 1, 1]


def test_statistics_are_kept_with_the_weights(tmp_path):
    net = net_of("y", "z")
    net.blobs["data"].data[...] = RNG.randn(4, 3, 2, 5)
    net.forward()
    net.save(tmp_path / "net.caffemodel")
    again = net_of("y", "z")
    again.copy_from(tmp_path / "net.caffemodel")
    for one, two in zip(net.params["norm"], again.params["norm"]):
        np.testing.assert_array_equal(one.data, two.data)


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match="needs a bottom of at least 1 axis"):
        make_layer(text(), [np.float32(3)])
    layer, bottom, top = make_layer(text(), [np.zeros((2, 3, 4))])
    bottom[0].reshape(2, 4, 4)
    with pytest.raises(Error, match=r"has statistics of 3 channels, but bottom 0 \[2, 4, 4\] has 4"):
        layer.reshape(bottom, top)


def test_threads_do_not_change_the_result():
    x = RNG.randn(3, 5, 7, 11).astype("f4")
    check_same_bits(text(), [x])
    check_same_bits(text(), [x], phase=caffe_pb2.TEST, params=[RNG.randn(5), RNG.rand(5), [1]])


def test_a_far_away_mean_costs_no_precision():
    x = (RNG.randn(8, 2, 9, 9) + 1000).astype("f4")
    _, _, top = run_layer(text(), [x])
    np.testing.assert_allclose(top[0].data, by_loops(x)[0], atol=1e-4)
