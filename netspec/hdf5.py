"""HDF5 as Caffe uses it: arrays in groups, one-line errors, and arrays that are read when asked for."""

import contextlib
import os
import re

import h5py
import numpy as np

from netspec import blobs, files, wire
from netspec.errors import Error, PathError

DENSEST = 1032  # bytes that one stored byte can stand for at most (deflate's limit): more is a bomb or a corrupt size


def is_hdf5(path):
    """Whether the file begins as HDF5 does, whatever its name; a missing file is a `PathError`."""
    try:
        with open(path, "rb") as file:
            return file.read(len(wire.HDF5_MAGIC)) == wire.HDF5_MAGIC
    except FileNotFoundError:
        raise PathError(f"file '{path}' not found; tried: {os.path.abspath(path)}") from None
    except OSError as error:
        raise Error(f"cannot read '{path}': {error.strerror or error}") from None


def wants_hdf5(path):
    """Whether a file to be written is to be HDF5: by its suffix, .h5 or .hdf5."""
    return os.fspath(path).lower().endswith((".h5", ".hdf5"))


@contextlib.contextmanager
def errors_of(path):
    """Turn what h5py raises on a damaged file (many kinds) into an `Error` that names the file."""
    try:
        yield
    except Error:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError,
            NotImplementedError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise Error(f"cannot read '{path}' (HDF5, damaged?): {text}") from None


def open_file(path):
    """Return the h5py.File of `path`, for reading."""
    with errors_of(path):
        return h5py.File(path, "r")


@contextlib.contextmanager
def write_file(path):
    """Yield an h5py.File that becomes `path` when all went well, and nothing otherwise (see `files.atomic`)."""
    with files.atomic(path) as file:
        try:
            with h5py.File(file.name, "w") as out:
                yield out
                out.flush()
        except Error:
            raise
        except (OSError, RuntimeError, ValueError, TypeError) as error:  # a full disk is any of these to h5py
            number = re.search(r"errno = (\d+)|Errno (\d+)", str(error))
            why = os.strerror(int(number[1] or number[2])) if number else " ".join(str(error).split())
            raise Error(f"cannot write '{path}': {why}") from None


class Values:
    """The numbers of a dataset, for `blobs.ParamBlob`: read straight into an array."""

    def __init__(self, path, dataset):
        self._path, self._dataset = path, dataset
        self.count = int(dataset.size or 0)

    def read_into(self, flat):
        """Fill the 1-d float32 array `flat`; HDF5 converts other numbers piece by piece."""
        if self.count:
            with errors_of(self._path):
                self._dataset.read_direct(flat.reshape(self._dataset.shape))


def blob(path, dataset, where, diff=None):
    """Return the `blobs.ParamBlob` of a dataset, and of that of its diff, if any."""
    data = _values(path, dataset, where)
    return blobs.ParamBlob(data, diff and _values(path, diff, f"{where} (diff)"), dataset.shape, where)


def _values(path, dataset, where):
    # Refuses what is no array of numbers within this file.
    with errors_of(path):
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise Error(f"{where}: expected an array, found {type(dataset).__name__}")
        if dataset.dtype.kind not in "fiu":
            raise Error(f"{where}: expected numbers, found {dataset.dtype}")
        if dataset.external or dataset.is_virtual:
            raise Error(f"{where}: its numbers lie in other files")
        size, stored = int(dataset.size) * dataset.dtype.itemsize, dataset.id.get_storage_size()
        if size > DENSEST * stored:
            raise Error(f"{where}: shape {blobs.show(dataset.shape)} wants {size} bytes, the file holds {stored}")
        return Values(path, dataset)


def numbered(group):
    """Return the members of a group that are named "0", "1", ... as a dict int -> member, in that order."""
    numbers = sorted((int(name), name) for name in group if name.isascii() and name.isdecimal())
    # By hard links only: a soft or external one could lead out of the file.
    return {number: group[name] for number, name in numbers
            if isinstance(group.get(name, getlink=True), h5py.HardLink)}


def write_text(group, name, text):
    """Write a C string, as HDF5's "lite" functions do for Caffe: scalar, fixed length, a zero byte at the end."""
    data = os.fsencode(text) + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(data))
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5d.create(group.id, name.encode(), kind, space).write(space, space, np.array(data, f"S{len(data)}"), kind)
