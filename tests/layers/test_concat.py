import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer


def draw(*shapes):
    rng = np.random.RandomState(0)
    return [rng.randn(*shape).astype("f4") for shape in shapes]


@pytest.mark.parametrize("param, axis, shapes", [
    ("", 1, [(2, 3, 5, 7), (2, 1, 5, 7), (2, 4, 5, 7)]),
    ("axis: 0", 0, [(2, 3), (5, 3)]),
    ("axis: -1", 2, [(2, 3, 4), (2, 3, 1)]),
    ("concat_dim: 2", 2, [(2, 3, 4), (2, 3, 1)]),
    ("", 1, [(2, 3, 4), (2, 0, 4)]),
])
def test_bottoms_are_joined_along_the_axis(param, axis, shapes):
    x = draw(*shapes)
    layer, bottom, top = run_layer(f'type: "Concat" concat_param {{ {param} }}', x)
    np.testing.assert_array_equal(top[0].data, np.concatenate(x, axis))
    top[0].diff[...] = 2 * top[0].data
    layer.backward(top, [True] * len(x), bottom)
    for blob, values in zip(bottom, x):
        np.testing.assert_array_equal(blob.diff, 2 * values)


def test_gradient():
    check_gradient('type: "Concat"', draw((1, 2, 3), (1, 1, 3)))


def test_only_wanted_gradients_are_written():
    layer, bottom, top = run_layer('type: "Concat"', draw((1, 2), (1, 3)))
    layer.backward(top, [False, True], bottom)
    assert not bottom[0].has_diff
    assert bottom[1].has_diff


def test_a_single_bottom_is_shared():
    _, bottom, top = run_layer('type: "Concat"', draw((2, 3)))
    assert top[0].shares_data(bottom[0])
    top[0].diff[...] = 4
    assert (bottom[0].diff == 4).all()


@pytest.mark.parametrize("param, shapes, message", [
    ("", [(2, 3, 4), (2, 3, 5)], r"'b' \[2, 3, 5\] does not fit 'a' \[2, 3, 4\]: all axes but axis 1 must agree"),
    ("", [(2, 3, 4), (2, 3)], "does not fit"),
    ("axis: 3", [(2, 3), (2, 3)], "axis 3 is out of range"),
    ("concat_dim: 2", [(2, 3), (2, 3)], "axis 2 is out of range"),
    ("axis: 1 concat_dim: 1", [(2, 3), (2, 3)], "both 'axis' and 'concat_dim'"),
])
def test_what_does_not_fit_is_refused(param, shapes, message):
    with pytest.raises(Error, match=message):
        make_layer(f'type: "Concat" bottom: "a" bottom: "b" concat_param {{ {param} }}',
                   [np.zeros(shape, "f4") for shape in shapes])
