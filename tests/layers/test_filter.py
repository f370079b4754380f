import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import make_layer

RNG = np.random.RandomState(0)
X, LABELS = RNG.randn(5, 3, 2).astype("f4"), np.arange(5, dtype="f4")
TEXT = 'type: "Filter" bottom: "x" bottom: "label" bottom: "keep" top: "a" top: "b"'


def run(keep):
    """Run the layer as a net does: it is set up with all images."""
    layer, bottom, top = make_layer(TEXT, [X, LABELS, keep])
    assert [blob.shape for blob in top] == [X.shape, LABELS.shape]
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    return layer, bottom, top


@pytest.mark.parametrize("keep", [[1, 0, 0, -2, 0.5], [0, 1, 0, 0, 0], [1] * 5, [0] * 5, [np.nan, 0, 0, 0, 0]])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 1, 1, 1)])
def test_images_whose_selector_is_not_zero_stay(keep, shape):
    keep = np.array(keep, "f4")
    layer, bottom, top = run(keep.reshape(shape))
    here = keep != 0
    np.testing.assert_array_equal(top[0].data, X[here])
    np.testing.assert_array_equal(top[1].data, LABELS[here])
    slopes = [RNG.randn(*blob.shape).astype("f4") for blob in top]
    for blob, values in zip(top, slopes):
        blob.diff[...] = values
    for blob in bottom[:2]:
        blob.diff[...] = 7
    layer.backward(top, [True, True, False], bottom)
    for blob, values in zip(bottom, slopes):
        expected = np.zeros(blob.shape, "f4")
        expected[here] = values
        np.testing.assert_array_equal(blob.diff, expected)


def test_gradient():
    keep = np.array([1, 0, 1, 1, 0])
    layer, bottom, top = make_layer(TEXT, [X, LABELS, keep], dtype=np.float64)
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    weights = RNG.uniform(0.5, 1.5, top[0].shape)
    top[0].diff[...], top[1].diff[...] = weights, 0
    layer.backward(top, [True, True, False], bottom)
    flat, slopes = bottom[0].data.reshape(-1), bottom[0].diff.reshape(-1)
    for i in range(flat.size):
        before = (top[0].data * weights).sum()
        flat[i] += 1
        layer.forward(bottom, top)
        assert (top[0].data * weights).sum() - before == pytest.approx(slopes[i], abs=1e-9)


NET = """
    force_backward: true
    layer { name: "in" type: "Input" top: "x" top: "keep" input_param { shape { dim: 5 dim: 3 } shape { dim: 5 } } }
    layer { name: "thin" type: "Power" bottom: "x" top: "thin" power_param { scale: 2 } }
    layer { name: "made" type: "Power" bottom: "keep" top: "made" power_param { scale: -3 } }
    layer { name: "it" type: "Filter" bottom: "thin" bottom: "made" top: "some" propagate_down: true propagate_down: false }
    layer { name: "more" type: "InnerProduct" bottom: "some" top: "y" inner_product_param { num_output: 2
            weight_filler { value: 1 } } }
"""


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_net_follows_the_selector(low_memory):
    net = Net(text_format.Parse(NET, caffe_pb2.NetParameter()), low_memory=low_memory)
    assert net.blobs["y"].shape == (5, 2)
    x = RNG.randn(5, 3).astype("f4")
    for keep in ([1, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [0] * 5):
        net.blobs["x"].data[...], net.blobs["keep"].data[...] = x, keep
        net.forward()
        here = np.flatnonzero(keep)
        np.testing.assert_allclose(net.blobs["y"].data, np.repeat(2 * x[here].sum(1)[:, None], 2, 1), rtol=1e-5, atol=1e-6)
        if not low_memory:
            net.blobs["y"].diff[...] = 1
            net.backward()
            assert (net.blobs["x"].diff == 4 * np.isin(np.arange(5), here)[:, None]).all()


@pytest.mark.parametrize("bottoms, message", [
    ([X, LABELS, np.ones((5, 2))], r"needs one selector for each image, but 'keep' has \[5, 2\]"),
    ([X, LABELS, np.float32(1)], r"needs one selector for each image, but 'keep' has \[\]"),
    ([X, LABELS[:4], np.ones(5)], r"needs a selector for each image, but 'label' has \[4\] and 'keep' \[5\]"),
    ([X, np.ones(5)], "takes one top for each bottom but the selector, 2 bottoms and 2 tops given"),
])
def test_what_does_not_fit_is_refused(bottoms, message):
    with pytest.raises(Error, match=message):
        make_layer(TEXT, bottoms)


def test_the_selector_has_no_gradient():
    layer, bottom, top = run(np.ones(5))
    with pytest.raises(Error, match=r"cannot backpropagate to the selector \('keep'\)"):
        layer.backward(top, [True, True, True], bottom)
    assert [layer.allow_force_backward(i) for i in range(3)] == [True, True, False]


def test_threads_do_not_change_the_result():
    check_same_bits(TEXT, [X, LABELS, np.ones(5)], [True, True, False])
