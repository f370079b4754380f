import pytest

from netspec.errors import Error
from tests.support import make_layer


def text(shapes, tops=2):
    dims = [" ".join(f"dim: {d}" for d in shape) for shape in shapes]
    return ('type: "Input" ' + " ".join(f'top: "t{i}"' for i in range(tops))
            + " input_param { " + " ".join(f"shape {{ {d} }}" for d in dims) + " }")


@pytest.mark.parametrize("shapes, expected", [
    ([(1, 3, 5, 7)], [(1, 3, 5, 7)] * 2), ([(1, 3), (4,)], [(1, 3), (4,)]), ([(), (2,)], [(), (2,)]), ([], [(), ()]),
])
def test_tops_take_the_shapes(shapes, expected):
    _, _, top = make_layer(text(shapes), [])
    assert [blob.shape for blob in top] == expected


def test_a_shape_given_later_stays():
    layer, bottom, top = make_layer(text([(1, 3)]), [])
    top[0].reshape(2, 5)
    top[0].data[...] = 7
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    assert top[0].shape == (2, 5)
    assert (top[0].data == 7).all()


@pytest.mark.parametrize("shapes, message", [
    ([(1,)] * 3, "shape is given 3 times for 2 tops"),
    ([(1, -3)], "negative length"),
    ([(100000, 100000)], "more than"),
])
def test_wrong_shapes_are_refused(shapes, message):
    with pytest.raises(Error, match=message):
        make_layer(text(shapes), [])


def test_without_a_shape_measuring_says_so():
    layer, _, _ = make_layer(text([]), [])
    with pytest.raises(Error, match="has no shape"):
        layer.top_shapes([])
