"""Fully connected layers as convolutions (section 3.1, Fig. 2): one output equals the classifier, a grid equals its crops."""

import numpy as np

from models import parts
from netspec.spec import NetSpec
from netspec.spec import layers as L
from paper import nets
from paper.experiment import Row, difference, exact

TITLE = "Fully connected layers are convolutions"
PLACE = "3.1"
MINUTES = 0.2
NEEDS = ()
DEPENDS = ("paper/nets.py",)
CROP, STRIDE = 227, 32
GRID = (2, 3)


def run(context):
    """Compare AlexNet and its convolutional form; then grids with crops."""
    one = classifier_against_fcn(context.seed)
    context.progress(0.4)
    without, with_padding = (grid_against_crops(context.seed, padded) for padded in (False, True))
    grid = f"{GRID[0]}x{GRID[1]}"
    return {"rows": [
        exact("Fully connected layers are convolutions whose kernels cover their whole input", "3.1",
              "AlexNet (CaffeNet; fc6 and fc7 with 4096 outputs, drawn weights) on 227x227 with InnerProduct layers, and with "
              "the same numbers in convolutions of 6x6 and 1x1, float32", "equivalent", difference(one), one < 2e-6,
              "Both add the same products in another order; the difference is of the largest score."),
        exact("The output map of a larger image is the original net's answer on patches of it", "3.1, Fig. 2",
              f"AlexNet's layers without padding: a {grid} grid beside the net on each of its patches, float64", "equivalent",
              difference(without), without < 1e-12),
        Row("The same for AlexNet as it is", "3.1", f"AlexNet with its padding of 2, 1, 1, 1: a {grid} grid beside its crops of "
            "227x227, float64, drawn weights", "equivalent", f"off by {100 * with_padding:.0f} % of the largest score",
            "not reproduced", "The classifier sees zeros around its crop where the larger image goes on: equal in form, not in "
            "value. The paper's sentence holds for layers without padding."),
    ], "numbers": {"classifier": one, "grid_without_padding": without, "grid_with_padding": with_padding}}


def alexnet(height, width, connected=False, padded=True, widths=(96, 256, 384, 384, 256, 4096), batch=1):
    """Return CaffeNet up to ten scores, with InnerProduct layers (`connected`) or convolutions; narrower `widths` if wanted."""
    n = NetSpec()
    top = nets.image(n, batch, 3, height, width)
    pads, groups = ((0, 2, 1, 1, 1) if padded else (0,) * 5), (1, 2, 1, 2, 2)
    kernels, strides = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1)
    for number in range(5):
        top = parts.conv_relu(n, f"conv{number + 1}", f"relu{number + 1}", top, widths[number], kernels[number], strides[number],
                              pads[number], param=[], group=groups[number])
        if number in (0, 1, 4):
            top = parts.max_pool(n, f"pool{number + 1}", top, 3, 2)
        if number in (0, 1):
            n[f"norm{number + 1}"] = top = L.LRN(top, local_size=5, alpha=1e-4, beta=0.75)
    for name, outputs, kernel in (("fc6", widths[5], 6 if padded else 2), ("fc7", widths[5], 1), ("fc8", 10, 1)):
        if connected:
            n[name] = top = L.InnerProduct(top, num_output=outputs)
        else:
            n[name] = top = L.Convolution(top, num_output=outputs, kernel_size=kernel)
        if name != "fc8":
            n[f"relu_{name}"] = top = L.ReLU(top, in_place=True)
    return n.to_proto()


def classifier_against_fcn(seed, widths=(96, 256, 384, 384, 256, 4096)):
    """Return the difference of the ten scores, of their largest."""
    image = 50 * np.random.default_rng(seed).standard_normal((1, 3, CROP, CROP))
    connected = nets.make(alexnet(CROP, CROP, True, widths=widths), seed, dtype=np.float32)
    convolved = nets.make(alexnet(CROP, CROP, widths=widths), seed, dtype=np.float32)
    scores = []
    for net in (connected, convolved):
        for name, blobs in net.params.items():
            for target, blob in zip(blobs, connected.params[name]):
                target.data[...] = blob.data.reshape(target.shape)
        net.blobs["data"].data[...] = image
        net.forward()
        scores.append(net.blobs["fc8"].data.reshape(-1).astype(np.float64))
    return nets.worst(*scores[::-1])


def grid_against_crops(seed, padded, widths=(16, 32, 32, 32, 32, 64)):
    """Return the difference of a grid of scores and the scores of its crops, of the largest."""
    high, wide = (CROP + STRIDE * (count - 1) for count in GRID)
    image = 50 * np.random.default_rng(seed).standard_normal((3, high, wide))
    whole = nets.make(alexnet(high, wide, padded=padded, widths=widths), seed)
    whole.blobs["data"].data[0] = image
    whole.forward()
    crops = nets.make(alexnet(CROP, CROP, padded=padded, widths=widths, batch=GRID[0] * GRID[1]), seed)
    for number, (y, x) in enumerate(np.ndindex(*GRID)):
        crops.blobs["data"].data[number] = image[:, y * STRIDE : y * STRIDE + CROP, x * STRIDE : x * STRIDE + CROP]
    crops.forward()
    grid = whole.blobs["fc8"].data[0].reshape(10, -1).T
    return nets.worst(grid, crops.blobs["fc8"].data.reshape(-1, 10))
