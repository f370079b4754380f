"""LMDB databases: a folder with the file data.mdb (or such a file by itself).

They are written through the package lmdb, and read here: LMDB's own library takes pages for what they say and ends the
process when one of them is damaged, or reads memory that is not there when the end of the file is missing.

The file is a tree of pages of equal size (all numbers little-endian, as 64-bit machines write them). Pages 0 and 1 are
meta pages, of which the one with the higher transaction number counts:

    page   number u64, pad u16, flags u16, lower u16, upper u16; then a u16 a node: where it begins
    meta   header of 16 bytes, magic u32, version u32, address u64, map size u64, 2 trees, last page u64, transaction u64
    tree   page size u32, flags u16, depth u16, pages of branches, leaves and overflow u64 each, records u64, root u64
    node   low u16, high u16, flags u16, key size u16, key; in a leaf then the value of high * 2^16 + low bytes (or, with
           flag 1, the number of the page where it begins); in a branch flags * 2^32 + high * 2^16 + low is a page
    overflow page: number u64, pad u16, flags u16, pages u32; then the value

The first tree is that of free pages, the second the records', in the order of their keys' bytes. Source: the format as LMDB
0.9 writes it; the tests hold this reader against that library.
"""

import contextlib
import os
import struct
import weakref

from netspec.errors import Error, PathError

try:
    import lmdb as package
except ImportError:
    package = None

PACKAGE = "lmdb"
FIRST_SIZE = 1 << 30  # bytes of a new database's map; doubled whenever it is full, as Caffe does
BATCH = 1000  # records written at once

MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER = 16  # bytes before what a page holds
BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8  # flags of pages
BIG = 1  # flag of a leaf's node: the value is on pages of its own
NOTHING = 2**64 - 1  # the root of an empty tree


def open_folder(path):
    """Return the database at `path`."""
    return Database(path, os.path.join(path, "data.mdb") if os.path.isdir(path) else path)


