"""LevelDB databases, through the package plyvel: a folder with CURRENT, MANIFEST-... and tables (.ldb, once .sst).

LevelDB has no way to open a database without writing into its folder and locking it. So a temporary folder is opened, in
which links stand for the tables: the database may lie on a read-only disk, and any number of nets may read it at once. A
folder that has lost its CURRENT or MANIFEST is put in order there, from its tables.
"""

import contextlib
import os
import shutil
import tempfile
import weakref

from data.lmdb_database import missing
from netspec.errors import Error

try:
    import plyvel as package
except ImportError:
    package = None

PACKAGE = "plyvel"
TABLES = (".ldb", ".sst", ".log")
BLOCK = 1 << 16  # bytes, as Caffe writes them
BUFFER = 1 << 26
LOG_BLOCK, LOG_HEADER = 1 << 15, 7  # bytes: a log's records lie in blocks; checksum u32, length u16, kind (2, 3: goes on)


def open_folder(path):
    """Return the database at `path`."""
    return Database(path)


class Database:
    """A LevelDB database, open for reading."""

    def __init__(self, path):
        self.path, self.title = path, f"LevelDB database '{path}'"
        shadow = tempfile.mkdtemp(prefix="deepjet-leveldb-")
        weakref.finalize(self, _remove, shadow, os.getpid())
        try:
            names = os.listdir(path)
            for name in names:
                source = os.path.join(path, name)
                if name.endswith(TABLES):
                    os.symlink(source, os.path.join(shadow, name))
                elif name == "CURRENT" or name.startswith("MANIFEST-"):
                    shutil.copyfile(source, os.path.join(shadow, name))
        except OSError as error:
            raise Error(f"cannot read {self.title}: {error.strerror} ('{error.filename}')") from None
        for name in names:
            if name.endswith(".log"):
                self._check_log(os.path.join(path, name))
        whole = "CURRENT" in names and any(name.startswith("MANIFEST-") for name in names)
        try:
            if not whole:
                package.repair_db(shadow)
                lost = [name for _, _, found in os.walk(os.path.join(shadow, "lost")) for name in found
                        if name.endswith((".ldb", ".sst"))]
                if lost:
                    raise Error(f"{self.title}: has no CURRENT or MANIFEST, and these tables are damaged: "
                                f"{', '.join(sorted(lost))}; copy them again")
            self._database = package.DB(shadow, paranoid_checks=True, max_open_files=100)
        except package.Error as error:
            raise Error(f"{self.title}: cannot be opened: {_said(error, shadow, path)}") from None
        self._shadow = shadow
        weakref.finalize(self, self._database.close)

    def _check_log(self, path):
        """Refuse a log (what was written last) that ends within a record: LevelDB leaves that record away without a word."""
        size, place, middle = os.path.getsize(path), 0, False
        with open(path, "rb") as file:
            while size - place > 0:
                left = LOG_BLOCK - place % LOG_BLOCK
                if left < LOG_HEADER:
                    place += left  # too little for a record: zeros
                    continue
                file.seek(place)
                header = file.read(LOG_HEADER)
                if len(header) == LOG_HEADER and header[6] == 0:
                    return  # room that was never written to
                place += LOG_HEADER + int.from_bytes(header[4:6], "little")
                if len(header) < LOG_HEADER or place > size:
                    raise Error(f"{self.title}: '{path}' is truncated: it ends at byte {size}, within a record; copy it again")
                middle = header[6] in (2, 3)
            if middle:
                raise Error(f"{self.title}: '{path}' is truncated: it ends at byte {size}, within a record; copy it again")

    def read(self, after=None):
        """Yield (key, value) from the first record on, or from the one behind the key `after`."""
        last = after
        try:
            if after is not None and self._database.get(after, verify_checksums=True) is None:
                raise missing(self.title, after)
            with self._database.iterator(start=after, include_start=False, verify_checksums=True, fill_cache=False) as records:
                for key, value in records:
                    last = key
                    yield key, value
        except package.Error as error:
            where = f"behind key '{last.decode('utf-8', 'replace')}'" if last is not None else "at its first record"
            raise Error(f"{self.title}: damaged {where}: {_said(error, self._shadow, self.path)}") from None


def _remove(shadow, process):
    # A forked process that ends leaves the folder to the one that reads from it.
    if os.getpid() == process:
        shutil.rmtree(shadow, ignore_errors=True)


def _said(error, shadow, path):
    """Return what LevelDB says, of the user's folder."""
    text = error.args[0] if error.args else str(error)
    return (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).replace(shadow, path)


@contextlib.contextmanager
def create_folder(folder):
    """Make a database in an empty folder; yields what `database.create` does."""
    try:
        made = package.DB(folder, create_if_missing=True, error_if_exists=True, block_size=BLOCK, write_buffer_size=BUFFER)
        try:
            yield made
        finally:
            made.close()
        package.DB(folder).close()  # what is in its log becomes a table
    except package.Error as error:
        raise Error(f"cannot write '{folder}': {_said(error, folder, folder)}") from None
    for name in ("LOG", "LOG.old"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
