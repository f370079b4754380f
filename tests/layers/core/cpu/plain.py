"""Convolution and its gradients, one product for each tap, in float64: what fast kernels must equal."""

import numpy as np


def convolution(image, weight, bias=None, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    """Return the output (N, M, oh, ow) of image (N, C, H, W) and weights (M, C / group, kh, kw)."""
    padded = np.pad(image.astype(np.float64), [(0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2])
    out = 0
    for tap, seen in _taps(padded.shape, weight.shape, stride, dilation):
        out = out + _grouped("nchw,mc->nmhw", padded[seen], weight[(..., *tap)].astype(np.float64), group)
    return out if bias is None else out + bias[:, None, None]


def image_gradient(error, weight, shape, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    """Return the gradient for an image of `shape`; error (N, M, oh, ow)."""
    padded = np.zeros((*shape[:2], shape[2] + 2 * pad[0], shape[3] + 2 * pad[1]))
    for tap, seen in _taps(padded.shape, weight.shape, stride, dilation):
        channels = weight.shape[1]
        taken = weight[(..., *tap)].astype(np.float64)
        for g in range(group):
            rows = slice(g * weight.shape[0] // group, (g + 1) * weight.shape[0] // group)
            padded[:, g * channels : (g + 1) * channels][seen] += np.einsum("nmhw,mc->nchw", error[:, rows], taken[rows])
    return padded[:, :, pad[0] : pad[0] + shape[2], pad[1] : pad[1] + shape[3]]


def weight_gradient(image, error, shape, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    """Return the gradient of weights of `shape` (M, C / group, kh, kw)."""
    padded = np.pad(image.astype(np.float64), [(0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2])
    gradient = np.zeros(shape)
    for tap, seen in _taps(padded.shape, shape, stride, dilation):
        for g in range(group):
            rows = slice(g * shape[0] // group, (g + 1) * shape[0] // group)
            channels = slice(g * shape[1], (g + 1) * shape[1])
            gradient[(rows, slice(None), *tap)] = np.einsum("nmhw,nchw->mc", error[:, rows], padded[:, channels][seen])
    return gradient


def _taps(padded, weight, stride, dilation):
    count = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded[2:], weight[2:], stride, dilation)]
    for tap in np.ndindex(*weight[2:]):
        yield tap, (..., *(slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in zip(tap, dilation, stride, count)))


def _grouped(how, image, weight, group):
    channels, outputs = weight.shape[1], weight.shape[0] // group
    return np.concatenate([np.einsum(how, image[:, g * channels : (g + 1) * channels], weight[g * outputs : (g + 1) * outputs])
                           for g in range(group)], axis=1)
