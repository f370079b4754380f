"""First values of parameters: what a run does to a net before its first iteration, beside loading weights by name.

`solvers.run` calls ``start(net, weights)`` of the `net.py` beside the solver file after the weights are loaded and logs
the lines it returns. `net` has ``net.params[layer][number].data``; `weights` are the files that were given.
"""

import contextlib

import numpy as np

from netspec.bilinear import fill_upsampling
from netspec.errors import Error
from netspec.weights import read_weights


def interp(net, names=None):
    """Fill the kernels of upsampling layers with bilinear interpolation, each channel from itself; returns log lines.

    `names` are the layers, by default all with "up" in the name, as in the published solve.py. Kernels are
    (channels, channels, k, k), of which the diagonal is filled and the rest set to zero, or (channels, 1, k, k). Kernels
    that are learned (their lr_mult is not 0) and that the weights have brought stay as they are.
    """
    if names is None:
        names = [name for name in net.params if "up" in name]
    lines = []
    for name in names:
        data = net.params[name][0].data
        if _learned(net, name) and data.any():
            lines.append(f"kept as learned: {name}")
            continue
        fill_upsampling(data, name)
        lines.append(f"bilinear interpolation: {name} {data.shape[2]}x{data.shape[3]}, {data.shape[0]} channels")
    return lines


def _learned(net, name):
    layer = getattr(net, "layer_dict", {}).get(name)
    return layer is not None and (not layer.param.param or layer.param.param[0].lr_mult != 0)


def transplant(net, weights, tail=""):
    """Copy the layers of `weights` to the layers of `net` whose names are theirs plus `tail`; returns log lines.

    `weights` is a file or what `read_weights` returned. Layers that the net does not have are left out; a parameter of
    another shape but the same count is reshaped (a fully connected layer to its convolution), of another count refused.
    """
    copied = []
    with _opened(weights) as source:
        for name, blobs in source.layers.items():
            if name + tail not in net.params:
                continue
            for number, (target, blob) in enumerate(zip(net.params[name + tail], blobs)):
                if np.size(target.data) != np.size(blob.data):
                    raise Error(f"layer '{name + tail}' parameter {number} has shape {tuple(target.data.shape)}, the "
                                f"weights' '{name}' {tuple(blob.data.shape)}; choose weights of the same size")
                target.data[...] = np.reshape(blob.data, target.data.shape)
            copied.append(name + tail)
    return [f"transplanted {len(copied)} layers: {', '.join(copied)}"] if copied else []


def widen_first_layer(net, weights, name, source="conv1_1"):
    """Fill the first layer `name` from the three-channel layer `source` of `weights`: further channels get its mean.

    So a depth channel starts as grey does (the published early fusion). Returns log lines.
    """
    with _opened(weights) as opened:
        if source not in opened.layers:
            return []
        colour, *rest = (blob.data for blob in opened.layers[source])
        target = net.params[name][0].data
        colour = np.reshape(colour, (target.shape[0], -1, *target.shape[2:]))
        known = colour.shape[1]
        target[:, :known] = colour
        target[:, known:] = colour.mean(axis=1, keepdims=True)
        for blob, data in zip(net.params[name][1:], rest):
            blob.data[...] = np.reshape(data, blob.data.shape)
    return [f"{name} from {source}: channels beyond {known} are the mean of the first {known}"]


def _opened(weights):
    """Return a context that gives Weights; a file that is opened here is closed again."""
    return contextlib.nullcontext(weights) if hasattr(weights, "layers") else read_weights(weights)
