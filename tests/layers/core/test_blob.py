import numpy as np
import pytest

from layers.core.blob import Blob
from netspec.errors import Error


def test_memory_is_zero_and_keeps_values_while_it_fits():
    blob = Blob((2, 3))
    assert blob.data.shape == (2, 3) and not blob.data.any() and blob.data.dtype == np.float32
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.reshape(4)
    assert blob.data.tolist() == [0, 1, 2, 3]
    blob.reshape((2, 3))
    assert blob.data.tolist() == [[0, 1, 2], [3, 4, 5]]
    blob.reshape(7)
    assert not blob.data.any()


def test_empty_shape_holds_one_value():
    blob = Blob(())
    assert blob.count == 1 and blob.data.shape == ()
    blob.data[...] = 3
    assert float(blob.data) == 3


def test_views_stay_valid_and_assignment_copies():
    blob = Blob((2, 2))
    view = blob.data
    blob.data -= 1
    blob.data = [[1, 2], [3, 4]]
    assert view.tolist() == [[1, 2], [3, 4]] and np.shares_memory(blob.data, view)


def test_legacy_names_fill_up_with_ones():
    blob = Blob((5, 7))
    assert (blob.num, blob.channels, blob.height, blob.width) == (5, 7, 1, 1)
    with pytest.raises(Error, match="at most 4 axes"):
        Blob((1, 2, 3, 4, 5)).num  # noqa: B018


def test_sharing_lasts_until_memory_is_outgrown():
    a, b = Blob((2, 3), "a"), Blob((6,), "b")
    b.share_data(a)
    a.data[...] = 5
    assert b.data.tolist() == [5] * 6 and b.shares_data(a)
    b.diff[...] = 1
    assert not a.has_diff
    a.reshape(100)
    assert not b.shares_data(a) and b.data.tolist() == [5] * 6
    with pytest.raises(Error, match="'b'.*'a'.*6 and 100"):
        b.share_data(a)


@pytest.mark.parametrize("shape, text", [((2, -1), "negative"), ((1 << 20, 1 << 20), "more than the 2147483647")])
def test_bad_shapes_are_refused_before_memory_is_taken(shape, text):
    blob = Blob((1,), "data")
    with pytest.raises(Error, match=text):
        blob.reshape(shape)
    assert blob.shape == (1,)


def test_a_shape_is_whole_numbers():
    blob = Blob((2, 3), "x")
    blob.reshape(1, 6 / 2)  # a script of Python 2 divides so
    assert blob.shape == (1, 3)
    for dims in ((1, 2.5), ("abc",), (None, 1), (float("nan"),)):
        with pytest.raises(Error, match="blob 'x': .* is no shape; give whole numbers"):
            blob.reshape(*dims)
    assert blob.shape == (1, 3)


def test_a_cleared_gradient_is_zero_for_whoever_looks():
    blob, other = Blob((2, 3)), Blob((6,))
    blob.clear_diff()
    assert not blob.has_diff
    other.share_diff(blob)
    for look in (lambda: blob.diff, lambda: blob.peek(diff=True), lambda: blob.nchw(diff=True), lambda: other.diff):
        blob.diff = 7
        blob.clear_diff()
        assert not look().any()
    held = blob.diff[0]  # whoever holds a view sees the zeros in it
    held[...] = 7
    blob.clear_diff()
    assert held.tolist() == [0, 0, 0]
    blob.diff = 7
    blob.clear_diff()
    blob.reshape(2)  # what the shape does not reach now was cleared, too
    blob.add_to_diff(lambda diff, accumulate: diff.__iadd__(1))
    assert other.diff.tolist() == [1, 1, 0, 0, 0, 0]


def test_what_is_added_to_a_cleared_gradient_is_written():
    blob, calls = Blob((2, 3)), []

    def add(diff, accumulate):
        calls.append(accumulate)
        assert diff.shape == (2, 3)
        diff[...] = 2 + accumulate * diff

    blob.add_to_diff(add)
    blob.clear_diff()
    blob.add_to_diff(add)
    blob.add_to_diff(add)
    assert calls == [True, False, True] and (blob.diff == 4).all()
    held = blob.diff
    blob.clear_diff()
    blob.add_to_diff(add)
    assert calls.pop() and (held == 2).all()


def test_a_gradient_that_is_interrupted_stays_zero():
    def add(diff, accumulate):
        diff[0] = 7
        raise KeyboardInterrupt

    blob = Blob((2, 3))
    blob.diff = 1
    blob.clear_diff()
    with pytest.raises(KeyboardInterrupt):
        blob.add_to_diff(add)
    assert not blob.diff.any()
