"""Caffe's databases, LMDB and LevelDB: keys in the order of their bytes, and under each a value (a `datum`).

    with database.create("train_lmdb", "lmdb") as new:
        new.put(b"00000000_cat.jpg", datum.SerializeToString())
    for key, value in database.open_database("train_lmdb", "lmdb").read():
        ...

Reading never writes into the database's folder and needs no permission to. A new database is made in a temporary folder
beside and renamed when it is whole. LMDB is written through the package lmdb (``pip install -e .[lmdb]``) and read without
it, LevelDB is read and written through plyvel (``pip install -e .[leveldb]``). A backend is one file,
`data/<backend>_database.py`, with `open_folder` and `create_folder`.
"""

import contextlib
import importlib
import os
import shutil
import tempfile

from netspec.errors import Error, PathError, UnknownName, nearest

BACKENDS = ("lmdb", "leveldb")


def open_database(path, backend):
    """Open a database for reading.

    Returns
    -------
    An object with `path`, `title` ("LMDB database '/data/train'") and ``read(after=None)``, which yields (key, value), both
    bytes, from the first key on, or from the one behind the key `after`, which must be there.
    """
    path = os.fspath(path)
    found = _kind_of(path)
    if found and found != backend:
        raise Error(f"'{path}' holds a database of {_title(found)}, not of {_title(backend)}; say so: backend: {found.upper()} "
                    f"in data_param, -backend {found} for commands")
    return _module(backend, to_write=False).open_folder(os.path.abspath(path))


@contextlib.contextmanager
def create(path, backend):
    """Make a new database; yields an object with ``put(key, value)``. What is there already is not touched, but an error."""
    path = os.path.abspath(path)
    if os.path.lexists(path):
        raise Error(f"'{path}' is there already; remove it, or choose another name")
    module, folder = _module(backend, to_write=True), os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=f".{os.path.basename(path)}.", suffix=".part", dir=folder)
    except OSError as error:
        raise Error(f"cannot write '{path}': {error.strerror}") from None
    try:
        with module.create_folder(temporary) as new:
            yield new
        os.chmod(temporary, 0o755)
        os.rename(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, Error):
            raise Error(f"cannot write '{path}': {error.strerror or error}") from error
        raise


def check(backend, to_write=True):
    """Refuse a backend that is unknown or whose package is not installed."""
    if backend not in BACKENDS:
        raise UnknownName(f"unknown backend '{backend}'{nearest(backend, BACKENDS)}; known: {', '.join(BACKENDS)}")
    _module(backend, to_write)


def _module(backend, to_write):
    module = importlib.import_module(f"data.{backend}_database")
    if module.package is None and (to_write or backend != "lmdb"):
        raise Error(f"databases of {_title(backend)} need the package {module.PACKAGE}, which is not installed: "
                    f"pip install -e '.[{backend}]'")
    return module


def _title(backend):
    return {"lmdb": "LMDB", "leveldb": "LevelDB"}[backend]


def _kind_of(path):
    """Return the backend of the database at `path`, by its files; None if nothing tells."""
    if os.path.isfile(path):
        return "lmdb" if path.endswith(".mdb") else None
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        raise PathError(f"database '{path}' not found; tried: {os.path.abspath(path)}") from None
    except OSError as error:
        raise Error(f"cannot read database '{path}': {error.strerror}") from None
    if "data.mdb" in names:
        return "lmdb"
    if "CURRENT" in names or any(name.endswith((".ldb", ".sst", ".log")) or name.startswith("MANIFEST-") for name in names):
        return "leveldb"
    raise Error(f"'{path}' holds no database: neither data.mdb (LMDB) nor CURRENT, MANIFEST or .ldb files (LevelDB); it holds "
                f"{', '.join(sorted(names)[:6]) or 'nothing'}")
