"""protobuf's wire format, walked without touching what is large.

A caffemodel is a small message around hundreds of megabytes of floats. `scan` walks its fields by their lengths,
notes where the floats lie (`Floats`: spans of the file) and returns all the rest as a message that protobuf parses
in no time. The floats then go from the file straight into an array, once.

The format: a field is a tag (a varint: field number << 3 | wire type) and a value: wire type 0 a varint, 1 eight bytes,
2 a varint length and that many bytes, 3 and 4 the brackets of a group, 5 four bytes.
"""

import os
import string
import threading

import numpy as np
from google.protobuf.message import DecodeError

from netspec.errors import Error, PathError

VARINT, EIGHT_BYTES, BYTES, GROUP, GROUP_END, FOUR_BYTES = range(6)
WINDOW = 8192  # bytes read at a time while walking; larger ones only read more of the floats that are stepped over
CHUNK = 1 << 20  # bytes converted at a time where the file's numbers are not the array's
MOST_FIELDS = 1 << 22  # a net of 1000 layers has some 20,000; a random file could have one every two bytes
MOST_SKELETON = 1 << 27  # bytes of a message without its floats
MOST_MESSAGE = 2**31 - 1  # bytes of a message that protobuf, and so Caffe, reads
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
FLOAT, DOUBLE = np.dtype("<f4"), np.dtype("<f8")

_ALIENS = {
    HDF5_MAGIC: "an HDF5 file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a zip or npz archive",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\x93NUMPY": "a NumPy array",
}
_PRINTABLE = frozenset(string.printable.encode())


