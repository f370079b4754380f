"""Spatial arithmetic of windows in plain integers: kernels, strides, pads, output sizes.

One copy serves the layers, `coord_map` and `measure`. Sizes are Caffe's: convolution rounds down, pooling rounds up and
drops a last window that would start in the padding. Every function takes `fail`, which is called with the text of the
mistake and must raise (a layer passes its own `fail`, which adds the layer's name); without it `Error` is raised.
"""

from netspec.errors import Error


def refuse(text):
    """Raise `Error` with `text`: what every function here does when the caller gives no `fail` of its own."""
    raise Error(text)


def canonical_axis(axis, num_axes, where="blob", fail=None):
    """Return `axis` counted from the front: -1 is the last of `num_axes` axes. Out of range is refused."""
    if not -num_axes <= axis < num_axes:
        (fail or refuse)(f"axis {axis} is out of range for {where} with {num_axes} axes; "
                         f"give {-num_axes} to {num_axes - 1}")
    return axis + num_axes if axis < 0 else axis


def kernel_stride_pad_dilation(param, spatial_axes, fail=None):
    """Return the tuples (kernel, stride, pad, dilation) of a ConvolutionParameter, one entry for each spatial axis.

    `kernel_size`, `stride`, `pad` and `dilation` are repeated: one value for all axes or one for each; left out they
    are refused, 1, 0 and 1. `kernel_h`/`kernel_w`, `stride_h`/`_w`, `pad_h`/`_w` say the same of two axes, and may not
    be mixed with the repeated form (Caffe's BaseConvolutionLayer).
    """
    fail = fail or refuse
    return (_axes(param, "kernel_size", "kernel", None, 1, spatial_axes, fail),
            _axes(param, "stride", "stride", 1, 1, spatial_axes, fail),
            _axes(param, "pad", "pad", 0, 0, spatial_axes, fail),
            _axes(param, "dilation", None, 1, 1, spatial_axes, fail))


def _axes(param, repeated, prefix, default, smallest, spatial_axes, fail):
    values = tuple(int(value) for value in getattr(param, repeated))
    pair = [f"{prefix}_h", f"{prefix}_w"] if prefix else []
    if any(param.HasField(name) for name in pair):
        if spatial_axes != 2:
            fail(f"{pair[0]} and {pair[1]} are for 2 spatial axes, but the bottom has {spatial_axes}; "
                 f"give '{repeated}' once or {spatial_axes} times")
        if values:
            fail(f"both '{repeated}' ({_list(values)}) and '{pair[0]}'/'{pair[1]}' are given; keep one of these forms")
        missing = [name for name in pair if not param.HasField(name)]
        if missing and default != 0:
            fail(f"'{pair[0] if missing[0] == pair[1] else pair[1]}' is given without '{missing[0]}'; give both")
        values = tuple(int(getattr(param, name)) for name in pair)
    elif not values:
        if default is None:
            fail(f"'{repeated}' is missing; give it once, or once for each of the {spatial_axes} spatial axes")
        values = (default,) * spatial_axes
    elif len(values) == 1:
        values *= spatial_axes
    elif len(values) != spatial_axes:
        fail(f"'{repeated}' is given {len(values)} times ({_list(values)}), but the bottom has {spatial_axes} spatial "
             f"axes; give it once or {spatial_axes} times")
    if any(value < smallest for value in values):
        fail(f"'{repeated}' is {_list(values)}; every value must be at least {smallest}")
    return values


