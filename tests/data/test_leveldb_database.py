import os

import pytest

from data import database, leveldb_database
from netspec.errors import Error
from tests.data import records

plyvel = records.need("leveldb")


@pytest.fixture
def folder(tmp_path):
    """A database with tables, snappy-compressed as LevelDB does by default, and a log."""
    for first, last in ((0, 380), (380, 400)):  # what the log held becomes a table when it is opened again
        made = plyvel.DB(os.fspath(tmp_path / "db"), create_if_missing=True, compression="snappy")
        for key, value in records.some(400, 100)[first:last]:
            made.put(key, value)
        made.close()
    return tmp_path / "db"


def read(folder):
    return list(database.open_database(folder, "leveldb").read())


def tables(folder):
    return sorted(folder.glob("*.ldb"))


def test_tables_and_log_are_read(folder):
    assert tables(folder) and any(path.stat().st_size for path in folder.glob("*.log"))
    assert read(folder) == records.some(400, 100)


def test_the_library_reads_what_is_written(tmp_path):
    path = records.write(tmp_path / "db", "leveldb", records.some())
    made = plyvel.DB(os.fspath(path))
    assert list(made) == records.some()
    made.close()


def test_a_folder_without_current_and_manifest_is_read_and_stays_so(folder):
    for path in (folder / "CURRENT", *folder.glob("MANIFEST-*")):
        path.unlink()
    for path in tables(folder):
        path.rename(path.with_suffix(".sst"))  # as LevelDB once called them
    before = sorted(os.listdir(folder))
    assert read(folder) == records.some(400, 100)
    assert sorted(os.listdir(folder)) == before


def test_a_folder_that_may_not_be_written_to_is_read(folder):
    folder.chmod(0o555)
    try:
        assert read(folder) == records.some(400, 100)
    finally:
        folder.chmod(0o755)


def test_a_missing_table_is_named(folder):
    gone = tables(folder)[0]
    gone.unlink()
    with pytest.raises(Error, match=f"LevelDB database '.*db': cannot be opened: .*missing files.*{gone.stem}"):
        read(folder)


@pytest.mark.parametrize("keep", [0, 50, 0.5, 0.95])
def test_a_truncated_table_is_named(folder, keep):
    path = tables(folder)[0]
    data = path.read_bytes()
    path.write_bytes(data[:int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(Error, match="LevelDB database '.*db': damaged"):
        read(folder)
    for other in (folder / "CURRENT", *folder.glob("MANIFEST-*")):
        other.unlink()
    with pytest.raises(Error, match=f"these tables are damaged: .*{path.name}|damaged"):
        read(folder)


def test_a_changed_byte_is_noticed(folder):
    path = tables(folder)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Error, match="damaged behind key '0.*block checksum mismatch"):
        read(folder)


def test_a_truncated_log_is_named_although_leveldb_would_read_on(tmp_path):
    made = plyvel.DB(os.fspath(tmp_path / "db"), create_if_missing=True)
    for key, value in records.some(100, 3000):
        made.put(key, value)
    made.close()
    assert read(tmp_path / "db") == records.some(100, 3000)
    log, = (tmp_path / "db").glob("*.log")
    data = log.read_bytes()
    for length in range(len(data) - 1, 0, -len(data) // 25):
        log.write_bytes(data[:length])
        with pytest.raises(Error, match="log' is truncated: it ends at byte"):
            read(tmp_path / "db")
    log.write_bytes(data + bytes(500))  # room that was never used
    assert read(tmp_path / "db") == records.some(100, 3000)


def test_temporary_folders_go_with_the_database(folder, monkeypatch, tmp_path):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path / "temporary"))
    found = database.open_database(folder, "leveldb")
    assert len(os.listdir(tmp_path / "temporary")) == 1
    del found
    assert os.listdir(tmp_path / "temporary") == []


def test_a_forked_process_leaves_the_folder_to_the_one_that_reads(tmp_path):
    leveldb_database._remove(tmp_path, os.getpid() + 1)
    assert tmp_path.exists()
    leveldb_database._remove(tmp_path, os.getpid())
    assert not tmp_path.exists()