class Source:
    """A file open for reading at any place, by several threads.

    Parameters
    ----------
    path : str or path
    what : str
        What the file should be (``"a caffemodel"``), for the errors.
    """

    def __init__(self, path, what):
        self.path = os.fspath(path)
        self.what = what
        try:
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 (kept open: the floats are read later)
            self.size = self._file.seek(0, os.SEEK_END)
        except FileNotFoundError:
            raise PathError(f"file '{path}' not found; tried: {os.path.abspath(path)}") from None
        except OSError as error:
            raise Error(f"cannot read '{path}': {error.strerror or error}") from None
        self._lock = threading.Lock()
        self._window, self._window_start = b"", 0
        self._fields = 0

    def close(self):
        self._file.close()

    def __del__(self):
        # Whoever reads lazily need not close: no ResourceWarning then. There is no file when opening it failed.
        if hasattr(self, "_file"):
            self._file.close()

    def error(self, text):
        """Return an `Error` that names the file."""
        return Error(f"'{self.path}': {text}")

    def refuse_alien(self):
        """Refuse an empty file and those whose first bytes show that they are something else."""
        if not self.size:
            raise self.error(f"the file is empty; {self.what} is expected")
        head = self.read(0, min(256, self.size))
        for magic, name in _ALIENS.items():
            if head.startswith(magic):
                raise self.error(f"this is {name}, not {self.what}")
        if _PRINTABLE.issuperset(head):
            name = "a web page (did the download fail?)" if head.lstrip().startswith(b"<") else "a text (a prototxt?)"
            raise self.error(f"this is {name}, not {self.what}")

    def read_into(self, start, view):
        """Fill `view` (a writable memoryview of bytes) from byte `start` on."""
        done = 0
        try:
            with self._lock:
                self._file.seek(start)
                while done < len(view):  # the system reads at most 2 GiB a call
                    got = self._file.readinto(view[done:])
                    if not got:
                        break
                    done += got
        except OSError as error:
            raise Error(f"cannot read '{self.path}': {error.strerror or error}") from None
        if done < len(view):
            raise self.error(f"the file ended at byte {start + done} while bytes {start} to {start + len(view)} were "
                             f"read; it had {self.size} bytes when it was opened")

    def read(self, start, stop):
        """Return the bytes from `start` to `stop`."""
        self._grow(start, stop)
        first = start - self._window_start
        if first >= 0 and stop - self._window_start <= len(self._window):
            return self._window[first:first + stop - start]
        data = bytearray(stop - start)
        self.read_into(start, memoryview(data))
        return bytes(data)

    def _grow(self, start, stop):
        # Move the window to `start` when it does not hold [start, stop) and a window could.
        if stop - start <= WINDOW and not self._window_start <= start <= stop <= self._window_start + len(self._window):
            data = bytearray(max(min(WINDOW, self.size - start), 0))
            self.read_into(start, memoryview(data))
            self._window, self._window_start = bytes(data), start

    def varint(self, at, end):
        """Return (number, place after it) of the varint at byte `at`; `end` is where its message ends."""
        number = 0
        data = self.read(at, min(at + 10, end))
        for index, byte in enumerate(data):
            number |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return number & 0xFFFFFFFFFFFFFFFF, at + index + 1
        if len(data) < 10:
            raise self._cut(at, at + len(data) + 1, end)
        raise self.error(f"corrupt at byte {at}: a number of more than 10 bytes; is it {self.what}?")

    def field(self, at, end):
        """Return (field number, wire type, start of the value, end of the field) of the field at byte `at`."""
        number, wire, value, stop = self._field(at, end)
        if wire == GROUP:  # obsolete, and unknown to Caffe's messages: stepped over with all that is in it
            open_groups = [number]
            while open_groups:
                inner, inner_wire, _, stop = self._field(stop, end)
                if inner_wire == GROUP:
                    open_groups.append(inner)
                elif inner_wire == GROUP_END and inner != open_groups.pop():
                    raise self.error(f"corrupt at byte {stop}: a group ends that was not open; is it {self.what}?")
        elif wire == GROUP_END:
            raise self.error(f"corrupt at byte {at}: a group ends that was not open; is it {self.what}?")
        return number, wire, value, stop

    def _field(self, at, end):
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise self.error(f"more than {MOST_FIELDS} fields; is it {self.what}?")
        tag, value = self.varint(at, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29 or wire > FOUR_BYTES:
            raise self.error(f"corrupt at byte {at}: field number {number}, wire type {wire}; is it {self.what}?")
        if wire == VARINT:
            _, stop = self.varint(value, end)
        elif wire == BYTES:
            length, value = self.varint(value, end)
            stop = value + length
        else:
            stop = value + {EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(wire, 0)
        if stop > end:
            raise self._cut(at, stop, end)
        return number, wire, value, stop

    def _cut(self, at, stop, end):
        if end == self.size:
            return self.error(f"truncated: the field at byte {at} goes on to byte {stop} at least, the file has "
                              f"{self.size} bytes; copy or download it again")
        return self.error(f"corrupt: the field at byte {at} goes on to byte {stop}, its message ends at byte {end}; "
                          f"is it {self.what}?")


class Floats:
    """A repeated float or double field in a file: one span when packed, many when not.

    `count` is the number of values, known without reading them.
    """

    def __init__(self, source, dtype):
        self._source = source
        self._dtype = dtype
        self._pieces = []  # (byte of the first value, values, bytes from one value to the next)
        self.count = 0

    def add_packed(self, start, stop):
        """Add the values that fill the bytes from `start` to `stop`."""
        size = self._dtype.itemsize
        if (stop - start) % size:
            raise self._source.error(f"corrupt at byte {start}: {stop - start} bytes of numbers of {size} bytes each")
        self._add(start, (stop - start) // size, size)

    def add_unpacked(self, at, value, end):
        """Add the run of fields like that at byte `at` (a tag before each value); return where it ends.

        Old writers put a tag before every float: found in strides, for a loop over the fields would take minutes.
        """
        stride = value - at + self._dtype.itemsize
        tag = np.frombuffer(self._source.read(at, value), np.uint8)
        count, possible = 0, (end - at) // stride
        rows = 1
        while count < possible:
            rows = min(2 * rows, CHUNK // stride, possible - count)  # short runs cost little, long ones go fast
            chunk = self._rows(at + count * stride, rows, stride)
            other = (chunk[:, :len(tag)] != tag).any(axis=1)
            if other.any():
                count += int(other.argmax())
                break
            count += rows
        self._add(value, count, stride)
        return at + count * stride

    def _add(self, start, count, stride):
        if count:
            self._pieces.append((start, count, stride))
            self.count += count

    def _rows(self, start, rows, stride):
        data = np.empty((rows, stride), np.uint8)
        self._source.read_into(start, memoryview(data).cast("B"))
        return data

    def read_into(self, flat):
        """Fill the 1-d array `flat` of `count` values; doubles become floats as a C cast makes them."""
        size = self._dtype.itemsize
        done = 0
        for start, count, stride in self._pieces:
            target = flat[done:done + count]
            done += count
            if stride == size and flat.dtype == self._dtype and flat.flags.c_contiguous:
                self._source.read_into(start, memoryview(target).cast("B"))
                continue
            step = CHUNK // stride
            for first in range(0, count, step):
                rows = min(step, count - first)
                # The stride from the first value on; the last value has no tag behind it.
                data = np.empty(rows * stride, np.uint8)
                self._source.read_into(start + first * stride, memoryview(data)[:rows * stride - (stride - size)])
                values = np.ascontiguousarray(data.reshape(rows, stride)[:, :size]).view(self._dtype)[:, 0]
                with np.errstate(all="ignore"):  # a double beyond float's range becomes inf, as in C
                    target[first:first + rows] = values


def parse(source, message_class, plan, mend=None):
    """Return (message, found): what protobuf reads of `source` without its floats, and where those are (see `scan`).

    What protobuf does not take is tried once more as ``mend(bytes)`` returns it.
    """
    source.refuse_alien()
    skeleton, found = scan(source, plan)
    try:
        return message_class.FromString(skeleton), found
    except DecodeError as error:
        refusal = error
    try:
        if mend is not None:
            return message_class.FromString(mend(skeleton)), found
    except DecodeError as error:
        refusal = error
    raise source.error(f"not {source.what}: {refusal}") from None


def scan(source, plan, start=0, end=None):
    """Walk one message of `source`; return (the message without its floats, what was found).

    Parameters
    ----------
    plan : dict
        Field number -> the plan of that submessage, or a dtype (`FLOAT`, `DOUBLE`) for a field of numbers.
    start, end : int
        Where the message lies; the whole file by default.

    Returns
    -------
    skeleton : bytes
        For protobuf to parse. The submessages of the plan are in it, in their order, without their numbers.
    found : dict
        Field number -> list of what was found in each such submessage, or `Floats`. Same order as in the skeleton.
    """
    end = source.size if end is None else end
    skeleton, found = bytearray(), {}
    while start < end:
        number, wire, value, stop = source.field(start, end)
        inner = plan.get(number)
        if isinstance(inner, dict) and wire == BYTES:
            part, below = scan(source, inner, value, stop)
            skeleton += header(number, len(part)) + part
            found.setdefault(number, []).append(below)
        elif isinstance(inner, np.dtype) and wire == BYTES:
            found.setdefault(number, Floats(source, inner)).add_packed(value, stop)
        elif isinstance(inner, np.dtype) and wire == (FOUR_BYTES if inner == FLOAT else EIGHT_BYTES):
            stop = found.setdefault(number, Floats(source, inner)).add_unpacked(start, value, end)
        else:
            if len(skeleton) + stop - start > MOST_SKELETON:
                raise source.error(f"the {stop - start} bytes at byte {start} are no numbers of a blob; "
                                   f"is it {source.what}?")
            skeleton += source.read(start, stop)
        start = stop
    return bytes(skeleton), found


def varint(number):
    """Return `number` (0 or more) as a varint."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def header(number, length):
    """Return the tag and the length that stand before `length` bytes of field `number`."""
    return varint(number << 3 | BYTES) + varint(length)


def check_size(path, size):
    """Refuse to write a message that Caffe could not read."""
    if size > MOST_MESSAGE:
        raise Error(f"cannot write '{path}': {size} bytes, and protobuf reads at most {MOST_MESSAGE}; write HDF5 "
                    "instead (a name that ends in .h5; snapshot_format: HDF5)")
