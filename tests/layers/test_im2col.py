import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
CASES = [
    ((2, 3, 6, 7), "kernel_size: 3 pad: 1 stride: 2", 1, (3, 3), (2, 2), (1, 1), (1, 1)),
    ((2, 3, 6, 7), "kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 2 pad_w: 0", 1, (2, 3), (1, 2), (2, 0), (1, 1)),
    ((1, 2, 9, 8), "kernel_size: 3 dilation: 2 force_nd_im2col: true", 1, (3, 3), (1, 1), (0, 0), (2, 2)),
    ((2, 3, 11), "kernel_size: 4 stride: 3 pad: 2", 1, (4,), (3,), (2,), (1,)),
    ((2, 4, 3, 5), "axis: 2 kernel_size: 2", 2, (2,), (1,), (0,), (1,)),
    ((3, 5, 4), "axis: 0 kernel_size: 2 pad: 1 stride: 3", 0, (2, 2), (3, 3), (1, 1), (1, 1)),
    ((1, 2, 3, 4, 5), "axis: -4 kernel_size: 2 kernel_size: 1 kernel_size: 3 pad: 1", 1, (2, 1, 3), (1,) * 3, (1,) * 3, (1,) * 3),
    ((1, 2, 2, 3, 2, 3), "kernel_size: 2 pad: 1 stride: 2", 1, (2,) * 4, (2,) * 4, (1,) * 4, (1,) * 4),
]


def text(param):
    return f'type: "Im2col" bottom: "x" convolution_param {{ {param} }}'


def by_loops(x, axis, kernel, stride, pad, dilation):
    """Return (y, what each pixel shows): y[...] = x[places], -1 for padding."""
    images = x.reshape(-1, *x.shape[axis:])
    spatial = images.shape[2:]
    output = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(spatial, kernel, stride, pad, dilation)]
    places = np.full((len(images), images.shape[1], int(np.prod(kernel)), *output), -1)
    flat = np.arange(x.size).reshape(images.shape)
    for n, c in np.ndindex(*images.shape[:2]):
        for number, tap in enumerate(np.ndindex(*kernel)):
            for out in np.ndindex(*output):
                at = [o * s - p + t * d for o, s, p, t, d in zip(out, stride, pad, tap, dilation)]
                if all(0 <= a < size for a, size in zip(at, spatial)):
                    places[(n, c, number, *out)] = flat[(n, c, *at)]
    shape = (*x.shape[:axis], x.shape[axis] * int(np.prod(kernel)), *output)
    return np.where(places < 0, 0, x.reshape(-1)[places]).reshape(shape), places


@pytest.mark.parametrize("shape, param, axis, kernel, stride, pad, dilation", CASES)
def test_patches_become_channels(shape, param, axis, kernel, stride, pad, dilation):
    x = RNG.randn(*shape).astype("f4")
    y, places = by_loops(x, axis, kernel, stride, pad, dilation)
    layer, bottom, top = run_layer(text(param), [x])
    np.testing.assert_array_equal(top[0].data, y)
    dy = RNG.randn(*y.shape).astype("f4")
    top[0].diff[...] = dy
    layer.backward(top, [True], bottom)
    dx = np.zeros(x.size)
    seen = places.reshape(-1) >= 0
    np.add.at(dx, places.reshape(-1)[seen], dy.reshape(-1)[seen])
    np.testing.assert_allclose(bottom[0].diff.reshape(-1), dx, atol=1e-5)


def test_gradient():
    check_gradient(text("kernel_size: 3 pad: 1 stride: 2"), [RNG.randn(2, 2, 4, 5)])


def test_a_bottom_of_another_size_is_followed():
    layer, bottom, top = run_layer(text("kernel_size: 2"), [RNG.randn(2, 3, 4, 5)])
    bottom[0].reshape(1, 2, 3, 3)
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    np.testing.assert_array_equal(top[0].data, by_loops(bottom[0].data, 1, (2, 2), (1, 1), (0, 0), (1, 1))[0])


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match=r"needs at least one axis behind the channels, axis 1, but 'x' has \[2, 3\]"):
        make_layer(text("kernel_size: 1"), [np.zeros((2, 3))])
    with pytest.raises(Error, match="a kernel of extent 5 .* does not fit into size 4"):
        make_layer(text("kernel_size: 5"), [np.zeros((1, 1, 4, 6))])
    with pytest.raises(Error, match="'kernel_size' is missing"):
        make_layer(text(""), [np.zeros((1, 1, 4, 6))])


def test_threads_do_not_change_the_result():
    check_same_bits(text("kernel_size: 3 pad: 1"), [RNG.randn(5, 3, 6, 7).astype("f4")])
