import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

X = np.random.RandomState(0).randn(2, 6, 5, 3).astype("f4")


def text(param, tops=3):
    return 'type: "Slice" ' + " ".join(f'top: "t{i}"' for i in range(tops)) + f" slice_param {{ {param} }}"


@pytest.mark.parametrize("param, tops, axis, points", [
    ("", 3, 1, [2, 4]),
    ("slice_point: 1 slice_point: 4", 3, 1, [1, 4]),
    ("axis: -2 slice_point: 3", 2, 2, [3]),
    ("slice_dim: 0", 2, 0, [1]),
])
def test_the_bottom_is_cut_along_the_axis(param, tops, axis, points):
    layer, bottom, top = run_layer(text(param, tops), [X])
    for blob, part in zip(top, np.split(X, points, axis), strict=True):
        np.testing.assert_array_equal(blob.data, part)
        blob.diff[...] = 3 * part
    layer.backward(top, [True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, 3 * X)


def test_gradient():
    check_gradient(text("slice_point: 1 slice_point: 2"), [X[:1, :, :2]])


def test_a_single_top_is_shared():
    _, bottom, top = run_layer(text("", 1), [X])
    assert top[0].shares_data(bottom[0])


@pytest.mark.parametrize("param, tops, message", [
    ("", 4, "axis 1 of length 6 cannot be cut into 4 equal tops"),
    ("slice_point: 2", 3, "1 slice_point values cut into 2 parts, but there are 3 tops"),
    ("slice_point: 4 slice_point: 2", 3, "must increase"),
    ("slice_point: 2 slice_point: 6", 3, "must increase and lie within axis 1 of length 6"),
    ("axis: 1 slice_dim: 1", 3, "both 'axis' and 'slice_dim'"),
    ("axis: 4", 3, "axis 4 is out of range"),
])
def test_what_does_not_fit_is_refused(param, tops, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param, tops), [X])
