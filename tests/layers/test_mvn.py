import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
SHAPES = [(2, 3, 5, 7), (3, 4, 5), (2, 5), (7,)]
PARAMS = ["", "across_channels: true", "normalize_variance: false", "across_channels: true normalize_variance: false eps: 3"]


def text(param=""):
    return f'type: "MVN" mvn_param {{ {param} }}'


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("param", PARAMS)
def test_values_are_those_of_plain_loops(shape, param):
    x = (RNG.randn(*shape) * 3 + 5).astype("f4")
    groups = shape[0] if "across" in param else int(np.prod(shape[:2]))
    expected = x.astype("f8").reshape(groups, -1).copy()
    for row in expected:
        row -= row.sum() / row.size
        if "normalize" not in param:
            row /= np.sqrt((row ** 2).sum() / row.size) + 1e-9
    _, _, top = run_layer(text(param), [x])
    assert top[0].shape == shape + (1,) * (4 - len(shape))
    if "normalize" not in param and expected.shape[1] == 1:  # 0 / 1e-9
        assert not top[0].data.any()
    else:
        np.testing.assert_allclose(top[0].data.reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("param", PARAMS)
def test_gradient(param):
    check_gradient(text(param), [RNG.randn(2, 3, 2, 3)])
    check_gradient(text(param), [RNG.randn(2, 1, 5)])


def test_eps_is_added_to_the_deviation():
    _, _, top = run_layer(text("eps: 1"), [np.array([[[[1, -1, 1, -1]]]], "f4")])
    np.testing.assert_array_equal(top[0].data, [[[[0.5, -0.5, 0.5, -0.5]]]])
    _, _, top = run_layer(text(), [np.full((1, 2, 3), 7, "f4")])
    assert (top[0].data == 0).all()
    _, _, top = run_layer(text("eps: 0"), [np.full((1, 2, 3), 7, "f4")])
    assert np.isnan(top[0].data).all()


@pytest.mark.parametrize("param", PARAMS)
def test_in_place(param):
    x, dy = RNG.randn(2, 2, 3, 4, 5).astype("f4")
    layer, bottom, top = run_layer(text(param), [x])
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    again, blob, _ = make_layer(text(param), [x])
    again.forward(blob, blob)
    np.testing.assert_array_equal(blob[0].data, top[0].data)
    blob[0].diff[...] = dy
    again.backward(blob, [True], blob)
    np.testing.assert_array_equal(blob[0].diff, bottom[0].diff)


def test_five_axes_are_refused():
    with pytest.raises(Error, match=r"takes up to 4 axes .* has \[1, 2, 3, 4, 5\]"):
        make_layer(text(), [np.zeros((1, 2, 3, 4, 5))])


def test_threads_do_not_change_the_result():
    check_same_bits(text(), [RNG.randn(3, 5, 7, 11).astype("f4")])
