import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.core.cuda.cards import check_on_card, on_card
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)


def text(param):
    return f'type: "Upsample" upsample_param {{ {param} }}'


def pooled(height, width, kernel=2, stride=2):
    """Return a maximum pooling's top and mask, of images with these sizes, by plain loops."""
    image = RNG.randn(2, 3, height, width).astype("f4")
    rows, columns = (-(-(size - kernel) // stride) + 1 for size in (height, width))
    values, mask = np.zeros((2, 2, 3, rows, columns), "f4")
    for n, c, row, column in np.ndindex(values.shape):
        window = image[n, c, row * stride:row * stride + kernel, column * stride:column * stride + kernel]
        y, x = np.unravel_index(window.argmax(), window.shape)
        values[n, c, row, column] = window[y, x]
        mask[n, c, row, column] = (row * stride + y) * width + column * stride + x
    return values, mask


def expected(values, mask, height, width):
    top = np.zeros((*values.shape[:2], height * width), "f4")
    for n, c, row, column in np.ndindex(values.shape):
        top[n, c, int(mask[n, c, row, column])] = values[n, c, row, column]
    return top.reshape(*values.shape[:2], height, width)


@pytest.mark.parametrize("param, height, width", [
    ("", 8, 6), ("scale: 2", 8, 6), ("scale_h: 2 scale_w: 2", 8, 6), ("pad_out_h: true", 7, 6),
    ("scale: 2 pad_out_w: true", 8, 5), ("pad_out_h: true pad_out_w: true", 7, 5), ("upsample_h: 7 upsample_w: 5", 7, 5),
    ("scale: 2 upsample_h: 7 upsample_w: 6", 7, 6),
])
def test_values_go_where_they_came_from(param, height, width):
    values, mask = pooled(height, width)
    _, _, top = run_layer(text(param), [values, mask])
    np.testing.assert_array_equal(top[0].data, expected(values, mask, height, width))
    check_on_card(text(param), [values, mask], tolerance=0)


def test_other_scales():
    values, mask = pooled(9, 8, kernel=3, stride=3)
    _, _, top = run_layer(text("scale: 3 upsample_h: 9 upsample_w: 8"), [values, mask])
    np.testing.assert_array_equal(top[0].data, expected(values, mask, 9, 8))
    _, _, top = run_layer(text("scale_h: 3 scale_w: 4"), [values, mask * 0])
    assert top[0].shape == (2, 3, 9, 12)


def test_of_values_for_one_place_the_last_stays_and_each_takes_the_gradient():
    values, mask = pooled(7, 9, kernel=3, stride=1)
    assert len(np.unique(mask[0, 0])) < mask[0, 0].size
    layer, bottom, top = run_layer(text("upsample_h: 7 upsample_w: 9"), [values, mask])
    np.testing.assert_array_equal(top[0].data, expected(values, mask, 7, 9))
    top[0].diff[...] = RNG.randn(*top[0].shape)
    bottom[1].diff[...] = 5
    layer.backward(top, [True, True], bottom)
    wanted = np.take_along_axis(top[0].diff.reshape(2, 3, -1), mask.reshape(2, 3, -1).astype(int), 2).reshape(mask.shape)
    np.testing.assert_array_equal(bottom[0].diff, wanted)
    np.testing.assert_array_equal(bottom[1].diff, 0 * mask)
    check_on_card(text("upsample_h: 7 upsample_w: 9"), [values, mask], tolerance=0)
    check_same_bits(text("upsample_h: 7 upsample_w: 9"), [values, mask], [True, False])


def test_gradient():
    values, mask = pooled(5, 7)
    check_gradient(text("upsample_h: 5 upsample_w: 7"), [values, mask], wrt=[0])


def test_a_window_without_a_winner_leads_nowhere():
    layer, bottom, top = run_layer(text(""), [np.ones((1, 1, 1, 2)), [[[[-1, 3]]]]])
    np.testing.assert_array_equal(top[0].data, [[[[0, 0, 0, 0], [0, 0, 0, 0]]]] + np.eye(1, 8, 3).reshape(1, 1, 2, 4))
    top[0].diff[...] = 7
    layer.backward(top, [True, False], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [[[[0, 7]]]])
    check_on_card(text(""), [np.ones((1, 1, 1, 2)), [[[[-1, 3]]]]], tolerance=0)


@pytest.mark.parametrize("value, shown", [(24, "24"), (-2, "-2"), (1.5, "1.5"), (np.nan, "nan"), (np.inf, "inf")])
def test_a_mask_of_another_pooling_is_refused(value, shown):
    mask = np.zeros((1, 2, 2, 3), "f4")
    mask[0, 1, 1, 2] = value
    message = (f"the mask bottom 1 holds {shown} at n 0, c 1, row 1, column 2, and the top's images 4x6 have indices 0 to 23; "
               "the pooling that made it had a bottom of another size: set upsample_h and upsample_w to that")
    with pytest.raises(Error, match=message):
        run_layer(text(""), [np.ones_like(mask), mask])
    layer, bottom, top = on_card(text(""), [np.ones_like(mask), mask])
    layer.forward_cuda(bottom, top)
    with pytest.raises(Error, match=message):
        layer.check_cuda(bottom, top)


@pytest.mark.parametrize("param, message", [
    ("scale: 1", "scale is 1; it must be above 1"),
    ("scale_h: 2", "scale_h and scale_w go together"),
    ("upsample_w: 9", "upsample_h and upsample_w go together"),
    ("scale: 2 scale_h: 2 scale_w: 2", "both given; give one of them"),
    ("scale: 3 pad_out_h: true", "pad_out_h and pad_out_w go with scale 2, not 3; give upsample_h and upsample_w instead"),
    ("upsample_h: 0 upsample_w: 9", "upsample_h is 0"),
])
def test_sizes_that_say_too_little_or_too_much_are_refused(param, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param), [np.zeros((1, 1, 2, 2))] * 2)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(Error, match=r"bottom 0 \[1, 1, 2, 2\] and the mask bottom 1 \[1, 1, 2, 3\] must have the same shape"):
        make_layer(text(""), [np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 3))])
