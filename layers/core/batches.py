"""Layers that bring batches of pictures from outside: what Data, ImageData and WindowData have in common.

A subclass returns a `Source`, which knows how to go on from any state; so batches are read ahead in a thread, and an exact
resume goes on with the batch behind the one delivered last.
"""

import weakref

import numpy as np

from data.order import Place
from data.read_ahead import ReadAhead
from layers.core.layer import Layer
from layers.core.rng import Stream, bits_at
from netspec import caffe_pb2
from netspec.errors import Error


class Source:
    """Where batches come from. It runs in the reading thread and must not hold the layer.

    Subclasses set `batch` and define `begin` and `items`. A state is a JSON-able dict that holds the random numbers' under
    "rng" and whatever the subclass adds.
    """

    batch = 1

    def begin(self, rng):
        """Return the state before the first item; what is drawn for it comes from `rng`, a `Draws`."""
        raise NotImplementedError

    def first_shape(self):
        """Return the shape of the first item, transformed; read from the source, nothing is drawn."""
        raise NotImplementedError

    def check(self, state):
        """Refuse a state that this source cannot go on from."""

    def items(self, state, rng):
        """Yield for ever ``(name, array, label, fill, state after it)`` from `state` on.

        ``fill(out)`` writes the transformed picture of shape `array`, drawing from `rng`.
        """
        raise NotImplementedError

    def batches(self, state, dtype):
        """Yield (pictures, labels, names, state after them) from `state` on."""
        rng = Draws(Stream(**state["rng"]))
        items = self.items(state, rng)
        while True:
            pictures, labels, names, after = None, np.empty(self.batch, dtype), [], None
            for place in range(self.batch):
                name, shape, label, fill, after = next(items)
                if pictures is None:
                    pictures = np.empty((self.batch, *shape), dtype)
                elif pictures.shape[1:] != tuple(shape):
                    raise Error(f"{name} becomes {_times(shape)} (channels x height x width), but {names[0]}, of the same batch, "
                                f"{_times(pictures.shape[1:])}; they must be equal: give crop_size or a new size, or batch_size "
                                "1")
                fill(pictures[place])
                labels[place] = label
                names.append(name)
            yield pictures, labels, names, {**after, "rng": rng.stream.state()}


class Draws:
    """Random integers of a `Stream`."""

    def __init__(self, stream):
        self.stream = stream

    def __call__(self, count):
        """Return an integer from 0 to `count` - 1."""
        return int(bits_at(*self.stream.take(1))) % count


class _Onwards:
    # The order that `ReadAhead` asks for: the batches themselves know what comes next.
    place = Place(index=None)

    def advance(self):
        """Do nothing."""


class Batches(Layer):
    """A layer with the tops pictures (batch, channels, height, width) and, if it is wanted, labels (batch)."""

    exact_bottoms = 0
    min_tops, max_tops = 1, 2
    prototxt = ""  # set by the net: the file beside which paths are looked for
    source = None
    current = None

    def open(self):
        """Return the layer's `Source`."""
        raise NotImplementedError

    def top_shapes(self, bottom_shapes):
        """Return the shapes of the tops for the first pictures (which is read)."""
        source = self.source or self.open()
        return [(source.batch, *source.first_shape()), (source.batch,)][:max(1, len(self.param.top))]

    def setup(self, bottom, top):
        """Open the source; nothing but its first picture is read before the net runs."""
        super().setup(bottom, top)
        self.source = self.open()
        rng = Draws(Stream(**self.rng.child(0).state()))
        self._state = {**self.source.begin(rng), "rng": rng.stream.state()}  # behind what was delivered last
        self._batches = self._ahead = self._end = self._next = None
        self._is_set_up = False

    def reshape(self, bottom, top):
        """Give the tops the shapes of the next batch (of the first picture, before the net runs)."""
        if self._is_set_up:
            pictures, labels, _, _ = self._fetch()
            shapes = [pictures.shape, labels.shape]
        else:
            shapes, self._is_set_up = self.top_shapes([]), True
        for blob, shape in zip(top, shapes):
            blob.reshape(shape)

    def forward(self, bottom, top):
        """Deliver the next batch."""
        pictures, labels, names, after = self._fetch()
        for blob, values in zip(top, (pictures, labels)):
            blob.data[...] = values
        self._next, self._state = None, after
        self.current = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        depth = self.param.data_param.prefetch
        if self._ahead is None and depth:
            self._batches = None
            batches = self.source.batches(self._state, self.dtype)
            self._ahead = ReadAhead(lambda _: next(batches), _Onwards(), depth)
            self._end = weakref.finalize(self, self._ahead.close)

    def backward(self, top, propagate_down, bottom):
        """Do nothing: data has no gradient."""

    def state(self):
        """Return where the layer stands behind the batch delivered last; reading ahead does not move it."""
        return self._state

    def set_state(self, state):
        """Go on where `state` was taken."""
        if not isinstance(state, dict) or set(state) != set(self._state):
            self.fail(f"the data order to restore is not of such a layer: {str(state)[:200]}")
        Stream(**state["rng"])
        self.source.check(state)
        self.close()
        self._state = state

    def close(self):
        """End the reading thread; the layer goes on working and starts another when it is used again."""
        self._batches = self._next = None
        if self._ahead is not None:
            self._ahead, end, self._end = None, self._end, None
            end()

    @property
    def is_training(self):
        """Whether the layer draws crops at random."""
        return self.phase == caffe_pb2.TRAIN

    def _fetch(self):
        # The batch that comes next: kept from `reshape` to `forward`.
        if self._next is None and self._ahead is not None:
            try:
                taken = self._ahead.take()
            except BaseException:
                self.close()
                raise
            if taken is None:
                self.close()  # in a forked process there is no such thread
            else:
                self._next = taken[1]
        if self._next is None:
            if self._batches is None:
                self._batches = self.source.batches(self._state, self.dtype)
            try:
                self._next = next(self._batches)
            except BaseException:
                self._batches = None
                raise
        return self._next


def _times(shape):
    return "x".join(map(str, shape))
