"""Window arithmetic against counting windows one by one."""

import pytest

from netspec import caffe_pb2, geometry
from netspec.errors import Error


def conv(**fields):
    return caffe_pb2.ConvolutionParameter(**fields)


def pool(**fields):
    return caffe_pb2.PoolingParameter(**fields)


def count_windows(size, kernel, stride, pad, dilation):
    """Windows whose every tap lies within the padded image."""
    extent = dilation * (kernel - 1) + 1
    return sum(1 for start in range(0, size + 2 * pad, stride) if start + extent <= size + 2 * pad)


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("pad", [0, 1, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolution_counts_whole_windows_and_deconvolution_undoes_it(kernel, stride, pad, dilation):
    for size in range(1, 30):
        windows = count_windows(size, kernel, stride, pad, dilation)
        if windows == 0:
            with pytest.raises(Error, match=f"does not fit into size {size} padded by {pad}"):
                geometry.conv_out(size, kernel, stride, pad, dilation)
            continue
        out = geometry.conv_out(size, kernel, stride, pad, dilation)
        assert out == windows
        # Deconvolution gives the smallest size that this convolution takes to `out`.
        smallest = stride * (out - 1) + dilation * (kernel - 1) + 1 - 2 * pad
        if smallest >= 1:
            assert geometry.deconv_out(out, kernel, stride, pad, dilation) == smallest <= size
        else:
            with pytest.raises(Error, match="has output size"):
                geometry.deconv_out(out, kernel, stride, pad, dilation)


@pytest.mark.parametrize("kernel, stride", [(2, 2), (3, 2), (3, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("pad", [0, 1])
def test_pool_rounds_up_and_starts_inside(kernel, stride, pad):
    for size in range(kernel, 40):
        out = geometry.pool_out(size, kernel, stride, pad)
        last = (out - 1) * stride
        # The windows reach the end of the padded image, unless one more would start outside image and first padding.
        assert last + kernel >= size + 2 * pad or (pad and last + stride >= size + pad)
        if pad:
            assert last < size + pad
        floor = geometry.pool_out(size, kernel, stride, pad, ceil=False)
        assert out - 1 <= floor <= out
        assert (floor - 1) * stride + kernel <= size + 2 * pad


def test_pool_drops_the_last_window_on_both_axes_when_one_is_padded():
    # 2 windows of kernel 1 and stride 5 over size 3: the second starts at 5, outside.
    assert geometry.pool_out(3, 1, 5) == 2
    assert geometry.pool_out(3, 1, 5, padded=True) == 1


def test_pool_larger_than_its_bottom_is_one_window():
    assert geometry.pool_out(2, 3, 2) == 1
    with pytest.raises(Error, match="pooling of size 1 with kernel 3, stride 2 and pad 0 has output size 0"):
        geometry.pool_out(1, 3, 2)


def test_defaults_and_repeated_values():
    assert geometry.kernel_stride_pad_dilation(conv(kernel_size=[3]), 2) == ((3, 3), (1, 1), (0, 0), (1, 1))
    assert geometry.kernel_stride_pad_dilation(
        conv(kernel_size=[3, 4, 5], stride=[2], pad=[1, 0, 2], dilation=[2]), 3
    ) == ((3, 4, 5), (2, 2, 2), (1, 0, 2), (2, 2, 2))
    assert geometry.kernel_stride_pad_dilation(conv(kernel_size=[3]), 0)[0] == ()


def test_sided_forms():
    said = conv(kernel_h=3, kernel_w=5, stride_h=1, stride_w=2, pad_h=4)
    assert geometry.kernel_stride_pad_dilation(said, 2) == ((3, 5), (1, 2), (4, 0), (1, 1))


@pytest.mark.parametrize("fields, axes, says", [
    ({}, 2, "'kernel_size' is missing"),
    ({"kernel_size": [3, 3, 3]}, 2, "'kernel_size' is given 3 times"),
    ({"kernel_size": [0]}, 2, "'kernel_size' is 0 x 0; every value must be at least 1"),
    ({"kernel_size": [3], "stride": [0]}, 2, "'stride' is 0 x 0"),
    ({"kernel_size": [3], "dilation": [0]}, 2, "'dilation' is 0 x 0"),
    ({"kernel_size": [3], "kernel_h": 3, "kernel_w": 3}, 2, "both 'kernel_size'"),
    ({"kernel_h": 3}, 2, "'kernel_h' is given without 'kernel_w'"),
    ({"kernel_w": 3}, 2, "'kernel_w' is given without 'kernel_h'"),
    ({"kernel_h": 3, "kernel_w": 3}, 3, "for 2 spatial axes, but the bottom has 3"),
    ({"kernel_size": [3], "pad": [1], "pad_h": 1}, 2, "both 'pad'"),
])
def test_what_caffe_refuses_is_refused(fields, axes, says):
    with pytest.raises(Error, match=says):
        geometry.kernel_stride_pad_dilation(conv(**fields), axes)


def test_refusal_goes_to_the_callers_fail():
    said = []

    def fail(text):
        said.append(text)
        raise Error("layer 'conv1': " + text)

    with pytest.raises(Error, match="^layer 'conv1': "):
        geometry.kernel_stride_pad_dilation(conv(), 2, fail)
    with pytest.raises(Error, match="^layer 'conv1': "):
        geometry.conv_out(1, 3, fail=fail)
    assert len(said) == 2


def test_pooling_fields():
    assert geometry.pool_kernel_stride_pad(pool(kernel_size=3, stride=2, pad=1), 9, 9) == ((3, 3), (2, 2), (1, 1))
    sided = pool(kernel_h=2, kernel_w=3, pad_h=1, pad_w=2)
    assert geometry.pool_kernel_stride_pad(sided, 9, 9) == ((2, 3), (1, 1), (1, 2))
    assert geometry.pool_kernel_stride_pad(pool(global_pooling=True), 7, 9) == ((7, 9), (1, 1), (0, 0))


@pytest.mark.parametrize("fields, says", [
    ({}, "'kernel_size' is missing"),
    ({"kernel_h": 2}, "'kernel_size' is missing"),
    ({"kernel_size": 2, "kernel_h": 2, "kernel_w": 2}, "both 'kernel_size'"),
    ({"kernel_size": 0}, "kernel is 0 x 0"),
    ({"kernel_size": 2, "stride": 0}, "stride is 0 x 0"),
    ({"kernel_size": 2, "stride_h": 2}, "go together"),
    ({"kernel_size": 2, "stride": 2, "stride_h": 2, "stride_w": 2}, "both 'stride'"),
    ({"kernel_size": 2, "pad": 2}, "pad 2 x 2 must be smaller than the kernel 2 x 2"),
    ({"kernel_size": 2, "pad": 1, "pool": caffe_pb2.PoolingParameter.STOCHASTIC}, "MAX and AVE"),
    ({"global_pooling": True, "kernel_size": 2}, "global_pooling takes the whole bottom"),
    ({"global_pooling": True, "stride": 2}, "global_pooling goes with pad 0 and stride 1"),
])
def test_pooling_refusals(fields, says):
    with pytest.raises(Error, match=says):
        geometry.pool_kernel_stride_pad(pool(**fields), 5, 5)


def test_canonical_axis():
    assert [geometry.canonical_axis(axis, 4) for axis in (0, 3, -1, -4)] == [0, 3, 3, 0]
    with pytest.raises(Error, match="axis 4 is out of range for 'pool5' with 4 axes; give -4 to 3"):
        geometry.canonical_axis(4, 4, "'pool5'")
