"""Blobs in files: shapes and what they hold."""

import numpy as np
import pytest

from netspec import blobs
from netspec.blobs import ParamBlob, shapes_agree
from netspec.errors import Error


class Numbers:
    """Stands for numbers in a file that must not be read."""

    def __init__(self, count):
        self.count = count

    def read_into(self, flat):
        raise AssertionError("read before the shape was checked")


@pytest.mark.parametrize("source, target, agree", [
    ((2, 3), (2, 3), True), ((2, 3), (3, 2), False), ((), (), True), ((1,), (), False),
    ((1, 1, 1, 5), (5,), True), ((1, 1, 4, 5), (4, 5), True), ((1, 3, 4, 5), (3, 4, 5), True), ((1, 1, 1, 1), (), True),
    ((5, 1, 1, 1), (5,), False), ((1, 1, 5), (5,), False), ((5,), (1, 1, 1, 5), False),
    ((1, 1, 1, 5), (1, 1, 1, 1, 5), False), ((20,), (5, 4), False),
])
def test_shapes_agree_as_caffe_shape_equals(source, target, agree):
    assert shapes_agree(source, target) is agree


@pytest.mark.parametrize("shape, count, words", [
    ((2, -3), 6, "shape 2x-3 .* has a negative size"),
    ((-2, -3), 6, "negative"),
    ((2, 3), 5, r"shape 2x3 \(6\) has 6 values, but its data in the file has 5"),
    ((), 0, "has 1 values, but its data in the file has 0"),
    ((2**31, 2), 2**32, "more than 2147483647 values"),
    ((0, 2**40, 2**40), 0, "more than 2147483647 values"),
    ((1,) * 33, 1, "33 axes; at most 32"),
])
def test_impossible_shapes_are_refused_before_anything_is_read(shape, count, words):
    blob = ParamBlob(Numbers(count), shape=shape, where="'f': layer 'conv1', blob 0")
    for ask in (lambda: blob.shape, lambda: blob.data, lambda: blob.read_into(np.zeros(6, np.float32))):
        with pytest.raises(Error, match="layer 'conv1', blob 0: .*" + words):
            ask()


def test_read_into_takes_any_target_that_agrees():
    values = np.arange(6, dtype=np.float32)
    blob = ParamBlob(values.reshape(1, 1, 2, 3), 2 * values.reshape(1, 1, 2, 3))
    for target in (np.empty((2, 3), np.float32), np.empty((2, 3)), np.empty((3, 2), np.float32).T,
                   np.empty((1, 1, 2, 3), np.float32)):
        blob.read_into(target)
        np.testing.assert_array_equal(target.ravel(), values)
        blob.read_diff_into(target)
        np.testing.assert_array_equal(target.ravel(), 2 * values)


def test_read_into_refuses_another_shape():
    blob = ParamBlob(np.zeros((2, 3)), where="layer 'fc'")
    with pytest.raises(Error, match=r"layer 'fc': shape 2x3 \(6\) does not fit 3x2 \(6\)"):
        blob.read_into(np.zeros((3, 2), np.float32))
    with pytest.raises(Error, match="holds no diff"):
        blob.read_diff_into(np.zeros((2, 3), np.float32))


def test_a_diff_of_another_size_is_refused():
    with pytest.raises(Error, match="its diff in the file has 3"):
        _ = ParamBlob(np.zeros(4), np.zeros(3)).shape


def test_show_is_caffes_shape_string():
    assert blobs.show((64, 3, 3, 3)) == "64x3x3x3 (1728)"
    assert blobs.show(()) == "(1)"
