import itertools

import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.core.cuda.cards import check_on_card
from tests.layers.opencv import opencv
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).randn(2, 3, 5, 4).astype("f4")


def text(order):
    return f'type: "Permute" permute_param {{ {" ".join(f"order: {axis}" for axis in order)} }}'


@pytest.mark.parametrize("order", [*itertools.permutations(range(4)), (), (2,), (3, 1), (0, 3)])
def test_axes_are_reordered(order):
    whole = [*order, *(axis for axis in range(4) if axis not in order)]
    layer, bottom, top = run_layer(text(order), [X])
    assert top[0].shape == tuple(X.shape[axis] for axis in whole)
    for place in itertools.product(*map(range, X.shape)):
        assert top[0].data[tuple(place[axis] for axis in whole)] == X[place]
    top[0].diff[...] = 2 * top[0].data
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, 2 * X)
    check_on_card(text(order), [X], tolerance=0)


def test_opencv_agrees():
    ours = run_layer(text((0, 2, 3, 1)), [X])[2][0].data
    np.testing.assert_array_equal(ours, opencv(text((0, 2, 3, 1)), [X]))


@pytest.mark.parametrize("shape, order", [((3,), (0,)), ((2, 3, 1, 2, 2), (1, 0)), ((2, 0, 3), (2, 1))])
def test_any_number_of_axes(shape, order):
    check_gradient(text(order), [np.random.RandomState(1).randn(*shape)])
    check_on_card(text(order), [np.ones(shape)], tolerance=0)


def test_many_axes_that_come_apart_are_left_to_the_host():
    layer, _, _ = make_layer(text((5, 3, 1)), [np.zeros((1, 2, 1, 2, 1, 2))])
    assert not layer.has_cuda()


@pytest.mark.parametrize("order, message", [((0, 1, 1), "each axis can stand in it only once"),
                                            ((0, 4), r"order is \[0, 4\], and bottom 0 has only axes 0 to 3")])
def test_wrong_orders_are_refused(order, message):
    with pytest.raises(Error, match=message):
        make_layer(text(order), [X])
