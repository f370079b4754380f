"""What the tests share: where Caffe's recorded numbers and real files are, and a gradient check."""

import os
import pathlib

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core import catalogue
from layers.core.blob import Blob
from layers.core.rng import Stream
from netspec import caffe_pb2

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"


def shared(path):
    """Return ``../shared/path`` beside the project, or skip the test with the reason."""
    base = pathlib.Path(os.environ.get("DEEPJET_SHARED", ROOT.parent / "shared"))
    found = base / path
    if not found.exists():
        pytest.skip(f"needs {path} of the shared folder, which is not beside the project")
    return found


def make_layer(text, bottoms, phase=caffe_pb2.TRAIN, dtype=np.float32, params=None, seed=1):
    """Set up one layer from the inside of its ``layer { ... }`` text; return (layer, bottom blobs, top blobs).

    `bottoms` are arrays (copied in); `params` arrays for the layer's parameters. Tops are named in the text, or made
    as the class asks (`exact_tops`, `min_tops`, one otherwise). Nothing is run yet.
    """
    param = text_format.Parse(text, caffe_pb2.LayerParameter())
    if not param.name:
        param.name = "it"
    layer = catalogue.find(param.type)(param, phase, Stream(seed), dtype)
    bottom = [Blob(np.shape(b), f"bottom_{i}", dtype) for i, b in enumerate(bottoms)]
    for blob, values in zip(bottom, bottoms):
        blob.data[...] = values
    count = len(param.top) or (len(bottoms) if layer.equal_bottom_top else layer.exact_tops or layer.min_tops or 1)
    top = [Blob((), f"top_{i}", dtype) for i in range(count)]
    layer.check_counts(len(bottom), len(top))
    layer.setup(bottom, top)
    for blob, values in zip(layer.blobs, params or []):
        blob.data[...] = values
    layer.reshape(bottom, top)
    return layer, bottom, top


def run_layer(text, bottoms, phase=caffe_pb2.TRAIN, dtype=np.float32, params=None, seed=1):
    """As `make_layer`, and run forward."""
    layer, bottom, top = make_layer(text, bottoms, phase, dtype, params, seed)
    layer.forward(bottom, top)
    return layer, bottom, top


def check_gradient(text, bottoms, wrt=None, step=1e-5, tolerance=1e-6, phase=caffe_pb2.TRAIN, params=None, seed=1):
    """Hold a layer's backward against central differences in float64, every element of every bottom and parameter.

    The objective is sum(top * fixed random weights) (for a loss layer its loss times 1). `wrt` names the bottoms to
    differentiate (all by default). The difference is relative to max(|a|, |b|, 1). Keep bottoms away from kinks.
    """
    layer, bottom, top = make_layer(text, bottoms, phase, np.float64, params, seed)
    wrt = range(len(bottom)) if wrt is None else wrt
    layer.forward(bottom, top)
    weights = [np.random.RandomState(7 + i).uniform(0.5, 1.5, t.shape) for i, t in enumerate(top)]
    state = layer.state()

    def objective():
        if state is not None:
            layer.set_state(state)
        layer.forward(bottom, top)
        return sum(float((t.data * w).sum()) for t, w in zip(top, weights))

    if state is not None:
        layer.set_state(state)
    layer.forward(bottom, top)
    for t, w in zip(top, weights):
        t.diff[...] = w
    for blob in layer.blobs:
        blob.diff[...] = 0
    for blob in bottom:
        blob.diff[...] = 12345.0  # backward must overwrite, not add
    layer.backward(top, [i in wrt for i in range(len(bottom))], bottom)
    checked = [(f"bottom {i}", bottom[i].data, bottom[i].diff.copy()) for i in wrt]
    checked += [(f"parameter {i}", b.data, b.diff.copy()) for i, b in enumerate(layer.blobs)]
    for what, data, analytic in checked:
        flat = data.reshape(-1)
        numeric = np.empty(flat.size)
        for i in range(flat.size):
            kept = flat[i]
            flat[i] = kept + step
            above = objective()
            flat[i] = kept - step
            numeric[i] = (above - objective()) / (2 * step)
            flat[i] = kept
        scale = np.maximum(np.maximum(abs(numeric), abs(analytic.ravel())), 1)
        worst = (abs(numeric - analytic.ravel()) / scale).max() if flat.size else 0
        assert worst < tolerance, f"{what}: gradient off by {worst:.3g}"
