import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.core.cuda.cards import check_on_card
from tests.layers.opencv import opencv
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
X = RNG.randn(2, 3, 5, 7).astype("f4")


def text(param):
    return f'type: "Normalize" norm_param {{ {param} }}'


def expected(x, scale, across, eps):
    y = np.zeros(x.shape)
    for n in range(x.shape[0]):
        whole = (x[n].astype("f8") ** 2).sum()
        for place in np.ndindex(x.shape[2:]):
            vector = x[(n, slice(None), *place)].astype("f8")
            y[(n, slice(None), *place)] = vector / np.sqrt((whole if across else (vector ** 2).sum()) + eps) * scale
    return y


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("eps", [1e-10, 0.5])
def test_vectors_get_the_length_of_the_scale(across, shared, eps):
    param = f"across_spatial: {across} channel_shared: {shared} eps: {eps}".replace("True", "true").replace("False", "false")
    scale = np.float32(1.7) if shared else RNG.uniform(1, 20, 3).astype("f4")
    layer, _, top = run_layer(text(param), [X], params=[scale])
    assert layer.blobs[0].shape == (() if shared else (3,))
    np.testing.assert_allclose(top[0].data, expected(X, scale, across, eps), rtol=1e-5, atol=1e-6)
    check_gradient(text(param), [X[:, :, :2, :3]], params=[scale])
    check_on_card(text(param), [X], params=[scale], tolerance=4e-6)
    check_same_bits(text(param), [X], params=[scale])


def test_the_scale_is_1_unless_filled():
    assert run_layer(text(""), [X])[0].blobs[0].data == 1
    layer, _, _ = run_layer(text('channel_shared: false scale_filler { type: "constant" value: 20 }'), [X])
    np.testing.assert_array_equal(layer.blobs[0].data, [20] * 3)


@pytest.mark.parametrize("param, scale", [("across_spatial: false channel_shared: false", [20, 3, 0.5]), ("", 2.0)])
def test_opencv_agrees(param, scale):
    ours = run_layer(text(param), [X], params=[np.float32(scale)])[2][0].data
    np.testing.assert_allclose(ours, opencv(text(param), [X], [np.float32(scale)]), rtol=1e-5, atol=1e-6)


def test_two_axes_and_one_channel():
    check_gradient(text("across_spatial: false"), [X[:, :, 0, 0]])
    check_gradient(text("channel_shared: false"), [X[:, :1, :2, :2]])
    check_on_card(text("channel_shared: false"), [X[:, :1]], tolerance=4e-6)
    check_on_card(text("across_spatial: false"), [X[:, :, 0, 0]], tolerance=4e-6)


def test_zeros_stay_zero():
    layer, bottom, top = run_layer(text("across_spatial: false"), [0 * X])
    assert not top[0].data.any()
    top[0].diff[...] = 1
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, 1e5, rtol=1e-4)  # 1 / sqrt(eps)


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match="takes blobs of at least 2 axes"):
        make_layer(text(""), [X[0, 0, 0]])
    layer, bottom, top = make_layer(text("channel_shared: false"), [X])
    bottom[0].reshape(2, 4, 5, 7)
    with pytest.raises(Error, match=r"has factors for 3 channels, bottom 0 \[2, 4, 5, 7\] has 4"):
        layer.reshape(bottom, top)
