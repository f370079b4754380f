"""MATLAB files: numbers, text, structs and cells, as the label files of SBD and its like hold them.

SciPy reads these files too, but its reader is compiled code that trusts them: one flipped bit can end the process. This
one checks every size before it uses it, so a damaged file is an `Error` and nothing else.

Files of version 7.3 are HDF5 and are read through h5py; of them numbers, text and structs.

The format of version 5: a header of 128 bytes, then elements. An element is a tag (type, number of bytes) and its data,
padded to 8 bytes; up to 4 bytes of data are packed into the tag. An array is an element that holds elements: flags,
dimensions, name, values. Each array of a file may be compressed by zlib.
"""

import math
import zlib

import h5py
import numpy as np

from netspec import files
from netspec.errors import Error

MAX_BYTES = 1 << 28  # of one array after decompression; a compressed file of 1 kB may claim a thousand times more
MAX_DEPTH = 32  # of structs in structs

# Element types (mi...) and the NumPy type of their data.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {("<", 16): "utf-8", ("<", 17): "utf-16-le", ("<", 18): "utf-32-le",
         (">", 16): "utf-8", (">", 17): "utf-16-be", (">", 18): "utf-32-be"}
MATRIX, COMPRESSED = 14, 15

# Array classes (mx...).
CELL, STRUCT, CHAR, SPARSE = 1, 2, 4, 5
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX = 0x08


def read_mat(path, names=None):
    """Return {variable: value} of a MATLAB 5 or 7.3 file; only the variables `names` when given.

    Numbers are arrays of the variable's type and dimensions, text is str, a struct a dict (a list of dicts when it is
    not 1x1), a cell array a list. Other classes (functions, objects, sparse and complex arrays) are left out at the top
    level and are errors in a variable that was asked for.
    """
    data = files.read_bytes(path)
    try:
        return _read_hdf5(path, names) if data[124:128] == b"\x00\x02IM" else _read(memoryview(data), names)
    except _Damaged as damage:
        raise Error(f"cannot read '{path}': {damage}") from None


def read_matrix(path, name):
    """Return one matrix of numbers of a MATLAB file."""
    found = read_mat(path, names=[name]).get(name)
    if not isinstance(found, np.ndarray):
        raise Error(f"'{path}' holds no matrix '{name}'")
    return found


class _Damaged(Exception):
    pass


class _Unsupported(_Damaged):
    pass


def _read(data, names):
    if len(data) < 128:
        raise _Damaged(f"{len(data)} bytes are no MATLAB 5 file")
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None:
        raise _Damaged("not a MATLAB 5 file (no byte order mark at byte 126)")
    version = int.from_bytes(data[124:126], "little" if order == "<" else "big")
    if version != 0x0100:
        raise _Damaged(f"version {version:#06x} is not MATLAB 5's 0x0100")
    found, place = {}, 128
    while place < len(data):
        kind, body, place = _element(data, place, order, padded=False)
        if kind == COMPRESSED:
            kind, body, _ = _element(_inflate(body), 0, order)
        if kind != MATRIX:
            continue
        try:
            name, value = _array(body, order, names, 0)
        except _Unsupported as reason:
            if names is not None:
                raise _Damaged(str(reason)) from None
            continue
        if name is not None:
            found[name] = value
    return found


def _element(data, place, order, padded=True):
    # (type, data, where the next element starts)
    if place + 8 > len(data):
        raise _Damaged(f"the file ends within a tag at byte {place}")
    first, second = np.frombuffer(data, order + "u4", 2, place).tolist()
    if first >> 16:  # packed: the upper half is the size, the data follows at once
        kind, size, begin, end = first & 0xFFFF, first >> 16, place + 4, place + 8
        if size > 4:
            raise _Damaged(f"a packed element of {size} bytes at byte {place}; 4 is the most")
    else:
        kind, size, begin = first, second, place + 8
        end = begin + size
        if padded and kind != COMPRESSED:
            end += -size % 8
    if begin + size > len(data):
        raise _Damaged(f"an element at byte {place} claims {size} bytes, {len(data) - begin} are there")
    return kind, data[begin:begin + size], end


def _inflate(body):
    machine = zlib.decompressobj()
    try:
        plain = machine.decompress(bytes(body), MAX_BYTES)
    except zlib.error as error:
        raise _Damaged(f"its compressed data is damaged ({error})") from None
    if machine.unconsumed_tail:
        raise _Damaged(f"an array of more than {MAX_BYTES} bytes")
    if not machine.eof:
        raise _Damaged("its compressed data is cut short")
    return memoryview(plain)


