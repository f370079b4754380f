"""Arrays in files: BlobProto's rules about shapes, and arrays that are read when asked for.

`ParamBlob` is one blob of a caffemodel, solver state, mean or HDF5 file (or of memory). Its numbers stay in the file
until `data` or `read_into` wants them.
"""

import math

import numpy as np

from netspec import caffe_pb2, wire
from netspec.errors import Error

PLAN = {5: wire.FLOAT, 6: wire.FLOAT, 8: wire.DOUBLE, 9: wire.DOUBLE}  # BlobProto's fields of numbers
MOST_AXES = 32  # Caffe's kMaxBlobAxes
MOST_VALUES = 2**31 - 1  # Caffe counts in int
_LEGACY = ("num", "channels", "height", "width")


class ParamBlob:
    """One blob in a file or in memory: its shape, its data and perhaps its diff.

    Parameters
    ----------
    data, diff : array_like, or an object with ``count`` and ``read_into(flat)``; diff may be None
    shape : tuple of int
        As the file says; the array's own by default.
    where : str
        For the errors: ``"'x.caffemodel': layer 'conv1', blob 0"``.
    """

    def __init__(self, data, diff=None, shape=None, where="blob"):
        self._where = where
        self._data, self._diff = _values(data), None if diff is None else _values(diff)
        self._shape = np.shape(self._data) if shape is None else shape
        self._checked = False

    def __repr__(self):
        return f"<ParamBlob {self._where} {self._shape}>"

    @property
    def shape(self):
        """Shape, a tuple of int; `Error` when it is impossible or is not that of the numbers in the file.

        Checked here and not when the file is opened, so that blobs of layers that nobody asks for do no harm (Caffe
        too looks only at the layers it needs). Nothing is allocated before this check.
        """
        if not self._checked:
            self._check()
        return self._shape

    @property
    def count(self):
        """Number of values."""
        return math.prod(self.shape)

    @property
    def has_diff(self):
        """Whether the file holds the diff too."""
        return self._diff is not None

    @property
    def data(self):
        """The values, a float32 array that stays in this object once it was read."""
        self._data = self.read()
        return self._data

    @property
    def diff(self):
        """The gradients, a float32 array that stays in this object once it was read; None when not in the file."""
        self._diff = self.read_diff()
        return self._diff

    def read(self):
        """Return the values as a float32 array without keeping it (the kept one, when `data` was asked before)."""
        return self._read(self._data)

    def read_diff(self):
        """Return the gradients as `read` does; None when the file has none."""
        return None if self._diff is None else self._read(self._diff)

    def read_into(self, array):
        """Read the values into `array`, whose shape must agree (`shapes_agree`); directly when it is float32."""
        self._read_into(self._data, array)

    def read_diff_into(self, array):
        """Read the gradients into `array` as `read_into` does; `Error` when the file has none."""
        if self._diff is None:
            raise Error(f"{self._where}: holds no diff")
        self._read_into(self._diff, array)

    def _read(self, values):
        if isinstance(values, np.ndarray):
            return values
        array = np.empty(self.shape, np.float32)
        values.read_into(array.reshape(-1))
        return array

    def _read_into(self, values, array):
        if not shapes_agree(self.shape, array.shape):
            raise Error(f"{self._where}: shape {show(self.shape)} does not fit {show(array.shape)}")
        if isinstance(values, np.ndarray):
            array[...] = values.reshape(array.shape)
        elif array.dtype == np.float32 and array.flags.c_contiguous:
            values.read_into(array.reshape(-1))
        else:
            array[...] = self._read(values).reshape(array.shape)

    def _check(self):
        shape = self._shape
        if len(shape) > MOST_AXES:
            raise Error(f"{self._where}: {len(shape)} axes; at most {MOST_AXES} are possible")
        if any(size < 0 for size in shape):
            raise Error(f"{self._where}: shape {show(shape)} has a negative size")
        if math.prod(max(size, 1) for size in shape) > MOST_VALUES:
            raise Error(f"{self._where}: shape {show(shape)} has more than {MOST_VALUES} values")
        for name, values in (("data", self._data), ("diff", self._diff)):
            count = 0 if values is None else values.size if isinstance(values, np.ndarray) else values.count
            if values is not None and count != math.prod(shape):
                raise Error(f"{self._where}: shape {show(shape)} has {math.prod(shape)} values, but its {name} in the "
                            f"file has {count}")
        self._checked = True


def shapes_agree(source, target):
    """Whether a blob of shape `source` (of a file) may be copied into one of shape `target`.

    Equal, or equal once `target` got leading 1s up to 4 axes: files of 2014 know 4-D blobs only and keep a bias of N
    values as 1x1x1xN. (Caffe allows it for blobs in the fields num, channels, height, width; here a 4-D `shape` may
    too: it can only mean the same.)
    """
    source, target = tuple(source), tuple(target)
    return source == target or (len(source) == 4 and len(target) < 4
                                and source == (1,) * (4 - len(target)) + target)


def show(shape):
    """Return a shape as text: ``64x3x3x3 (1728)``, in the way Caffe's log shows it; ``(1)`` without axes."""
    return f"{'x'.join(map(str, shape))} ({math.prod(shape)})".strip()


def as_blob(item, where):
    """Return a `ParamBlob` of what callers hand in: one, a pair (data, diff or None), or an array."""
    if isinstance(item, ParamBlob):
        return item
    return ParamBlob(*item, where=where) if isinstance(item, (tuple, list)) else ParamBlob(item, where=where)


def from_proto(proto, found, where):
    """Return the `ParamBlob` of a BlobProto without its numbers (`proto`) and of where `wire.scan` found them."""
    if any(proto.HasField(name) for name in _LEGACY):  # they win over `shape`, as in Caffe
        shape = tuple(getattr(proto, name) for name in _LEGACY)
    else:
        shape = tuple(proto.shape.dim)  # none at all: no axes, one value
    # Doubles win, as in Caffe; a field that is there without values is as good as none.
    data = [found[number] for number in (8, 5) if number in found and found[number].count]
    diff = [found[number] for number in (9, 6) if number in found and found[number].count]
    return ParamBlob(data[0] if data else wire.Floats(None, wire.FLOAT), diff[0] if diff else None, shape, where)


def proto_size(blob, diffs):
    """Return the number of bytes of `blob` as a BlobProto."""
    length = 4 * blob.count
    values = len(wire.header(5, length)) + length if length else 0
    return values * (2 if diffs and blob.has_diff else 1) + len(_shape_bytes(blob.shape))


def write_proto(file, blob, diffs):
    """Write `blob` as a BlobProto to the open `file`, in the order of the field numbers as Caffe does."""
    if blob.count:
        file.write(wire.header(5, 4 * blob.count))
        write_floats(file, blob.read())
        if diffs and blob.has_diff:
            file.write(wire.header(6, 4 * blob.count))
            write_floats(file, blob.read_diff())
    file.write(_shape_bytes(blob.shape))


def write_floats(file, array):
    """Write the values of `array` as little-endian floats, without a copy where they are that already."""
    file.write(memoryview(np.ascontiguousarray(array, wire.FLOAT).reshape(-1)).cast("B"))


def _shape_bytes(shape):
    proto = caffe_pb2.BlobProto()
    proto.shape.dim.extend(shape)
    return proto.SerializeToString() if shape else b""


def _values(values):
    if hasattr(values, "read_into"):
        return values
    with np.errstate(all="ignore"):
        return np.asarray(values, np.float32)
