"""Databases for tests, and the doors that work on them."""

import pytest

from data import database
from netspec import errors


def need(backend):
    """Skip the test where the backend's package is not installed."""
    package = {"lmdb": "lmdb", "leveldb": "plyvel"}[backend]
    return pytest.importorskip(package, reason=f"needs {package} (pip install -e '.[{backend}]')")


def write(path, backend, records):
    """Write a database of (key, value)."""
    need(backend)
    with database.create(path, backend) as new:
        for key, value in records:
            new.put(key, value)
    return path


def some(count=50, size=700):
    """Return records of different sizes, in order."""
    return [(b"%08d_x" % number, bytes([number % 251]) * (size * (number % 7))) for number in range(count)]


def run(main, arguments):
    """Run a door; return its exit code."""
    try:
        return errors.run_door(main, arguments)
    except SystemExit as stop:  # argparse: wrong usage
        return stop.code
