"""Fillers: how parameters (and DummyData's blobs) get their first values.

Caffe's seven types. `n` below is fan_in = count / num, fan_out = count / channels or their mean (`variance_norm`),
where num and channels are the blob's first two axis lengths:

=================  ====================================================================================
constant           value
uniform            uniform in [min, max)
gaussian           normal with mean and std; with sparse >= 0 each value is kept with probability sparse / num
positive_unitball  uniform in [0, 1), then every row (axis 0) scaled so that it sums to 1
xavier             uniform in [-sqrt(3 / n), sqrt(3 / n))
msra               normal with std sqrt(2 / n)
bilinear           (1 - |x / f - c|) (1 - |y / f - c|), f = ceil(k / 2), c = (k - 1) / (2 f), for k x k kernels
=================  ====================================================================================
"""

import math

import numpy as np

from netspec.errors import nearest

PIECE = 1 << 20  # values drawn at once: the draws are float64, and VGG's fc6 has 100 million


def fill(blob, param, generator, fail):
    """Fill `blob` as the FillerParameter says.

    Parameters
    ----------
    blob : Blob
        Its `data` is overwritten.
    param : FillerParameter
        Type and numbers.
    generator : numpy.random.Generator
        The source of random values; the same one gives the same values (rounded) in float32 and float64.
    fail : callable
        Called with a message when the filler cannot be; must raise (a layer's `fail`).
    """
    make = FILLERS.get(param.type)
    if make is None:
        fail(f"unknown filler type '{param.type}'{nearest(param.type, FILLERS)}; known: {', '.join(FILLERS)}")
    if param.sparse != -1 and param.type != "gaussian":
        fail(f"the filler '{param.type}' knows no sparsity (sparse: {param.sparse}); remove it or use 'gaussian'")
    if blob.count:
        make(blob.data, param, generator, fail)


def constant(data, param, generator, fail):
    """Write the one value."""
    data[...] = param.value


def uniform(data, param, generator, fail):
    """Write values spread evenly over [min, max)."""
    if not (math.isfinite(param.min) and math.isfinite(param.max)):
        fail(f"the filler 'uniform' has min {param.min:g} and max {param.max:g}; both must be finite")
    if not param.min <= param.max:
        fail(f"the filler 'uniform' has min {param.min:g} above max {param.max:g}; swap them")
    _draw(data, lambda count: generator.uniform(param.min, param.max, count))


def gaussian(data, param, generator, fail):
    """Write normal values; with `sparse` about that many inputs of a unit keep theirs and the rest are 0."""
    if not param.std >= 0:
        fail(f"the filler 'gaussian' has std {param.std:g}; it must not be negative")
    if param.sparse < -1 or (param.sparse >= 0 and data.ndim == 0):
        fail(f"the filler 'gaussian' has sparse {param.sparse} for a blob of {data.ndim} axes; "
             "it must not be negative, and needs at least one axis")
    _draw(data, lambda count: generator.normal(param.mean, param.std, count))
    if param.sparse >= 0:
        keep = param.sparse / data.shape[0]
        flat = data.reshape(-1)
        for first in range(0, flat.size, PIECE):
            part = flat[first : first + PIECE]
            part[generator.random(part.size) >= keep] = 0


def positive_unitball(data, param, generator, fail):
    """Write non-negative values whose rows along axis 0 sum to 1."""
    values = generator.random(data.shape).reshape(data.shape[0] if data.ndim else 1, -1)
    data[...] = (values / values.sum(axis=1, keepdims=True)).reshape(data.shape)


def xavier(data, param, generator, fail):
    """Write uniform values of variance 1 / n (Glorot and Bengio 2010)."""
    scale = math.sqrt(3 / _fan(data, param))
    _draw(data, lambda count: generator.uniform(-scale, scale, count))


def msra(data, param, generator, fail):
    """Write normal values of variance 2 / n, for nets of ReLUs (He et al. 2015)."""
    std = math.sqrt(2 / _fan(data, param))
    _draw(data, lambda count: generator.normal(0, std, count))


def bilinear(data, param, generator, fail):
    """Write kernels with which a Deconvolution of stride f interpolates bilinearly."""
    if data.ndim != 4 or data.shape[2] != data.shape[3]:
        fail(f"the filler 'bilinear' needs a blob of 4 axes with a square kernel, not {list(data.shape)}")
    half = math.ceil(data.shape[3] / 2)
    ramp = 1 - abs(np.arange(data.shape[3]) / half - (data.shape[3] - 1) / (2 * half))
    data[...] = ramp[:, None] * ramp[None, :]


def _draw(data, draw):
    flat = data.reshape(-1)
    for first in range(0, flat.size, PIECE):
        part = flat[first : first + PIECE]
        part[...] = draw(part.size)


def _fan(data, param):
    fan_in = data.size // (data.shape[0] if data.ndim else 1)
    fan_out = data.size // data.shape[1] if data.ndim > 1 else data.size
    if param.variance_norm == param.FAN_OUT:
        return fan_out
    return (fan_in + fan_out) / 2 if param.variance_norm == param.AVERAGE else fan_in


FILLERS = {make.__name__: make for make in (constant, uniform, gaussian, positive_unitball, xavier, msra, bilinear)}