class Database:
    """An LMDB database, open for reading."""

    def __init__(self, path, file):
        self.path, self.title = path, f"LMDB database '{path}'"
        self._name = file
        try:
            self._file = os.open(file, os.O_RDONLY)
        except OSError as error:
            raise PathError(f"cannot read {self.title}: {error.strerror} ('{file}')") from None
        weakref.finalize(self, os.close, self._file)
        self._root = self._find_root()

    def _find_root(self):
        """Return the root of the records' tree, from the newer meta page; learn the size of a page."""
        size = os.fstat(self._file).st_size
        first = self._read(0, 4096)
        if len(first) < 168 or struct.unpack_from("<I", first, HEADER)[0] != MAGIC:
            raise Error(f"{self.title}: '{self._name}' ({size} bytes) is no LMDB file of a 64-bit machine")
        self._size = struct.unpack_from("<I", first, HEADER + 24)[0]
        if self._size not in (1 << bits for bits in range(9, 17)):
            raise Error(f"{self.title}: damaged: pages of {self._size} bytes")
        metas = []
        for number in (0, 1):
            page = self._read(number * self._size, self._size)
            if len(page) == self._size:
                magic, version = struct.unpack_from("<2I", page, HEADER)
                root, last, transaction = struct.unpack_from("<3Q", page, HEADER + 24 + 48 + 40)
                flags, = struct.unpack_from("<H", page, HEADER + 24 + 48 + 4)
                if magic == MAGIC and version == VERSION:
                    metas.append((transaction, last, root, flags))
        if not metas:
            raise Error(f"{self.title}: '{self._name}' is truncated to {size} bytes, or of another version of LMDB")
        _, last, root, flags = max(metas)
        if size < (last + 1) * self._size:
            raise Error(f"{self.title}: '{self._name}' is truncated: {size} bytes of {(last + 1) * self._size}; copy it again")
        if flags & ~8:
            raise Error(f"{self.title}: has several values a key or keys that are numbers (flags {flags}); Caffe writes no such")
        self._last = last
        return root

    def read(self, after=None):
        """Yield (key, value) from the first record on, or from the one behind the key `after`."""
        if self._root == NOTHING:
            if after is not None:
                raise missing(self.title, after)
            return
        found = after is None
        for key, value in self._records(self._root, after):
            if not found:
                if key != after:
                    raise missing(self.title, after)
                found = True
                continue
            yield key, value if isinstance(value, bytes) else self._overflow(*value)
        if not found:
            raise missing(self.title, after)

    def _records(self, root, after):
        """Yield (key, value) below the page `root`, from the key `after` on; of a big value (page, size)."""
        waiting, taken = [root], 0  # pages to go to, the next one last
        while waiting:
            number, taken = waiting.pop(), taken + 1
            if taken > self._last:
                raise self._damaged(number)  # pages that lead back to themselves
            leaf, nodes = self._page(number)
            if leaf:
                for key, value in nodes:
                    if after is None or key >= after:
                        yield key, value
                after = None
            else:
                # The key of a branch's node is the least below it, but for the first, which has none.
                first = 0 if after is None else sum(key <= after for key, _ in nodes[1:])
                waiting += [child for _, child in reversed(nodes[first:])]

    def _page(self, number):
        """Return (True, [(key, value or (page, size))]) of a leaf, (False, [(key, page)]) of a branch, each checked."""
        page = self._take(number, self._size)
        own, _, flags, lower, upper = struct.unpack_from("<QHHHH", page)
        kind = flags & (BRANCH | LEAF | OVERFLOW | META)
        count = (lower - HEADER) // 2
        if own != number or kind not in (BRANCH, LEAF) or not HEADER <= lower <= upper <= self._size:
            raise self._damaged(number)
        nodes = []
        for begin in struct.unpack_from(f"<{count}H", page, HEADER):
            if not upper <= begin <= self._size - 8:
                raise self._damaged(number)
            low, high, how, length = struct.unpack_from("<4H", page, begin)
            data = begin + 8 + length
            key, size = page[begin + 8:data], low | high << 16
            if data > self._size:
                raise self._damaged(number)
            if kind == BRANCH:
                nodes.append((key, size | how << 32))
            elif how == BIG and data + 8 <= self._size:
                nodes.append((key, (*struct.unpack_from("<Q", page, data), size)))
            elif how == 0 and data + size <= self._size:
                nodes.append((key, page[data:data + size]))
            else:
                raise self._damaged(number)
        if kind == BRANCH and not nodes:
            raise self._damaged(number)
        return kind == LEAF, nodes

    def _overflow(self, number, size):
        """Return the value of `size` bytes that begins on page `number`."""
        page = self._take(number, HEADER + size)
        own, _, flags, pages = struct.unpack_from("<QHHI", page)
        if own != number or not flags & OVERFLOW or pages * self._size < HEADER + size:
            raise self._damaged(number)
        return page[HEADER:]

    def _take(self, number, length):
        """Return bytes from the beginning of a page that must be there."""
        if number < 2 or number + (length - 1) // self._size > self._last:
            raise self._damaged(number)
        data = self._read(number * self._size, length)
        if len(data) != length:
            raise Error(f"{self.title}: '{self._name}' ends within page {number}; it was changed while it was read")
        return data

    def _read(self, offset, length):
        try:
            return os.pread(self._file, length, offset)
        except OSError as error:
            raise Error(f"cannot read {self.title}: {error.strerror} ('{self._name}', at byte {offset})") from None

    def _damaged(self, number):
        return Error(f"{self.title}: damaged: page {number} of '{self._name}' does not hold together; copy the database again")


@contextlib.contextmanager
def create_folder(folder):
    """Make a database in an empty folder; yields what `database.create` does."""
    try:
        environment = package.open(folder, map_size=FIRST_SIZE, lock=False, sync=False, metasync=False)
        try:
            writer = _Writer(environment)
            yield writer
            writer.flush()
            environment.sync(True)
        finally:
            environment.close()
    except package.Error as error:
        raise Error(f"cannot write '{folder}': {error}") from None


class _Writer:
    def __init__(self, environment):
        self._environment, self._waiting = environment, []

    def put(self, key, value):
        """Add a record, or replace the one of the same key."""
        self._waiting.append((key, value))
        if len(self._waiting) >= BATCH:
            self.flush()

    def flush(self):
        while self._waiting:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._waiting:
                        transaction.put(key, value)
                self._waiting = []
            except package.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])


def missing(title, key):
    """Return the error of a key that is not there."""
    return Error(f"{title}: has no key '{key.decode('utf-8', 'replace')}' to go on behind; it is another database, or it has "
                 "changed")
