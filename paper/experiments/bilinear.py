"""Bilinear interpolation by deconvolution (section 3.3): what it does to constants and ramps, and where its pixels lie."""

import numpy as np

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.bilinear import bilinear_kernel
from netspec.spec import NetSpec
from netspec.spec import layers as L
from paper.experiment import difference, exact

TITLE = "Upsampling by deconvolution is bilinear interpolation"
PLACE = "3.3"
MINUTES = 0.1
NEEDS = ()
KERNELS = ((4, 2), (16, 8), (32, 16), (64, 32), (63, 32))  # kernel and stride of every upsampling in the published nets
FACTORS = (2, 4, 8, 16, 32)


def run(context):
    """Upsample constants and ramps in float64 with each kernel."""
    constant = max(error_of_constant(*pair) for pair in KERNELS)
    ramp = max(error_of_ramp(*pair) for pair in KERNELS)
    formula = max(error_of_formula(factor) for factor in FACTORS)
    named = "Deconvolution with kernel/stride " + ", ".join(f"{kernel}/{stride}" for kernel, stride in KERNELS)
    return {"rows": [
        exact(
            "Upsampling is convolution with a stride of 1/f: each output is a mean of its nearest inputs (weights sum to 1)",
            "3.3", f"ones through {named}, float64, inside the border", "exact", difference(constant), constant < 1e-12),
        exact(
            "A linear map of the relative positions alone: linear functions are kept", "3.3",
            f"planes through {named}, float64, inside the border", "exact", difference(ramp), ramp < 1e-12,
            "Output o lies at input (o - (kernel - 1) / 2) / stride: the kernel is centred; the crop behind it does the rest."),
        exact(
            "The formula for y_ij from the four nearest inputs", "3.3",
            "the formula written out beside Deconvolution with kernel 2f - 1, noise, f = 2 to 32, float64", "equal",
            difference(formula), formula < 1e-12,
            "The formula puts the inputs on pixels 0, f, 2f, ...; that is the kernel 2f - 1. The published nets' kernels of 2f "
            "interpolate too, but their inputs lie between two pixels."),
    ], "numbers": {"constant": constant, "ramp": ramp, "formula": formula}}


def upsample(values, kernel, stride):
    """Return an (H, W) array upsampled by Deconvolution with a bilinear kernel, in float64."""
    n = NetSpec()
    n.data = L.Input(input_param={"shape": {"dim": [1, 1, *values.shape]}})
    n.up = L.Deconvolution(n.data, convolution_param=dict(num_output=1, kernel_size=kernel, stride=stride, bias_term=False))
    net = Net(n.to_proto(), caffe_pb2.TEST, dtype=np.float64, device="cpu")
    net.params["up"][0].data[...] = bilinear_kernel(kernel)
    net.blobs["data"].data[0, 0] = values
    net.forward()
    return net.blobs["up"].data[0, 0]


def inside(kernel, stride, size):
    """Return the slice of outputs from the first to the last input's place, where both neighbours exist."""
    centre = (kernel - 1) / 2
    return slice(int(np.ceil(centre)), int(np.floor(centre + (size - 1) * stride)) + 1)


def error_of_constant(kernel, stride):
    """Return how far the interpolation of ones is from 1."""
    part = inside(kernel, stride, 5)
    return float(abs(upsample(np.ones((5, 5)), kernel, stride)[part, part] - 1).max())


def error_of_ramp(kernel, stride):
    """Return how far the interpolation of a plane is from that plane, of its height."""
    rows, columns = np.mgrid[:5, :7].astype(float)
    out = upsample(3 * rows - 2 * columns, kernel, stride)
    rows, columns = ((np.arange(size) - (kernel - 1) / 2) / stride for size in out.shape)
    want = 3 * rows[:, None] - 2 * columns
    return float(abs(out - want)[inside(kernel, stride, 5), inside(kernel, stride, 7)].max() / 24)


def error_of_formula(factor):
    """Return how far Deconvolution with kernel 2f - 1 is from the paper's formula, on noise."""
    values = np.random.default_rng(0).standard_normal((5, 6))
    padded = np.pad(values, ((0, 1), (0, 1)))
    high, wide = 4 * factor + 1, 5 * factor + 1
    rows, columns = np.arange(high), np.arange(wide)
    want = np.zeros((high, wide))
    for alpha in (0, 1):
        for beta in (0, 1):
            weight = np.outer(abs(1 - alpha - rows / factor % 1), abs(1 - beta - columns / factor % 1))
            want += weight * padded[np.ix_(rows // factor + alpha, columns // factor + beta)]
    got = upsample(values, 2 * factor - 1, factor)[factor - 1 :, factor - 1 :][:high, :wide]
    return float(abs(got - want).max())
