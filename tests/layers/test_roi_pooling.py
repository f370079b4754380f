import math

import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.core.cuda.cards import check_on_card, on_card
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
X = RNG.permutation(2 * 3 * 9 * 11).reshape(2, 3, 9, 11).astype("f4")
REGIONS = np.array([[0, 0, 0, 21, 17], [1, 3, 5, 12, 9], [1, 8, 8, 8, 8], [0, 15, 11, 40, 30], [0, 30, 2, 40, 9],
                    [1, -9, -7, 4, 30], [0, 9, 9, 5, 3]], "f4")


def text(param, more=""):
    return f'type: "ROIPooling" {more} roi_pooling_param {{ {param} }}'


def half_away(x):
    return math.floor(x + 0.5) if x >= 0 else math.ceil(x - 0.5)


def expected(x, regions, grid, scale):
    """Return the top and the indices of the winners, by plain loops."""
    top = np.zeros((len(regions), x.shape[1], *grid))
    winners = np.full(top.shape, -1)
    for r, c, ph, pw in np.ndindex(top.shape):
        spans = []
        for low, high, cells, p, size in ((2, 4, grid[0], ph, x.shape[2]), (1, 3, grid[1], pw, x.shape[3])):
            start = half_away(regions[r][low] * np.float32(scale))
            length = max(half_away(regions[r][high] * np.float32(scale)) - start + 1, 1)
            cell = np.float32(length) / np.float32(cells)
            first, last = math.floor(np.float32(p) * cell), math.ceil(np.float32(p + 1) * cell)
            spans.append(range(min(max(first + start, 0), size), min(max(last + start, 0), size)))
        best = -np.inf
        for row in spans[0]:
            for column in spans[1]:
                value = x[int(regions[r][0]), c, row, column]
                if value > best:
                    best, winners[r, c, ph, pw] = value, row * x.shape[3] + column
        top[r, c, ph, pw] = best if winners[r, c, ph, pw] >= 0 else 0
    return top, winners


@pytest.mark.parametrize("grid, scale", [((3, 4), 0.5), ((1, 1), 1), ((7, 7), 0.5), ((2, 5), 0.0625)])
def test_each_cell_gives_its_largest_value(grid, scale):
    param = f"pooled_h: {grid[0]} pooled_w: {grid[1]} spatial_scale: {scale}"
    layer, bottom, top = run_layer(text(param), [X, REGIONS])
    wanted, winners = expected(X, REGIONS, grid, scale)
    np.testing.assert_array_equal(top[0].data, wanted)
    top[0].diff[...] = RNG.randint(1, 9, wanted.shape)
    bottom[1].diff[...] = 3
    layer.backward(top, [True, True], bottom)
    gradient = np.zeros((2, 3, 99))
    for place in np.ndindex(wanted.shape):
        if winners[place] >= 0:
            gradient[int(REGIONS[place[0], 0]), place[1], winners[place]] += top[0].diff[place]
    np.testing.assert_array_equal(bottom[0].diff.reshape(2, 3, 99), gradient)
    np.testing.assert_array_equal(bottom[1].diff, 0 * REGIONS)
    check_on_card(text(param), [X, REGIONS], tolerance=0)


def test_cells_are_rounded_as_in_fast_rcnn():
    x = np.zeros((1, 1, 60, 60), "f4")
    x[0, 0, 57, 57] = 1  # one behind the region, whose last cell ends at 7 * float32(57 / 7) > 57
    _, _, top = run_layer(text("pooled_h: 7 pooled_w: 7"), [x, [[0, 0, 0, 56, 56]]])
    assert top[0].data[0, 0, 6, 6] == 1 and top[0].data.sum() == 1
    check_on_card(text("pooled_h: 7 pooled_w: 7"), [x, [[0, 0, 0, 56, 56]]], tolerance=0)


def test_gradient():
    regions = REGIONS[[1, 1, 5]].reshape(3, 5, 1, 1)  # one of them twice
    check_gradient(text("pooled_h: 2 pooled_w: 3 spatial_scale: 0.5"), [X[:, :2, :5, :6], regions], wrt=[0])


def test_threads_do_not_change_the_result():
    check_same_bits(text("pooled_h: 3 pooled_w: 2 spatial_scale: 0.5"), [X, REGIONS], [True, False])


def test_no_regions_and_nan():
    layer, bottom, top = run_layer(text("pooled_h: 2 pooled_w: 2"), [X, np.zeros((0, 5))])
    assert top[0].shape == (0, 3, 2, 2)
    layer.backward(top, [True, False], bottom)
    assert not bottom[0].diff.any()
    x = np.array([[[[np.nan, 3], [np.nan, np.nan]]]], "f4")
    _, _, top = run_layer(text("pooled_h: 2 pooled_w: 1"), [x, [[0, 0, 0, 1, 1]]])
    np.testing.assert_array_equal(top[0].data.ravel(), [3, np.float32(-3.4028234663852886e38)])


@pytest.mark.parametrize("image", [2, -1, 0.5, np.nan])
def test_a_region_of_no_image_is_refused(image):
    regions = REGIONS.copy()
    regions[4, 0] = image
    message = f"region 4 of bottom 1 is of image {image:g}; bottom 0 has images 0 to 1"
    with pytest.raises(Error, match=message):
        run_layer(text("pooled_h: 2 pooled_w: 2"), [X, regions])
    layer, bottom, top = on_card(text("pooled_h: 2 pooled_w: 2"), [X, regions])
    layer.forward_cuda(bottom, top)
    with pytest.raises(Error, match=message):
        layer.check_cuda(bottom, top)


@pytest.mark.parametrize("param, shapes, message", [
    ("pooled_h: 3", [(1, 1, 4, 4), (2, 5)], "pooled_w is missing or 0"),
    ("pooled_h: 3 pooled_w: 3", [(1, 4, 4), (2, 5)], "pools blobs of 4 axes"),
    ("pooled_h: 3 pooled_w: 3", [(1, 1, 4, 4), (2, 4)], r"bottom 1 \[2, 4\] must hold 5 numbers for each region"),
])
def test_what_does_not_fit_is_refused(param, shapes, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param), [np.zeros(shape) for shape in shapes])