def _array(body, order, names, depth):
    # (name, value) of an array; (None, None) when `names` does not want it.
    if depth > MAX_DEPTH:
        raise _Damaged(f"structs nested deeper than {MAX_DEPTH}")
    if not len(body):
        return "", np.zeros((0, 0))  # how an empty field is written
    kind, flags, place = _element(body, 0, order)
    flags = _numbers(kind, flags, order)
    kind, shape, place = _element(body, place, order)
    shape = [int(n) for n in _numbers(kind, shape, order)]
    if flags.size != 2 or not 2 <= len(shape) <= 32 or min(shape) < 0:
        raise _Damaged(f"an array with flags of {flags.size} numbers and dimensions {shape}")
    count = math.prod(shape)
    kind, name, place = _element(body, place, order)
    name = bytes(name).decode("latin-1")
    if depth == 0 and names is not None and name not in names:
        return None, None
    what, flags = int(flags[0]) & 0xFF, int(flags[0]) >> 8
    if what in CLASSES and not flags & COMPLEX:
        kind, values, place = _element(body, place, order)
        values = _numbers(kind, values, order)
        if values.size != count:
            raise _Damaged(f"'{name}' has dimensions {shape} but {values.size} values")
        return name, _cast(values, CLASSES[what], name).reshape(shape, order="F")
    if what == CHAR:
        kind, text, place = _element(body, place, order)
        if (order, kind) in TEXTS:
            return name, bytes(text).decode(TEXTS[order, kind], "replace")
        return name, "".join(map(chr, _numbers(kind, text, order).astype(np.uint16).tolist()))
    if what == CELL:
        return name, _several(body, place, order, count, depth)[0]
    if what == STRUCT:
        kind, length, place = _element(body, place, order)
        length = _numbers(kind, length, order)
        kind, fields, place = _element(body, place, order)
        if length.size != 1 or not 1 <= length[0] <= 1024 or len(fields) % int(length[0]):
            raise _Damaged(f"'{name}' has field names of {len(fields)} bytes that are no names of one length")
        length = int(length[0])
        fields = [bytes(fields[i:i + length]).split(b"\0")[0].decode("latin-1") for i in range(0, len(fields), length)]
        if not fields and count > 1:
            raise _Damaged(f"'{name}' has {count} structs without fields")
        values, place = _several(body, place, order, count * len(fields), depth)
        elements = [dict(zip(fields, values[i * len(fields):(i + 1) * len(fields)])) for i in range(count)]
        return name, elements[0] if count == 1 else elements
    raise _Unsupported(f"'{name}' is of a class ({what}) that is not read here: sparse, complex, function or object")


def _several(body, place, order, count, depth):
    # The values of `count` arrays one after another, and the place after them. Each takes at least its tag.
    if count * 8 > len(body):
        raise _Damaged(f"{count} arrays are claimed within {len(body)} bytes")
    values = []
    for _ in range(count):
        kind, one, place = _element(body, place, order)
        if kind != MATRIX:
            raise _Damaged(f"an element of type {kind} where an array must be")
        values.append(_array(one, order, None, depth + 1)[1])
    return values, place


def _numbers(kind, data, order):
    if kind not in NUMBERS:
        raise _Damaged(f"an element of type {kind} where numbers must be")
    dtype = np.dtype(order + NUMBERS[kind])
    if len(data) % dtype.itemsize:
        raise _Damaged(f"{len(data)} bytes are no whole number of {dtype.itemsize}-byte values")
    return np.frombuffer(data, dtype)


def _cast(values, kind, name):
    # MATLAB stores values in the smallest type that holds them; the variable's own type is `kind`.
    kind = np.dtype(kind)
    if kind.kind in "ui" and values.size:
        limits = np.iinfo(kind)
        whole = values.dtype.kind in "ui" or np.isfinite(values).all()
        if not whole or values.min() < limits.min or values.max() > limits.max:
            raise _Damaged(f"'{name}' holds values outside its type {kind}")
    return values.astype(kind)


# --- version 7.3 -----------------------------------------------------------------------------------------------------


def _read_hdf5(path, names):
    try:
        with h5py.File(path, "r") as file:
            found = {}
            for name in file:
                if not name.startswith("#") and (names is None or name in names):  # "#refs#": what cells point to
                    try:
                        found[name] = _value(file[name], name, 0)
                    except _Unsupported:
                        if names is not None:
                            raise
            return found
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # what h5py raises on damaged files
        raise _Damaged(f"a MATLAB 7.3 (HDF5) file that is damaged: {' '.join(str(error).split())[:200]}") from None


def _value(node, name, depth):
    if depth > MAX_DEPTH:
        raise _Damaged(f"structs nested deeper than {MAX_DEPTH}")
    if isinstance(node, h5py.Group):
        return {key: _value(node[key], f"{name}.{key}", depth + 1) for key in node}
    if not isinstance(node, h5py.Dataset):
        raise _Damaged(f"'{name}' is neither an array nor a struct")
    kind = node.attrs.get("MATLAB_class", b"")
    kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
    if "MATLAB_empty" in node.attrs:
        return "" if kind == "char" else np.zeros((0, 0))
    if node.dtype.kind not in "uif":
        raise _Unsupported(f"'{name}' is of a class ({kind or node.dtype}) that is not read here: cell, complex or object")
    if node.size * node.dtype.itemsize > MAX_BYTES:
        raise _Damaged(f"an array of more than {MAX_BYTES} bytes")
    values = node[()].T  # HDF5 has MATLAB's last axis first
    return "".join(map(chr, values.reshape(-1, order="F").tolist())) if kind == "char" else np.asarray(values)
