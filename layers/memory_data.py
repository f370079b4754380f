"""MemoryData: batches of arrays that a script hands over.

    layer { name: "data" type: "MemoryData" top: "data" top: "label"
            memory_data_param { batch_size: 4 channels: 3 height: 227 width: 227 } }

    net.set_input_arrays(data, labels)      # pycaffe: (n, channels, height, width) and (n) or (n, 1, 1, 1), float32
    net.layers[0].add_pictures(pictures, labels)      # (H, W, C) uint8, BGR, transformed as transform_param says

Tops: data (batch_size, channels, height, width) and labels (batch_size). n is a multiple of batch_size; each forward delivers
the next batch, after the last one the first again. Arrays are used as they are, and not copied: transform_param is not for
them (the log says so), only for pictures. A forward before anything was handed over is an `Error`. Source: Caffe's
MemoryDataLayer.
"""

import logging

import numpy as np

from data.transformer import Transformer
from layers.core.batches import Draws
from layers.core.layer import Layer
from netspec import caffe_pb2

log = logging.getLogger("deepjet")


class MemoryData(Layer):
    """Deliver arrays from memory."""

    exact_bottoms = 0
    exact_tops = 2
    prototxt = ""  # set by the net: the file beside which paths are looked for
    row = 0
    _data = _labels = None

    def check(self):
        """Refuse sizes that are missing."""
        param = self.param.memory_data_param
        for field in ("batch_size", "channels", "height", "width"):
            if getattr(param, field) < 1:
                self.fail(f"memory_data_param has no '{field}', or 0; all of batch_size, channels, height and width are needed")

    def top_shapes(self, bottom_shapes):
        """Return the shapes of the prototxt."""
        batch, *size = self._sizes()
        return [(batch, *size), (batch,)]

    def reset(self, data, labels):
        """Deliver these arrays from now on: (n, channels, height, width) and n labels, n a multiple of batch_size."""
        batch, *size = self._sizes()
        data, labels = np.asarray(data), np.asarray(labels)
        if data.ndim != 4 or list(data.shape[1:]) != size:
            self.fail(f"data has shape {list(data.shape)}; it must be (n, {', '.join(map(str, size))})")
        if labels.shape not in ((len(data),), (len(data), 1, 1, 1)):
            self.fail(f"labels have shape {list(labels.shape)} for {len(data)} pictures; it must be ({len(data)},) or "
                      f"({len(data)}, 1, 1, 1)")
        if not len(data) or len(data) % batch:
            self.fail(f"{len(data)} pictures are given; it must be a multiple of batch_size {batch}")
        for what, values in (("data", data), ("labels", labels)):
            if values.dtype.kind not in "fiub":
                self.fail(f"{what} are of type {values.dtype}; numbers are wanted")
        if self.param.HasField("transform_param"):
            log.warning("Layer %s: transform_param does not transform arrays that are handed over", self.name)
        self._data, self._labels, self.row = data, labels.reshape(-1), 0

    def add_pictures(self, pictures, labels):
        """Transform pictures, (H, W, C) uint8 with colours in the order BGR, and deliver them from now on."""
        batch, *size = self._sizes()
        if not len(pictures) or len(pictures) % batch or len(labels) != len(pictures):
            self.fail(f"{len(pictures)} pictures and {len(labels)} labels are given; as many of both are needed, a multiple of "
                      f"batch_size {batch}")
        transformer = Transformer(self.param.transform_param, self.phase == caffe_pb2.TRAIN, self.prototxt, self.dtype)
        made, draw = np.empty((len(pictures), *size), self.dtype), Draws(self.rng)
        for number, picture in enumerate(pictures):
            picture, where = np.asarray(picture), f"picture {number}"
            if picture.ndim != 3:
                self.fail(f"{where} has shape {list(picture.shape)}; it must be (height, width, channels)")
            picture = picture.transpose(2, 0, 1)
            shape = transformer.shape(picture.shape, where)
            if list(shape) != size:
                self.fail(f"{where} becomes {list(shape)}, but memory_data_param says {size}")
            transformer(picture, made[number], draw, where)
        self._data, self._labels, self.row = made, np.array(labels).reshape(-1), 0

    def forward(self, bottom, top):
        """Deliver the next batch."""
        if self._data is None:
            self.fail("has no data; call net.set_input_arrays(data, labels) before forward")
        batch = top[0].shape[0]
        for blob, values in zip(top, (self._data, self._labels)):
            blob.data[...] = values[self.row:self.row + batch]
        self.row = (self.row + batch) % len(self._data)

    def backward(self, top, propagate_down, bottom):
        """Do nothing: data has no gradient."""

    def state(self):
        """Return where the layer stands; the arrays are the script's."""
        return {"row": self.row, "rng": self.rng.state()}

    def set_state(self, state):
        """Go on there, if arrays were handed over that reach so far."""
        row = int(state["row"])
        if row and (self._data is None or row >= len(self._data) or row % self._sizes()[0]):
            self.fail(f"the data order to restore stands at picture {row} of "
                      f"{0 if self._data is None else len(self._data)}; hand over the same arrays before")
        self.row = row
        self.rng.set_state(state["rng"])

    def _sizes(self):
        param = self.param.memory_data_param
        return [param.batch_size, param.channels, param.height, param.width]
