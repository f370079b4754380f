import os
import re

import numpy as np
import pytest
from PIL import Image

from data import convert_imageset, database, datum
from data.decode import decode
from data.resize import resize
from tests.data import records
from tests.data.records import run

SIZES = [(20, 30), (20, 30), (25, 18), (20, 30)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    records.need("lmdb")
    monkeypatch.chdir(tmp_path)
    os.mkdir("images")
    for number, (height, width) in enumerate(SIZES):
        pixels = np.random.RandomState(number).randint(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f"images/{number}.png")
    with open("list.txt", "w") as file:
        file.write("".join(f"{number}.png {number * 10}\n" for number in range(len(SIZES))))
    return tmp_path


def read(name="db", backend="lmdb"):
    """Return [(key, Datum, array)]."""
    found = [(key.decode(), datum.parse(value, key)) for key, value in database.open_database(name, backend).read()]
    return [(key, record, datum.array(record, key)) for key, record in found]


@pytest.mark.parametrize("backend", database.BACKENDS)
def test_pictures_are_written_as_they_are(here, backend, capsys):
    records.need(backend)
    assert run(convert_imageset.main, ["images/", "list.txt", "db", f"-backend={backend}"]) == 0
    said = capsys.readouterr()
    assert said.out == "db\n" and "A total of 4 images." in said.err and "Processed 4 files." in said.err
    found = read(backend=backend)
    assert [key for key, _, _ in found] == [f"0000000{number}_{number}.png" for number in range(4)]
    for number, (_, record, values) in enumerate(found):
        assert not record.encoded and record.label == 10 * number
        assert np.array_equal(values, decode(f"images/{number}.png", True).transpose(2, 0, 1))


def test_resized_grey_and_shuffled(here):
    arguments = ["-gray", "--resize_height=8", "--resize_width", "9", "--shuffle", "-check_size", "-seed", "4"]
    assert run(convert_imageset.main, [*arguments, "images", "list.txt", "db"]) == 0
    assert run(convert_imageset.main, [*arguments, "images", "list.txt", "again"]) == 0
    found = read()
    assert [key for key, _, _ in found] == [key for key, _, _ in read("again")]
    assert sorted(record.label for _, record, _ in found) == [0, 10, 20, 30] != [record.label for _, record, _ in found]
    for key, _, values in found:
        expected = resize(decode(f"images/{key[9:]}", False), 8, 9).transpose(2, 0, 1)
        assert np.array_equal(values, expected)


def test_encoded_files_are_kept_or_made(here):
    assert run(convert_imageset.main, ["images", "list.txt", "db", "-encoded"]) == 0
    assert [record.data for _, record, _ in read()] == [(here / f"images/{number}.png").read_bytes() for number in range(4)]
    assert all(record.encoded for _, record, _ in read())
    assert run(convert_imageset.main, ["images", "list.txt", "jpg", "-encode_type", "jpg"]) == 0
    assert all(record.data.startswith(b"\xff\xd8") for _, record, _ in read("jpg"))
    assert run(convert_imageset.main, ["images", "list.txt", "grey", "-encoded", "-gray"]) == 0
    assert [values.shape for _, _, values in read("grey")] == [(1, *size) for size in SIZES]


@pytest.mark.parametrize("arguments, code, message", [
    (["-check_size"], 1, "list.txt:3: '2.png' has 3 channels of 25x18 .*, that of .*list.txt:1 3 channels of 20x30"),
    (["-backend", "lmbd"], 2, "unknown backend 'lmbd'; did you mean 'lmdb'"),
    (["-resize_height", "5"], 2, "give both or none"),
    (["-encode_type", "psd"], 1, "cannot be encoded as 'psd'"),
    (["-gray=perhaps"], 2, "-gray is on or off"),
    (["-grey"], 2, "unrecognized arguments: -grey"),
])
def test_what_cannot_be_done_is_said(here, capsys, arguments, code, message):
    assert run(convert_imageset.main, ["images/", "list.txt", "db", *arguments]) == code
    assert re.search(message, capsys.readouterr().err)
    assert not os.path.exists("db") and sorted(os.listdir()) == ["images", "list.txt"]


def test_unreadable_pictures_end_it_or_are_left_out_and_named(here, capsys):
    (here / "images/1.png").write_bytes((here / "images/1.png").read_bytes()[:100])
    (here / "images/3.png").unlink()
    assert run(convert_imageset.main, ["images/", "list.txt", "db"]) == 1
    assert "error: cannot read image of" in (said := capsys.readouterr().err) and "list.txt:2 'images/1.png'" in said.replace(
        str(here) + "/", "")
    assert sorted(os.listdir()) == ["images", "list.txt"]
    assert run(convert_imageset.main, ["images/", "list.txt", "db", "-skip_unreadable"]) == 0
    said = capsys.readouterr().err
    assert said.count("left out: ") == 2 and "Processed 2 files. 2 were left out." in said
    assert [key for key, _, _ in read()] == ["00000000_0.png", "00000002_2.png"]
    for number in (0, 2):
        (here / f"images/{number}.png").unlink()
    assert run(convert_imageset.main, ["images/", "list.txt", "none", "-skip_unreadable"]) == 1
    assert "no picture could be read" in capsys.readouterr().err and not os.path.exists("none")


def test_missing_lists_folders_and_what_is_there(here, capsys):
    assert run(convert_imageset.main, ["images/", "lst.txt", "db"]) == 1
    assert "list 'lst.txt' not found; tried" in capsys.readouterr().err
    assert run(convert_imageset.main, ["image/", "list.txt", "db"]) == 1
    assert "list.txt:1 'image/0.png' not found; tried" in capsys.readouterr().err
    os.mkdir("db")
    assert run(convert_imageset.main, ["images/", "list.txt", "db"]) == 1
    assert "is there already; remove it" in capsys.readouterr().err
