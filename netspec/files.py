"""Finding, reading and writing files: every place tried is named, and nothing is ever half written."""

import contextlib
import os
import pathlib
import tempfile

from netspec.errors import Error, PathError

ROOT = pathlib.Path(__file__).resolve().parent.parent  # the folder that holds netspec/, layers/, models/


def find(path, beside=None, what="file"):
    """Return the first of these that exists: `path` as given, beside the file `beside`, from the project's root.

    Caffe tries only the first (the working directory). Raises `PathError` that lists every place.
    """
    path = os.path.expanduser(os.fspath(path))
    places = [path]
    if not os.path.isabs(path):
        if beside:
            places.append(os.path.join(os.path.dirname(os.path.abspath(beside)), path))
        places.append(os.path.join(ROOT, path))
    places = list(dict.fromkeys(os.path.abspath(p) for p in places))
    for place in places:
        if os.path.exists(place):
            return place
    raise PathError(f"{what} '{path}' not found; tried: {', '.join(places)}")


def read_bytes(path):
    """Return the bytes of `path`; a missing or unreadable file is a one-line `Error`."""
    try:
        return pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        raise PathError(f"file '{path}' not found; tried: {os.path.abspath(path)}") from None
    except OSError as error:
        raise Error(f"cannot read '{path}': {error.strerror}") from None


def read_text(path):
    """Return the text of `path` (UTF-8); a file that is not text is an `Error` that names the first odd byte."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Error(f"'{path}' is not a text file (UTF-8): byte {error.start} is 0x{data[error.start]:02x}") from None


@contextlib.contextmanager
def atomic(path, mode="wb"):
    """Open a temporary file beside `path`; on success it is synced and renamed to `path`, on any error removed.

    So a full disk or Ctrl-C leaves the old file as it was. Yields the open file; its name is ``file.name``.
    """
    path = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", suffix=".part", dir=folder)
        os.close(handle)  # opened again by name, since a file made from a handle has a number as its name
    except OSError as error:
        raise Error(f"cannot write '{path}': {error.strerror}") from None
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, Error):
            raise Error(f"cannot write '{path}': {error.strerror or error}") from error
        raise


def write_text(path, text):
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic(path) as file:
        file.write(text.encode("utf-8"))


def _umask():
    # The process' umask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
