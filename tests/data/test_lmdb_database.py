"""Our reader against LMDB's own library, and against what that one would end the process at."""

import os
import random
import struct

import pytest

from data import database
from netspec.errors import Error
from tests.data import records

lmdb = records.need("lmdb")


def make(folder, made, deleted=()):
    """Write a database with the library alone."""
    with lmdb.open(os.fspath(folder), map_size=1 << 28) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in made.items():
                transaction.put(key, value)
        with environment.begin(write=True) as transaction:
            for key in deleted:
                transaction.delete(key)
    return folder / "data.mdb"


@pytest.mark.parametrize("count, largest", [(1, 10), (5, 20000), (100, 1500), (2000, 40), (600, 3000), (40, 100000)])
def test_every_record_is_read(tmp_path, count, largest):
    draw = random.Random(count)
    made = {draw.randbytes(draw.randrange(1, 30)): draw.randbytes(draw.randrange(largest)) for _ in range(count)}
    gone = list(made)[::3] if count > 1 else []
    make(tmp_path / "db", made, gone)
    expected = sorted(item for item in made.items() if item[0] not in gone)
    found = database.open_database(tmp_path / "db", "lmdb")
    assert list(found.read()) == expected
    for place in draw.sample(range(len(expected)), min(5, len(expected))):
        assert list(found.read(expected[place][0])) == expected[place + 1:]
    assert list(database.open_database(tmp_path / "db" / "data.mdb", "lmdb").read()) == expected


def test_the_library_reads_what_is_written(tmp_path):
    made = records.some(2500)
    path = records.write(tmp_path / "db", "lmdb", made)
    with lmdb.open(os.fspath(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        assert list(transaction.cursor()) == made


def test_a_full_map_is_made_larger(tmp_path, monkeypatch):
    monkeypatch.setattr("data.lmdb_database.FIRST_SIZE", 1 << 16)
    made = records.some(300, 500)
    assert list(database.open_database(records.write(tmp_path / "db", "lmdb", made), "lmdb").read()) == made


@pytest.mark.parametrize("length", [0, 100, 4096, 9000, -4096, -1])
def test_a_truncated_file_is_named(tmp_path, length):
    path = make(tmp_path / "db", dict(records.some(300)))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Error, match="LMDB database '.*db': .*data.mdb' .*(is truncated|no LMDB file)"):
        database.open_database(tmp_path / "db", "lmdb")


def test_damage_is_an_error_and_never_more(tmp_path):
    draw = random.Random(0)
    path = make(tmp_path / "db", {b"%06d" % number: bytes(draw.choice([30, 3000, 9000])) for number in range(300)})
    whole, said = path.read_bytes(), 0
    # Where pages begin: what stands on the others are values, of which nothing can be known.
    pages = [place for place in range(0, len(whole), 4096) if struct.unpack_from("<Q", whole, place)[0] == place // 4096]
    for _ in range(100):
        damaged, place = bytearray(whole), draw.choice(pages) + draw.randrange(0, 40)
        damaged[place:place + 4] = draw.randbytes(4)
        path.write_bytes(damaged)
        try:
            list(database.open_database(tmp_path / "db", "lmdb").read())
        except Error as error:
            said += 1
            assert "db" in str(error)
    assert said > 20


def test_pages_that_lead_to_themselves_end(tmp_path):
    path = make(tmp_path / "db", {b"%06d" % number: bytes(500) for number in range(300)})
    damaged = bytearray(path.read_bytes())
    for place in range(2 * 4096, len(damaged), 4096):
        number, _, flags, lower, _ = struct.unpack_from("<QHHHH", damaged, place)
        if flags == 1:  # a branch: let each node lead to the branch
            for begin in struct.unpack_from(f"<{(lower - 16) // 2}H", damaged, place + 16):
                struct.pack_into("<HHH", damaged, place + begin, number, 0, 0)
    path.write_bytes(damaged)
    with pytest.raises(Error, match="damaged: page .* does not hold together"):
        list(database.open_database(tmp_path / "db", "lmdb").read())


def test_several_values_a_key_are_refused(tmp_path):
    path = make(tmp_path / "db", {b"a": b"1"})
    changed = bytearray(path.read_bytes())
    for place in (0, 4096):  # the meta pages; MDB_DUPSORT is 4
        struct.pack_into("<H", changed, place + 16 + 24 + 48 + 4, 4)
    path.write_bytes(changed)
    with pytest.raises(Error, match="has several values a key"):
        database.open_database(tmp_path / "db", "lmdb")
