"""What the tests of layers that read pictures share: a layer by itself, its batches, a resume."""

import json

import numpy as np
from google.protobuf import text_format

from layers.core import catalogue
from layers.core.blob import Blob
from layers.core.rng import Stream
from netspec import caffe_pb2


def make(folder, text, phase=caffe_pb2.TRAIN, seed=1, tops=("data", "label"), dtype=np.float32):
    """Set up a layer of the inside of ``layer { ... }``, as if its prototxt were in `folder`; return (layer, tops)."""
    param = text_format.Parse(text, caffe_pb2.LayerParameter(name="in", top=tops))
    layer = catalogue.find(param.type)(param, phase, Stream(seed), dtype)
    layer.prototxt = str(folder / "net.prototxt")
    top = [Blob((), name, dtype) for name in tops]
    layer.check_counts(0, len(top))
    layer.setup([], top)
    layer.reshape([], top)
    return layer, top


def batches(layer, top, count):
    """Return the next batches: (copies of the tops' data) each."""
    seen = []
    for _ in range(count):
        layer.reshape([], top)
        layer.forward([], top)
        seen.append(tuple(blob.data.copy() for blob in top))
    return seen


def same(one, other):
    """Whether two lists of batches have the same bits."""
    return len(one) == len(other) and all(np.array_equal(a, b) for x, y in zip(one, other) for a, b in zip(x, y, strict=True))


def hold_resume(folder, text, done, more=5):
    """A layer that takes another's state after `done` batches goes on as that one does."""
    layer, top = make(folder, text)
    batches(layer, top, done)
    state = json.loads(json.dumps(layer.state()))
    expected = batches(layer, top, more)
    other, top = make(folder, text, seed=99)
    batches(other, top, 2)
    other.set_state(state)
    assert same(batches(other, top, more), expected)
    layer.close(), other.close()