def pool_kernel_stride_pad(param, height, width, fail=None):
    """Return the pairs (kernel, stride, pad), height first, of a PoolingParameter over a `height` x `width` bottom.

    `global_pooling` takes the whole image as the kernel and allows no kernel, pad or stride. Padding must be smaller
    than the kernel. Refuses what Caffe's PoolingLayer refuses.
    """
    fail = fail or refuse
    sides = [param.HasField("kernel_h"), param.HasField("kernel_w")]
    if param.global_pooling:
        if param.HasField("kernel_size") or any(sides):
            fail("global_pooling takes the whole bottom as its kernel; remove kernel_size, kernel_h and kernel_w")
        kernel = (int(height), int(width))
    elif param.HasField("kernel_size"):
        if any(sides):
            fail("both 'kernel_size' and 'kernel_h'/'kernel_w' are given; keep one of the two forms")
        kernel = (int(param.kernel_size),) * 2
    elif all(sides):
        kernel = (int(param.kernel_h), int(param.kernel_w))
    else:
        fail("'kernel_size' is missing; give it, or both kernel_h and kernel_w, or global_pooling: true")
    stride = _pool_pair(param, "stride", fail)
    pad = _pool_pair(param, "pad", fail)
    for name, values, smallest in (("kernel", kernel, 1), ("stride", stride, 1)):
        if min(values) < smallest:
            fail(f"{name} is {_list(values)}; every value must be at least {smallest}")
    if param.global_pooling and (pad != (0, 0) or stride != (1, 1)):
        fail(f"global_pooling goes with pad 0 and stride 1, but pad is {_list(pad)} and stride {_list(stride)}")
    if pad != (0, 0):
        if param.pool == param.STOCHASTIC:
            fail(f"padding ({_list(pad)}) is for MAX and AVE pooling only; remove it or change 'pool'")
        if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
            fail(f"pad {_list(pad)} must be smaller than the kernel {_list(kernel)}")
    return kernel, stride, pad


def _pool_pair(param, name, fail):
    sides = [param.HasField(f"{name}_h"), param.HasField(f"{name}_w")]
    if not any(sides):
        return (int(getattr(param, name)),) * 2
    if param.HasField(name):
        fail(f"both '{name}' and '{name}_h'/'{name}_w' are given; keep one of the two forms")
    if not all(sides):
        fail(f"'{name}_h' and '{name}_w' go together; one of them is missing")
    return int(getattr(param, f"{name}_h")), int(getattr(param, f"{name}_w"))


def conv_out(size, kernel, stride=1, pad=0, dilation=1, fail=None):
    """Return the output size of a convolution along one axis: floor((size + 2 pad - extent) / stride) + 1.

    extent = dilation (kernel - 1) + 1. A kernel that does not fit once is refused.
    """
    extent = dilation * (kernel - 1) + 1
    if size < 1 or size + 2 * pad < extent:
        (fail or refuse)(f"a kernel of extent {extent} (kernel {kernel}, dilation {dilation}) does not fit into size "
                         f"{size} padded by {pad} on both sides ({size + 2 * pad}); enlarge the bottom or the pad")
    return (size + 2 * pad - extent) // stride + 1


def deconv_out(size, kernel, stride=1, pad=0, dilation=1, fail=None):
    """Return the output size of a deconvolution along one axis: stride (size - 1) + extent - 2 pad."""
    extent = dilation * (kernel - 1) + 1
    out = stride * (size - 1) + extent - 2 * pad
    if size < 1 or out < 1:
        (fail or refuse)(f"deconvolution of size {size} with kernel {kernel}, dilation {dilation}, stride {stride} and "
                         f"pad {pad} has output size {out}; enlarge the bottom or lower the pad")
    return out


def pool_out(size, kernel, stride=1, pad=0, ceil=True, padded=None, fail=None):
    """Return the output size of pooling along one axis: (size + 2 pad - kernel) / stride, rounded, plus 1.

    It is rounded up, or down without `ceil`. With padding the last window must start inside the image or
    the first padding, else it is dropped. Caffe drops it on both axes when either is padded: `padded` says so (None:
    look at `pad`).
    """
    room = size + 2 * pad - kernel
    out = (-(-room // stride) if ceil else room // stride) + 1
    if (pad if padded is None else padded) and (out - 1) * stride >= size + pad:
        out -= 1
    if size < 1 or out < 1:
        (fail or refuse)(f"pooling of size {size} with kernel {kernel}, stride {stride} and pad {pad} has output size "
                         f"{out}; enlarge the bottom or use a smaller kernel")
    return out


def _list(values):
    return " x ".join(str(value) for value in values)
