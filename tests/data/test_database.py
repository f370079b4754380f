import os

import pytest

from data import database, lmdb_database
from netspec.errors import Error, PathError, UnknownName
from tests.data import records

BOTH = pytest.mark.parametrize("backend", database.BACKENDS)


@BOTH
def test_records_come_in_the_order_of_their_keys(tmp_path, backend):
    made = records.some()
    path = records.write(tmp_path / "db", backend, made[::-1])
    found = database.open_database(path, backend)
    assert list(found.read()) == made
    assert list(found.read(made[20][0])) == made[21:] and list(found.read(made[-1][0])) == []
    with pytest.raises(Error, match="has no key 'nowhere' to go on behind"):
        next(found.read(b"nowhere"))


@BOTH
def test_reading_leaves_the_folder_as_it_is_and_several_may_read(tmp_path, backend):
    path = records.write(tmp_path / "db", backend, records.some())
    before = {name: (path / name).read_bytes() for name in os.listdir(path)}
    one, other = database.open_database(path, backend), database.open_database(path, backend)
    readers = one.read(), other.read(), one.read()
    assert [next(reader)[0] for reader in readers] == [b"00000000_x"] * 3
    assert {name: (path / name).read_bytes() for name in os.listdir(path)} == before


@BOTH
def test_a_database_that_fails_half_way_is_not_there(tmp_path, backend):
    records.need(backend)
    with pytest.raises(KeyboardInterrupt), database.create(tmp_path / "db", backend) as new:
        new.put(b"a", b"b")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


@BOTH
def test_what_is_there_is_not_touched(tmp_path, backend):
    records.need(backend)
    (tmp_path / "db").write_text("mine")
    with pytest.raises(Error, match="is there already; remove it"), database.create(tmp_path / "db", backend):
        pass
    assert (tmp_path / "db").read_text() == "mine"


@BOTH
def test_an_empty_database_has_no_records(tmp_path, backend):
    found = database.open_database(records.write(tmp_path / "db", backend, []), backend)
    assert list(found.read()) == []
    with pytest.raises(Error, match="has no key 'a'"):
        next(found.read(b"a"))


def test_the_other_kind_and_none_at_all_say_so(tmp_path):
    path = records.write(tmp_path / "db", "lmdb", records.some(3))
    with pytest.raises(Error, match="holds a database of LMDB, not of LevelDB; say so: backend: LMDB"):
        database.open_database(path, "leveldb")
    with pytest.raises(PathError, match="database '.*gone' not found; tried"):
        database.open_database(tmp_path / "gone", "lmdb")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Error, match="holds no database: .*it holds nothing"):
        database.open_database(tmp_path / "empty", "lmdb")


def test_missing_packages_and_unknown_backends_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UnknownName, match="unknown backend 'lmbd'; did you mean 'lmdb'"):
        database.check("lmbd")
    monkeypatch.setattr(lmdb_database, "package", None)
    with pytest.raises(Error, match=r"need the package lmdb, which is not installed: pip install -e '.\[lmdb\]'"):
        database.check("lmdb")
    database.check("lmdb", to_write=False)  # they are read without it
