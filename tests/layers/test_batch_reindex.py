import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
X = RNG.randn(4, 3, 5).astype("f4")
INDEX = np.array([2, 0, 2, 2, 3, 0], "f4")
TEXT = 'type: "BatchReindex" bottom: "x" bottom: "index"'


@pytest.mark.parametrize("index", [INDEX, INDEX[:1], INDEX[:0]])
@pytest.mark.parametrize("shape", [(4, 3, 5), (4,), (4, 1, 3, 1, 2)])
def test_images_are_picked_and_gradients_go_back(shape, index):
    x = RNG.randn(*shape).astype("f4")
    layer, bottom, top = run_layer(TEXT, [x, index])
    np.testing.assert_array_equal(top[0].data, x[index.astype(int)])
    dy = RNG.randn(*top[0].shape).astype("f4")
    top[0].diff[...], bottom[0].diff[...] = dy, 7
    layer.backward(top, [True, False], bottom)
    expected = np.zeros_like(x)
    for number, slope in zip(index.astype(int), dy):
        expected[number] += slope
    np.testing.assert_array_equal(bottom[0].diff, expected)


def test_gradient():
    check_gradient(TEXT, [X, INDEX], wrt=[0])


@pytest.mark.parametrize("value, why", [(4, "is out of range"), (-1, "is out of range"), (1.5, "is no whole number")])
def test_bad_numbers_are_caught(value, why):
    index = INDEX.copy()
    index[3] = value
    with pytest.raises(Error, match=rf"number {value:g} at \[3\] of 'index' {why}: 'x' has 4 rows \(0 to 3\)"):
        run_layer(TEXT, [X, index])


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match=r"needs an index of 1 axis, 'index' has \[6, 1\]"):
        make_layer(TEXT, [X, INDEX[:, None]])
    with pytest.raises(Error, match="needs a bottom of at least 1 axis, 'x' has none"):
        make_layer(TEXT, [np.float32(1), INDEX])
    layer, bottom, top = run_layer(TEXT, [X, INDEX])
    with pytest.raises(Error, match=r"cannot backpropagate to an index \('index'\)"):
        layer.backward(top, [True, True], bottom)
    assert [layer.allow_force_backward(i) for i in range(2)] == [True, False]


def test_threads_do_not_change_the_result():
    check_same_bits(TEXT, [X, INDEX], [True, False])
