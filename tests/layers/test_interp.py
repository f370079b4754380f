import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.core.cuda.cards import check_on_card
from tests.layers.opencv import opencv
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).randn(2, 3, 5, 7).astype("f4")


def text(param):
    return f'type: "Interp" interp_param {{ {param} }}'


def interpolated(x, height, width):
    """Return the image with a new size, by plain loops in float64."""
    y = np.zeros((*x.shape[:2], height, width))
    for h in range(height):
        for w in range(width):
            row = h * (x.shape[2] - 1) / (height - 1) if height > 1 else 0
            column = w * (x.shape[3] - 1) / (width - 1) if width > 1 else 0
            for r in (int(row), int(row) + 1):
                for c in (int(column), int(column) + 1):
                    share = (1 - abs(row - r)) * (1 - abs(column - c))
                    if share > 1e-12:
                        y[:, :, h, w] += share * x[:, :, r, c]
    return y


@pytest.mark.parametrize("param, size", [
    ("zoom_factor: 2", (9, 13)), ("zoom_factor: 8", (33, 49)), ("zoom_factor: 1", (5, 7)), ("shrink_factor: 2", (3, 4)),
    ("shrink_factor: 3", (2, 3)), ("shrink_factor: 2 zoom_factor: 3", (7, 10)), ("height: 6 width: 4", (6, 4)),
    ("height: 1 width: 1", (1, 1)), ("height: 5 width: 20", (5, 20)),
])
def test_corners_stay_corners(param, size):
    _, _, top = run_layer(text(param), [X])
    assert top[0].shape == (2, 3, *size)
    np.testing.assert_allclose(top[0].data, interpolated(X, *size), atol=2e-6)
    np.testing.assert_array_equal(top[0].data[:, :, 0, 0], X[:, :, 0, 0])
    if min(size) > 1:
        np.testing.assert_allclose(top[0].data[:, :, -1, -1], X[:, :, -1, -1], atol=2e-6)
    check_on_card(text(param), [X], tolerance=1e-6)


@pytest.mark.parametrize("param", ["zoom_factor: 3", "height: 3 width: 9", "height: 6 width: 11"])
def test_opencv_agrees(param):
    np.testing.assert_allclose(run_layer(text(param), [X])[2][0].data, opencv(text(param), [X]), atol=1e-5)


@pytest.mark.parametrize("pads", [(-1, 0), (0, -2), (-1, -1)])
def test_padding_below_zero_cuts_pixels_off(pads):
    param = f"zoom_factor: 2 pad_beg: {pads[0]} pad_end: {pads[1]}"
    inner = X[:, :, -pads[0]:5 + pads[1], -pads[0]:7 + pads[1]]
    _, _, top = run_layer(text(param), [X])
    np.testing.assert_allclose(top[0].data, interpolated(inner, *(2 * size - 1 for size in inner.shape[2:])), atol=2e-6)
    check_gradient(text(param), [X[:1, :1]])
    check_on_card(text(param), [X], tolerance=1e-6)


@pytest.mark.parametrize("param", ["zoom_factor: 3", "shrink_factor: 2", "height: 4 width: 1", "height: 5 width: 7",
                                   "height: 1 width: 9"])
def test_gradient(param):
    check_gradient(text(param), [X[:1, :2]])


def test_a_second_bottom_gives_the_size():
    layer, bottom, top = run_layer('type: "Interp"', [X, np.zeros((1, 1, 3, 12))])
    np.testing.assert_allclose(top[0].data, interpolated(X, 3, 12), atol=2e-6)
    bottom[1].diff[...] = 4
    layer.backward(top, [True, True], bottom)
    assert not bottom[1].diff.any()
    check_on_card('type: "Interp"', [X, np.zeros((1, 1, 3, 12))], wanted=[0], tolerance=1e-6)


def test_a_new_size_and_nan_stay_where_they_are():
    layer, bottom, top = run_layer(text("zoom_factor: 1"), [X])
    bottom[0].reshape(1, 1, 2, 2)
    bottom[0].data[...] = [[[[1, np.nan], [np.inf, 2]]]]
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, bottom[0].data)


def test_threads_do_not_change_the_result():
    check_same_bits(text("zoom_factor: 3 pad_beg: -1"), [X])


@pytest.mark.parametrize("param, message", [
    ("", "the top's size is given by nothing; give height and width"),
    ("zoom_factor: 2 height: 3 width: 3", "given by height and width, by zoom_factor; give"),
    ("height: 3", "height and width go together"),
    ("zoom_factor: 0", "zoom_factor is 0; it must be at least 1"),
    ("zoom_factor: 2 pad_beg: 1", "pad_beg is 1; give 0 or less"),
    ("zoom_factor: 2 pad_beg: -3 pad_end: -2", "pad_beg -3 and pad_end -2 leave nothing of the 5x7 pixels"),
    ('zoom_factor: 2 interp_type: "nearest_neighbor"', "interp_type is 'nearest_neighbor'; only 'bilinear' is known here"),
])
def test_sizes_that_mean_nothing_are_refused(param, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param), [X])


def test_a_second_size_is_refused():
    with pytest.raises(Error, match="given by zoom_factor, by a second bottom"):
        make_layer(text("zoom_factor: 2"), [X, X])
    with pytest.raises(Error, match="takes blobs of 4 axes"):
        make_layer(text("zoom_factor: 2"), [X[0]])
