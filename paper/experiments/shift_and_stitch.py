"""Shift-and-stitch is filter dilation (section 3.2), bit for bit."""

import numpy as np

from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P
from paper import nets
from paper.experiment import Row, exact

TITLE = "Shift-and-stitch is filter dilation"
PLACE = "3.2"
MINUTES = 0.1
NEEDS = ()
DEPENDS = ("paper/nets.py",)
# (name, kernel): convolutions of stride 1 and poolings of stride 2, so the net subsamples by 4.
STACK = (("conv1", 3), ("pool1", 2), ("conv2", 3), ("pool2", 3), ("conv3", 2))
FACTOR = 4
CHANNELS = {"conv1": 5, "conv2": 6, "conv3": 4}
SIZE = (45, 52)


def run(context):
    """Compare both dense outputs, and count what each costs."""
    differing, places, stitched_macs, dilated_macs, coarse = compare(context.seed)
    return {"rows": [
        exact("Shifting the input by every (x, y) below f and interlacing the outputs equals dilating the filters and not "
              "subsampling", "3.2", f"conv-pool-conv-pool-conv with ReLU, f = {FACTOR}: the net on {FACTOR**2} shifted images, "
              "interlaced, beside stride 1 with dilations 1, 2, 4 (float32, direct sums)", "identical",
              f"{places - differing} of {places} values bit for bit", differing == 0,
              "So long as both add the products of a sum in the same order: a BLAS may not, for inputs of different sizes."),
        Row("Shift-and-stitch costs f^2 times the net, dilation no more than that", "3.2",
            "multiply-accumulates of the convolutions, counted", f"{FACTOR**2} times the coarse net",
            f"stitched {stitched_macs / coarse:.1f}, dilated {dilated_macs / coarse:.1f} times", "same shape",
            "Near the input little is computed twice by dilation: the first layer has no stride to undo."),
    ], "numbers": {"differing": differing, "places": places}}


def compare(seed):
    """Return (values that differ, values, multiply-accumulates stitched, dilated, of the coarse net once)."""
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((3, *SIZE), np.float32)
    dense, dilated_macs, weights = dilated(image, rng)
    stitched = np.full(dense.shape, np.nan, np.float32)
    macs = []
    for y in range(FACTOR):
        for x in range(FACTOR):
            place = stitched[:, y::FACTOR, x::FACTOR]
            # As many pixels as this shift's outputs need: a partial window would be an output that dilation does not have.
            high, wide = (field() + FACTOR * (count - 1) for count in place.shape[1:])
            out, count = coarse_net(image[:, y : y + high, x : x + wide], weights)
            macs.append(count)
            place[...] = out
    differing = int((stitched != dense).sum())  # a place that nobody filled is not a number and differs
    return differing, dense.size, sum(macs), dilated_macs, macs[0]


def field():
    """Return the receptive field of one output."""
    size = 1
    for name, kernel in STACK[::-1]:
        size = (size - 1) * (2 if name.startswith("pool") else 1) + kernel
    return size


def coarse_net(image, weights):
    """Return (the net's output on an image, its multiply-accumulates)."""
    n = NetSpec()
    top = nets.image(n, 1, *image.shape)
    for name, kernel in STACK:
        if name.startswith("conv"):
            top = L.Convolution(top, num_output=CHANNELS[name], kernel_size=kernel)
        else:
            top = L.Pooling(top, pool=P.Pooling.MAX, kernel_size=kernel, stride=2)
        n[name] = top
        if name in ("conv1", "conv2"):
            n[f"relu_{name}"] = top = L.ReLU(top, in_place=True)
    net = nets.make(n, dtype=np.float32, math="strict")
    for name, arrays in weights.items():
        for blob, array in zip(net.params[name], arrays):
            blob.data[...] = array
    net.blobs["data"].data[0] = image
    net.forward()
    macs = sum(arrays[0].size * int(np.prod(net.blobs[name].shape[2:])) for name, arrays in weights.items())
    return net.blobs[STACK[-1][0]].data[0].copy(), macs


def dilated(image, rng):
    """Return (dense output, multiply-accumulates, weights): stride 1 throughout, every filter dilated by what was undone."""
    values, dilation, macs, weights = image, 1, 0, {}
    for name, kernel in STACK:
        if name.startswith("pool"):
            values = dilated_pool(values, kernel, dilation)
            dilation *= 2
            continue
        n = NetSpec()
        nets.image(n, 1, *values.shape)
        n[name] = L.Convolution(n.data, num_output=CHANNELS[name], kernel_size=kernel, dilation=dilation)
        net = nets.make(n, dtype=np.float32, math="strict")
        for blob in net.params[name]:
            blob.data[...] = rng.standard_normal(blob.shape)
        weights[name] = [blob.data.copy() for blob in net.params[name]]
        net.blobs["data"].data[0] = values
        net.forward()
        values = net.blobs[name].data[0].copy()
        macs += weights[name][0].size * values[0].size
        if name in ("conv1", "conv2"):
            values = np.maximum(values, 0)
    return values, macs, weights


def dilated_pool(values, kernel, dilation):
    """Return the maxima over windows with holes, at stride 1: the largest of shifted views."""
    high, wide = (length - dilation * (kernel - 1) for length in values.shape[1:])
    return np.max([values[:, y * dilation : y * dilation + high, x * dilation : x * dilation + wide]
                   for y in range(kernel) for x in range(kernel)], axis=0)
