import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).randn(2, 3, 5).astype("f4")


def text(tops):
    return 'type: "Split" ' + " ".join(f'top: "t{i}"' for i in range(tops))


@pytest.mark.parametrize("tops", [1, 2, 3, 4])
def test_tops_share_the_bottom_and_gradients_add_up(tops):
    layer, bottom, top = run_layer(text(tops), [X])
    assert all(blob.shares_data(bottom[0]) and blob.shape == X.shape for blob in top)
    for i, blob in enumerate(top):
        blob.diff[...] = X * 10**i
    layer.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, X * sum(10**i for i in range(tops)), rtol=1e-6)


def test_gradient():
    check_gradient(text(3), [X])


def test_a_gradient_that_nobody_touched_counts_as_zero():
    layer, bottom, top = run_layer(text(3), [X])
    bottom[0].diff[...] = 7
    layer.backward(top, [True], bottom)
    assert (bottom[0].diff == 0).all()
    top[1].diff[...] = X
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, X)
    assert not top[0].has_diff


def test_tops_follow_a_bottom_that_grows():
    layer, bottom, top = run_layer(text(2), [X])
    bottom[0].reshape(4, 5, 6)
    layer.reshape(bottom, top)
    bottom[0].data[...] = 3
    layer.forward(bottom, top)
    assert top[1].shape == (4, 5, 6)
    assert (top[1].data == 3).all()


def test_in_place_is_refused():
    layer, bottom, _ = make_layer(text(1), [X])
    with pytest.raises(Error, match="cannot work in place"):
        layer.check_in_place(bottom, bottom)


def test_threads_do_not_change_the_result():
    check_same_bits(text(3), [X])
