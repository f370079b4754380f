import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer


def text(param):
    return f'type: "Eltwise" eltwise_param {{ {param} }}'


def draw(count, *shape):
    rng = np.random.RandomState(3)
    return [rng.uniform(0.5, 2, shape).astype("f4") * rng.choice([-1, 1], shape).astype("f4") for _ in range(count)]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_sum_product_and_maximum(count):
    x = draw(count, 2, 3, 5, 7)
    np.testing.assert_allclose(run_layer('type: "Eltwise"', x)[2][0].data, sum(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run_layer(text("operation: PROD"), x)[2][0].data, np.prod(x, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(run_layer(text("operation: MAX"), x)[2][0].data, np.max(x, axis=0))


def test_sum_takes_coefficients():
    x = draw(3, 2, 7)
    _, _, top = run_layer(text("coeff: 1 coeff: -0.5 coeff: 2"), x)
    np.testing.assert_allclose(top[0].data, x[0] - 0.5 * x[1] + 2 * x[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("param", ["", "coeff: 1 coeff: -0.5 coeff: 2", "operation: PROD",
                                   "operation: PROD stable_prod_grad: false", "operation: MAX"])
def test_gradient(param):
    check_gradient(text(param), draw(3, 2, 3, 5))


def test_product_gradient_survives_a_zero():
    x = draw(2, 1, 5)
    x[0][0, 2] = 0
    layer, bottom, top = run_layer(text("operation: PROD"), x)
    top[0].diff[...] = 1
    layer.backward(top, [True, True], bottom)
    np.testing.assert_array_equal(bottom[0].diff, x[1])
    layer, bottom, top = run_layer(text("operation: PROD stable_prod_grad: false"), x)
    top[0].diff[...] = 1
    layer.backward(top, [True, True], bottom)
    assert np.isnan(bottom[0].diff[0, 2])


def test_maximum_of_ties_goes_to_the_second_bottom_and_no_further():
    one = np.ones((1, 4), "f4")
    layer, bottom, top = run_layer(text("operation: MAX"), [one, one, one])
    top[0].diff[...] = 5
    layer.backward(top, [True] * 3, bottom)
    assert [blob.diff[0, 0] for blob in bottom] == [0, 5, 0]


def test_only_wanted_gradients_are_written():
    layer, bottom, top = run_layer('type: "Eltwise"', draw(2, 1, 3))
    layer.backward(top, [False, True], bottom)
    assert not bottom[0].has_diff
    assert bottom[1].has_diff


def test_sum_may_write_over_its_first_bottom():
    x = draw(3, 2, 5)
    layer, bottom, _ = make_layer(text("coeff: 2 coeff: 3 coeff: 4"), x)
    layer.forward(bottom, bottom[:1])
    np.testing.assert_allclose(bottom[0].data, 2 * x[0] + 3 * x[1] + 4 * x[2], rtol=1e-5, atol=1e-5)
    bottom[0].diff[...] = 1
    layer.backward(bottom[:1], [True] * 3, bottom)
    assert [blob.diff[0, 0] for blob in bottom] == [2, 3, 4]


@pytest.mark.parametrize("param, shapes, message", [
    ("", [(2, 3), (2, 4)], r"'b' \[2, 4\] and 'a' \[2, 3\] must have the same shape"),
    ("coeff: 1", [(2, 3), (2, 3)], "coeff is given 1 times for 2 bottoms"),
    ("operation: MAX coeff: 1 coeff: 1", [(2, 3), (2, 3)], "coeff goes with operation SUM only"),
    ("", [(2, 3)], "takes at least 2 bottom blobs, 1 given"),
])
def test_what_does_not_fit_is_refused(param, shapes, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param) + 'bottom: "a" bottom: "b"', [np.zeros(shape, "f4") for shape in shapes])


@pytest.mark.parametrize("param", ["coeff: 1 coeff: -0.5 coeff: 2", "operation: PROD", "operation: MAX"])
def test_threads_do_not_change_the_result(param):
    check_same_bits(text(param), draw(3, 3, 5, 7))
