"""PyTorch's weight files -> arrays, without PyTorch: ``.safetensors``, and ``.pth`` without running what it holds.

A ``.pth`` is a pickle, which may name any function of any module to be called. Here it may name the few that rebuild tensors, and
those are ours; a file that asks for anything else is refused. Both forms are read: zip archives (torch >= 1.6) and the older row
of pickles. Arrays come from the file when they are asked for, float16 and bfloat16 as float32.

Formats: the safetensors specification (a length, a JSON header, raw little-endian data) and torch.serialization's files.
"""

import collections
import collections.abc
import io
import json
import math
import os
import pickle
import struct
import zipfile
from typing import NamedTuple

import numpy as np

from netspec import files
from netspec.errors import Error

DTYPES = {  # safetensors' names
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?"}
STORAGES = {  # torch's classes of typed storages
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "bfloat16", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?"}
MAGIC = 0x1950A86A20F9469CFC6C  # of the row of pickles
LARGEST_HEADER = 100_000_000  # bytes, as the safetensors library
WRAPPERS = ("state_dict", "model", "model_state_dict")  # what training scripts put a state into


class State(collections.abc.Mapping):
    """{name: array} of a file; an array is read when it is asked for.

    Attributes
    ----------
    shapes : dict
        Name -> shape, without reading anything.
    """

    def __init__(self, path, shapes, read):
        self.path, self.shapes, self._read = path, shapes, read

    def __getitem__(self, name):
        return self._read(name)

    def __iter__(self):
        return iter(self.shapes)

    def __len__(self):
        return len(self.shapes)


def read_state(path):
    """Return the `State` of a ``.safetensors`` or ``.pth`` file, told apart by what it holds.

    Raises `Error` for a file that is truncated or neither, and for a pickle that asks for more than tensors.
    """
    path = os.fspath(path)
    data = _mapped(path)
    head = bytes(data[:16])
    try:
        if head[:4] == b"PK\x03\x04":
            return _zip(path)
        if head[:2] == b"\x80\x02" or head[:1] == b"\x80":
            return _pickles(path, data)
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, AttributeError, TypeError, zipfile.BadZipFile, struct.error,
            UnicodeDecodeError, ValueError) as error:
        if isinstance(error, Error):
            raise
        raise Error(f"'{path}' is no state of PyTorch, or is damaged: {type(error).__name__}: {error}") from None
    return _safetensors(path, data)


def _mapped(path):
    if not os.path.isfile(path) or not os.path.getsize(path):
        files.read_bytes(path)  # says what is wrong
        raise Error(f"'{path}' is empty")
    return np.memmap(path, np.uint8, "r")


def _array(data, dtype, count=None):
    """Return raw bytes as an array; float16 and bfloat16 as float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2", -1 if count is None else count).astype(np.uint32) << 16).view(np.float32)
    values = np.frombuffer(data, dtype, -1 if count is None else count)
    return values.astype(np.float32) if dtype == "<f2" else values


def _width(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


# --- safetensors -----------------------------------------------------------------------------------------------------------


def _safetensors(path, data):
    length = int.from_bytes(bytes(data[:8]), "little")
    if len(data) < 8 or not 2 <= length <= min(len(data) - 8, LARGEST_HEADER) or data[8] != ord("{"):
        raise Error(f"'{path}' is neither .safetensors nor .pth (or its beginning is cut off)")
    try:
        header = json.loads(bytes(data[8:8 + length]))
        table = {name: (one["dtype"], tuple(map(int, one["shape"])), *map(int, one["data_offsets"]))
                 for name, one in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Error(f"'{path}': its header is damaged: {error}") from None
    begin = 8 + length
    for name, (dtype, shape, first, last) in table.items():
        if dtype not in DTYPES:
            raise Error(f"'{path}': '{name}' is of type {dtype}; known are {', '.join(DTYPES)}")
        if min(shape, default=0) < 0 or last - first != math.prod(shape) * _width(DTYPES[dtype]) or first < 0:
            raise Error(f"'{path}' is damaged: '{name}' {list(shape)} of {dtype} does not fill its {last - first} bytes")
        if begin + last > len(data):
            raise Error(f"'{path}' is truncated: '{name}' ends at byte {begin + last}, the file has {len(data)}")

    def read(name):
        dtype, shape, first, last = table[name]
        return _array(data[begin + first:begin + last], DTYPES[dtype]).reshape(shape)

    return State(path, {name: shape for name, (_, shape, _, _) in table.items()}, read)


# --- pickles ---------------------------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    """Where a tensor lies: its storage's key, type and number of values; the first value, sizes and steps in values."""

    key: str
    dtype: str
    count: int
    offset: int
    shape: tuple
    steps: tuple


class Storage(NamedTuple):
    """A named storage of a pickle."""

    key: str
    dtype: str
    count: int


def _rebuilt(storage, offset, shape, steps, *rest):
    """Stand in for torch._utils._rebuild_tensor_v2."""
    return Tensor(storage.key, storage.dtype, storage.count, int(offset), tuple(map(int, shape)), tuple(map(int, steps)))


def _parameter(tensor, *rest):
    """Stand in for torch._utils._rebuild_parameter."""
    return tensor


ALLOWED = {("collections", "OrderedDict"): collections.OrderedDict, ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
           ("torch._utils", "_rebuild_tensor"): _rebuilt, ("torch._utils", "_rebuild_parameter"): _parameter,
           ("torch", "Size"): tuple, ("torch.nn.parameter", "Parameter"): _parameter,
           **{("torch", name): dtype for name, dtype in STORAGES.items()}}


class Reader(pickle.Unpickler):
    """Reads a pickle in which only tensors, and Python's own containers and numbers, may stand."""

    def __init__(self, file, path):
        super().__init__(file)
        self.path = path

    def find_class(self, module, name):
        """Return our stand-in, or refuse."""
        if (module, name) not in ALLOWED:
            raise Error(f"'{self.path}' asks to call {module}.{name}, which no state of weights needs: not read. Save the state "
                        "alone, torch.save(model.state_dict(), FILE), or as .safetensors")
        return ALLOWED[module, name]

    def persistent_load(self, pid):
        """Return the storage that a tensor refers to."""
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or dtype not in STORAGES.values():
            raise Error(f"'{self.path}' refers to a {kind} of {dtype}, not to a storage of numbers")
        return Storage(str(key), dtype, int(count))


def _zip(path):
    archive = zipfile.ZipFile(path)
    inside = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
    if inside is None:
        raise Error(f"'{path}' is a zip archive without data.pkl: not a state of PyTorch")
    folder = inside.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order).strip() != b"little":
        raise Error(f"'{path}' was written on a big-endian machine; save it as .safetensors")
    tensors = _tensors(path, Reader(io.BytesIO(archive.read(inside)), path).load())

    def data_of(tensor):
        return archive.read(f"{folder}data/{tensor.key}")

    return _state(path, tensors, data_of)


