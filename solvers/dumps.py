"""The blobs that an engine computed, in a file: reading them, writing them, and how far ours are from them."""

import collections
import os
import zipfile

import h5py
import numpy as np

from netspec import files, hdf5
from netspec.errors import Error, PathError, UnknownName

Difference = collections.namedtuple("Difference", "blob shape absolute relative largest note layers departs")
Difference.__doc__ = """One blob's difference: largest absolute one, the same relative to the largest absolute reference
value (`largest`), a note, the layers that write the blob, and whether it departs beyond the tolerance."""


class Dump:
    """The blobs that an engine wrote to a file; arrays are read when they are compared.

    `names` lists the blobs that it knows something of.
    """

    def __init__(self, path):
        self.path = path
        if not os.path.isfile(path):
            raise PathError(f"dump '{path}' is not a file")
        self._arrays, self._get = (self._open_hdf5 if hdf5.is_hdf5(path) else self._open_npz)(path)
        self._sort()

    @classmethod
    def of(cls, arrays):
        """Return the dump that holds `arrays` (name -> array)."""
        dump = cls.__new__(cls)
        dump.path, dump._arrays, dump._get = "memory", arrays, arrays.__getitem__
        dump._sort()
        return dump

    def _open_npz(self, path):
        try:
            archive = np.load(path, allow_pickle=False)
            names = list(archive.files)
        except Exception as error:  # zipfile raises NotImplementedError, struct.error and more on damaged files
            if isinstance(error, MemoryError) or getattr(error, "errno", None):
                raise
            raise Error(f"'{path}' is neither an .npz nor an HDF5 file, or it is damaged") from None
        return names, archive.__getitem__

    def _open_hdf5(self, path):
        file = hdf5.open_file(path)
        with hdf5.errors_of(path):
            found = {}
            file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)

        def get(name):
            dataset = found[name]
            stored = dataset.id.get_storage_size()
            if dataset.size and dataset.size * dataset.dtype.itemsize > hdf5.DENSEST * stored:
                raise Error(f"shape {list(dataset.shape)}, but {stored} bytes are stored")
            return dataset[()]

        return found, get

    def _sort(self):
        # {blob: {"full" | "index" | "sample" | "moments": key}}
        self._known = collections.OrderedDict()
        for key in self._arrays:
            kind, slash, rest = key.partition("/")
            if not slash or kind not in ("full", "index", "sample", "moments"):
                kind, rest = "full", key
            if rest.startswith(("blob_diff/", "param_diff/")):
                continue
            self._known.setdefault(rest.removeprefix("blob/"), {})[kind] = key
        self.names = [name for name, kinds in self._known.items() if kinds.keys() != {"moments"}]

    def array(self, name):
        """Return the whole blob `name`, or None when the file does not hold it whole."""
        key = self._known.get(name, {}).get("full")
        return None if key is None else self._numbers(key)

    def _numbers(self, key):
        try:
            array = np.asarray(self._get(key))
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise Error(f"cannot read '{key}' of '{self.path}': {' '.join(str(error).split())}") from None
        if array.dtype.kind not in "fiub":
            raise Error(f"'{key}' of '{self.path}' holds {array.dtype}, not numbers")
        return array

    def difference(self, name, ours, layers, tolerance):
        """Return the `Difference` of the blob `name`, which is `ours` here and was written by `layers`."""
        keys = self._known[name]
        if "full" in keys:
            theirs = self._numbers(keys["full"])
            if ours.shape != theirs.shape and ours.size != theirs.size:
                note = f"shape {list(theirs.shape)} in the dump"
                return Difference(name, ours.shape, float("inf"), float("inf"), _largest(theirs), note, layers, True)
            absolute, largest = deviation(ours, theirs), _largest(theirs[np.isfinite(theirs)])
            note = "" if ours.shape == theirs.shape else f"shape {list(theirs.shape)} in the dump"
        else:
            if "index" not in keys or "sample" not in keys:
                raise Error(f"'{self.path}': blob '{name}' has only {' and '.join(sorted(keys))}; a sampled blob needs "
                            "index and sample")
            index, theirs = self._numbers(keys["index"]).reshape(-1), self._numbers(keys["sample"]).reshape(-1)
            if index.size != theirs.size or index.dtype.kind not in "ui":
                raise Error(f"'{self.path}': blob '{name}' has {index.size} indices ({index.dtype}) for {theirs.size} "
                            "values")
            if index.size and (index.min() < 0 or index.max() >= ours.size):
                note = f"smaller than the dump's: it has index {index.max()}"
                return Difference(name, ours.shape, float("inf"), float("inf"), _largest(theirs), note, layers, True)
            absolute = deviation(ours.reshape(-1)[index], theirs)
            largest, note = _largest(theirs[np.isfinite(theirs)]), f"{index.size} of {ours.size} values"
            if "moments" in keys:
                # What the sample does not see, the mean and the spread do.
                values = ours.astype(np.float64)
                moments = self._numbers(keys["moments"]).reshape(-1)[:2]
                absolute = max(absolute, deviation([values.mean(), values.std()][:moments.size], moments))
                note += ", mean and spread"
        # A reference of zeros has no scale: its difference is taken as it is.
        relative = absolute / largest if largest else absolute
        departs = not relative <= tolerance or note.startswith("shape")
        return Difference(name, ours.shape, absolute, relative, largest, note, layers, departs)


def _largest(values):
    return float(np.abs(values).max()) if values.size else 0.0


def deviation(ours, theirs):
    """Return the largest |ours - theirs|; infinities and NaNs are equal in the same places, else infinitely apart."""
    ours, theirs = np.asarray(ours, np.float64).reshape(-1), np.asarray(theirs, np.float64).reshape(-1)
    odd = ~(np.isfinite(ours) & np.isfinite(theirs))
    if not odd.any():
        return _largest(ours - theirs)
    if not np.array_equal(ours[odd], theirs[odd], equal_nan=True):
        return float("inf")
    return _largest(ours[~odd] - theirs[~odd])


def write_dump(path, arrays):
    """Write {name: array} to an .npz file, or HDF5 when `path` ends in .h5; atomic."""
    check_ending(path)
    if hdf5.wants_hdf5(path):
        with hdf5.write_file(path) as file:
            for name, array in arrays.items():
                if any(other.startswith(name + "/") for other in arrays):
                    raise Error(f"HDF5 cannot hold '{name}' as an array and as a folder of others; write an .npz file")
                file.create_dataset(name, data=array)
    else:
        with files.atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            # By hand, since numpy.savez takes names as keywords and blobs may be called "file".
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.ascontiguousarray(array).reshape(np.shape(array)),
                                              allow_pickle=False)


def check_ending(path):
    """Refuse a name that says neither .npz nor HDF5."""
    if not path.lower().endswith(".npz") and not hdf5.wants_hdf5(path):
        raise UnknownName(f"--dump writes .npz or .h5 files, not '{path}'")
