"""InnerProduct against plain loops and central differences."""

import numpy as np
import pytest

from layers import inner_product
from layers.core.cpu import parallel
from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

rng = np.random.RandomState(7)


def text(num_output, axis=1, transpose=False, bias=True):
    return (f"type: 'InnerProduct' inner_product_param {{ num_output: {num_output} axis: {axis} "
            f"transpose: {str(transpose).lower()} bias_term: {str(bias).lower()} }}")


def drawn(shape, num_output, axis, transpose):
    inputs = int(np.prod(shape[axis:]))
    w = rng.randn(inputs, num_output) if transpose else rng.randn(num_output, inputs)
    return rng.randn(*shape), w, rng.randn(num_output)


CASES = [((3, 2, 4), 5, 1), ((2, 3, 4), 3, 2), ((2, 3, 4), 4, -1), ((1, 7), 1, 1), ((2, 3), 4, 0)]


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape, num_output, axis", CASES)
def test_forward_is_the_definition(shape, num_output, axis, transpose):
    x, w, b = drawn(shape, num_output, axis, transpose)
    layer, _, top = run_layer(text(num_output, axis, transpose), [x], params=[w, b])
    lead = shape[:axis]
    flat = x.reshape(int(np.prod(lead)), -1)
    wanted = [[sum(row[k] * (w[k, j] if transpose else w[j, k]) for k in range(row.size)) + b[j]
               for j in range(num_output)] for row in flat]
    assert top[0].shape == (*lead, num_output)
    np.testing.assert_allclose(top[0].data.reshape(-1, num_output), wanted, atol=1e-5)
    assert layer.macs([shape], [top[0].shape]) == x.size * num_output


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape, num_output, axis", CASES)
def test_backward_is_the_gradient(monkeypatch, shape, num_output, axis, transpose):
    x, w, b = drawn(shape, num_output, axis, transpose)
    check_gradient(text(num_output, axis, transpose), [x], params=[w, b])
    monkeypatch.setattr(inner_product, "STEP", 2)
    check_gradient(text(num_output, axis, transpose, bias=False), [x], params=[w])


@pytest.mark.parametrize("transpose", [False, True])
def test_same_bits_for_any_number_of_threads(transpose):
    x, w, b = drawn((3, 700), 1100, 1, transpose)
    results = []
    before = parallel.threads()
    try:
        for threads in (1, 2, 3):
            parallel.set_threads(threads)
            layer, bottom, top = run_layer(text(1100, 1, transpose), [x], params=[w, b])
            top[0].diff[...] = top[0].data
            layer.backward(top, [True], bottom)
            results.append([top[0].data, bottom[0].diff, layer.blobs[0].diff])
    finally:
        parallel.set_threads(before)
    for other in results[1:]:
        for one, more in zip(results[0], other):
            np.testing.assert_array_equal(one, more)
    y = results[0][0].astype(np.float64)
    np.testing.assert_allclose(results[0][2], x.T @ y if transpose else y.T @ x, rtol=1e-4, atol=1e-2)


def test_gradients_add_up_and_unwanted_ones_are_skipped():
    layer, bottom, top = run_layer(text(2), [np.ones((2, 3))])
    top[0].diff[...] = 1
    bottom[0].diff[...] = 9
    layer.backward(top, [False], bottom)
    layer.backward(top, [False], bottom)
    assert (layer.blobs[0].diff == 4).all() and (layer.blobs[1].diff == 4).all()
    layer.param_propagate_down = [False, False]
    layer.backward(top, [False], bottom)
    assert (layer.blobs[0].diff == 4).all() and (bottom[0].diff == 9).all()


def test_refuses():
    with pytest.raises(Error, match="num_output is missing"):
        make_layer("type: 'InnerProduct'", [np.zeros((2, 3))])
    with pytest.raises(Error, match="axis 2 is out of range"):
        make_layer(text(2, 2), [np.zeros((2, 3))])
    layer, bottom, top = make_layer(text(2), [np.zeros((2, 3))])
    bottom[0].reshape(2, 4)
    with pytest.raises(Error, match="needs weights .2, 4., but they are .2, 3."):
        layer.reshape(bottom, top)
