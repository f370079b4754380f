import numpy as np
import pytest

from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
SIZES = [(9, 8), (6, 7), (4, 4), (12, 11)]


def text(levels, pool="MAX"):
    return f'type: "SPP" bottom: "x" spp_param {{ pyramid_height: {levels} pool: {pool} }}'


def by_loops(x, levels, pool):
    """Return y (N, values): each level's channels, rows, columns."""
    n, c, h, w = x.shape
    parts = []
    for level in range(levels):
        bins = 2 ** level
        kh, kw = -(-h // bins), -(-w // bins)
        ph, pw = (kh * bins - h + 1) // 2, (kw * bins - w + 1) // 2
        part = np.empty((n, c, bins, bins))
        for i, j in np.ndindex(bins, bins):
            y, x0 = i * kh - ph, j * kw - pw
            values = x[:, :, max(y, 0):y + kh, max(x0, 0):x0 + kw]
            area = (min(y + kh, h + ph) - y) * (min(x0 + kw, w + pw) - x0)
            part[:, :, i, j] = values.max((2, 3)) if pool == "MAX" else values.sum((2, 3)) / area
        parts.append(part.reshape(n, -1))
    return np.concatenate(parts, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_windows_of_each_level_are_pooled(size, levels, pool):
    x = RNG.randn(2, 3, *size).astype("f4")
    _, _, top = run_layer(text(levels, pool), [x])
    assert top[0].shape == (2, 3 * (5 if levels == 2 else 21))
    np.testing.assert_allclose(top[0].data, by_loops(x, levels, pool), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_gradient(pool):
    x = RNG.permutation(2 * 2 * 6 * 7).reshape(2, 2, 6, 7) / 10
    for levels in (1, 3):
        check_gradient(text(levels, pool), [x])


def test_stochastic():
    x = RNG.rand(2, 3, 8, 12).astype("f4") + 0.1
    layer, bottom, top = run_layer(text(3, "STOCHASTIC"), [x], caffe_pb2.TEST)
    windows = x.reshape(2, 3, 4, 2, 4, 3).astype("f8")
    expected = (windows ** 2).sum((3, 5)) / windows.sum((3, 5))
    np.testing.assert_allclose(top[0].data[:, 15:], expected.reshape(2, -1), rtol=1e-5)
    layer, bottom, top = run_layer(text(3, "STOCHASTIC"), [x])
    drawn, state = top[0].data.copy(), layer.state()
    assert np.isin(drawn, x).all()
    layer.forward(bottom, top)
    again = top[0].data.copy()
    layer.set_state(state)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, again)
    assert (again != drawn).any()
    check_gradient(text(2, "STOCHASTIC"), [x[:1, :1]], phase=caffe_pb2.TEST)
    with pytest.raises(Error, match=r"level 1 pools 2 x 2 windows, but 'x' has \[1, 1, 7, 8\], which would have to be padded"):
        make_layer(text(2, "STOCHASTIC"), [np.ones((1, 1, 7, 8))])


def test_one_level_keeps_its_axes():
    x = RNG.randn(2, 3, 5, 6).astype("f4")
    _, _, top = run_layer(text(1), [x])
    np.testing.assert_array_equal(top[0].data, x.max((2, 3), keepdims=True))


def test_images_of_any_size_give_vectors_of_one_length():
    layer, bottom, top = make_layer(text(3), [np.zeros((2, 3, 9, 8))])
    for size in SIZES * 2:
        x = RNG.randn(1, 3, *size).astype("f4")
        bottom[0].reshape(x.shape)
        bottom[0].data[...] = x
        layer.reshape(bottom, top)
        layer.forward(bottom, top)
        np.testing.assert_array_equal(top[0].data, by_loops(x, 3, "MAX").astype("f4"))
        assert top[0].shape == (1, 63)


@pytest.mark.parametrize("shape, levels, message", [
    ((1, 1, 5, 8), 3, r"level 2 pools 4 x 4 windows, but 'x' has \[1, 1, 5, 8\]: windows of 2 would need a padding of 2"),
    ((1, 1, 8, 3), 3, "windows of 1 would need a padding of 1"),
    ((1, 1, 8, 8), 40, "level 4 pools 16 x 16 windows"),
    ((1, 1, 8), 2, r"pools blobs of 4 axes .* 'x' has \[1, 1, 8\]"),
    ((1, 1, 0, 8), 2, r"'x' has \[1, 1, 0, 8\]"),
    ((1, 1, 8, 8), 0, "pyramid_height is missing or 0"),
])
def test_what_does_not_fit_is_refused(shape, levels, message):
    with pytest.raises(Error, match=message):
        make_layer(text(levels), [np.zeros(shape)])


def test_threads_do_not_change_the_result():
    check_same_bits(text(3), [RNG.randn(2, 3, 9, 8).astype("f4")])
