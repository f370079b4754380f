import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer


def crop(bottom, size, param):
    return f'type: "Crop" bottom: "score" bottom: "size" crop_param {{ {param} }}', [bottom, np.zeros(size, "f4")]


def draw(*shape):
    return np.random.RandomState(0).randn(*shape).astype("f4")


@pytest.mark.parametrize("shape, size, param, part", [
    ((2, 3, 9, 8), (2, 1, 5, 6), "axis: 2 offset: 1 offset: 2", np.s_[:, :, 1:6, 2:8]),
    ((2, 3, 9, 8), (1, 1, 5, 6), "offset: 2", np.s_[:, :, 2:7, 2:8]),
    ((2, 3, 9, 8), (1, 1, 5, 6), "", np.s_[:, :, :5, :6]),
    ((2, 3, 9, 8), (1, 1, 5, 3), "axis: -1 offset: 4", np.s_[:, :, :, 4:7]),
    ((4, 5, 6, 7), (2, 2, 2, 2), "axis: 0 offset: 1 offset: 3 offset: 0 offset: 5", np.s_[1:3, 3:5, 0:2, 5:7]),
    ((7,), (3,), "axis: 0 offset: 4", np.s_[4:]),
    ((5, 6), (5, 1), "axis: 1 offset: 5", np.s_[:, 5:]),
    ((1, 2, 3, 4, 5), (1, 2, 2, 2, 2), "axis: 2 offset: 1 offset: 2 offset: 3", np.s_[:, :, 1:, 2:, 3:]),
])
def test_crop_cuts_a_part_and_its_gradient_is_zero_elsewhere(shape, size, param, part):
    x = draw(*shape)
    layer, bottom, top = run_layer(*crop(x, size, param))
    np.testing.assert_array_equal(top[0].data, x[part])
    top[0].diff[...] = draw(*top[0].shape)
    expected = np.zeros_like(x)
    expected[part] = top[0].diff
    bottom[0].diff[...] = 9
    layer.backward(top, [True, False], bottom)
    np.testing.assert_array_equal(bottom[0].diff, expected)


def test_gradient_is_that_of_bottom_0_and_zero_for_the_size():
    check_gradient(*crop(draw(1, 2, 4, 5), (1, 1, 2, 3), "offset: 1 offset: 2"))


def test_a_gradient_that_nobody_touched_takes_no_memory():
    layer, bottom, top = run_layer(*crop(draw(1, 2, 4, 5), (1, 1, 2, 3), ""))
    layer.backward(top, [True, True], bottom)
    assert not bottom[1].has_diff


def test_every_image_has_its_own_size():
    layer, bottom, top = run_layer(*crop(draw(1, 2, 8, 9), (1, 1, 3, 4), "offset: 2"))
    x = draw(1, 2, 12, 7)
    bottom[0].reshape(x.shape)
    bottom[0].data[...] = x
    bottom[1].reshape(1, 1, 9, 5)
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, x[:, :, 2:11, 2:7])


@pytest.mark.parametrize("shape, size, param, message", [
    ((1, 1, 38, 38), (1, 1, 34, 34), "offset: 5", r"\(Crop\): offset 5 \+ size 34 exceeds height 38 of 'score'"),
    ((1, 1, 50, 38), (1, 1, 34, 34), "offset: 5", r"offset 5 \+ size 34 exceeds width 38 of 'score'"),
    ((2, 3, 4), (2, 3, 5), "axis: 2", r"offset 0 \+ size 5 exceeds axis 2 of length 4"),
    ((1, 1, 9, 9), (1, 1, 3, 3), "offset: 1 offset: 1 offset: 1", "3 offsets are given for the 2 axes from axis 2"),
    ((1, 1, 9, 9), (3, 3), "", "must have the same number of axes"),
    ((9, 9), (3, 3), "axis: 2", "axis 2 is out of range for 'score' with 2 axes"),
])
def test_what_does_not_fit_is_refused(shape, size, param, message):
    with pytest.raises(Error, match=message):
        make_layer(*crop(np.zeros(shape, "f4"), size, param))


def test_threads_do_not_change_the_result():
    check_same_bits(*crop(draw(2, 3, 17, 19), (1, 1, 11, 7), "offset: 3"))