def _pickles(path, data):
    with open(path, "rb") as file:
        if Reader(file, path).load() != MAGIC:
            raise Error(f"'{path}' is a pickle, but not one of torch.save")
        for _ in range(2):  # the protocol's number, and about the machine
            Reader(file, path).load()
        tensors = _tensors(path, Reader(file, path).load())
        keys = [str(key) for key in Reader(file, path).load()]
        at = file.tell()
    dtypes = {tensor.key: tensor.dtype for tensor in tensors.values()}
    places = {}
    for key in keys:
        count = int.from_bytes(bytes(data[at:at + 8]), "little")
        size = count * _width(dtypes.get(key, "<f4"))
        places[key] = at + 8, size
        at += 8 + size
        if at > len(data):
            raise Error(f"'{path}' is truncated: it has {len(data)} bytes, and a storage ends at byte {at}")

    def data_of(tensor):
        first, size = places[tensor.key]
        return data[first:first + size]

    return _state(path, tensors, data_of)


def _tensors(path, found):
    """Return {name: Tensor} of what a pickle held, out of the wrappers of training scripts."""
    for wrapper in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    tensors = {name: one for name, one in found.items() if isinstance(one, Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise Error(f"'{path}' holds no tensors by name; save model.state_dict()")
    for name, one in tensors.items():
        last = one.offset + sum((size - 1) * step for size, step in zip(one.shape, one.steps)) if 0 not in one.shape else -1
        if len(one.shape) != len(one.steps) or min((one.offset, *one.shape, *one.steps)) < 0 or last >= one.count:
            raise Error(f"'{path}': tensor '{name}' {list(one.shape)} reaches beyond its storage of {one.count} values")
    return tensors


def _state(path, tensors, data_of):
    def read(name):
        one = tensors[name]
        data = data_of(one)
        if len(data) < one.count * _width(one.dtype):
            raise Error(f"'{path}' is truncated: '{name}' has {len(data)} of {one.count * _width(one.dtype)} bytes")
        flat = _array(data, one.dtype, one.count)[one.offset:]
        return np.lib.stride_tricks.as_strided(flat, one.shape, [step * flat.itemsize for step in one.steps], writeable=False)

    return State(path, {name: one.shape for name, one in tensors.items()}, read)
