"""Finding, reading and writing files."""

import pytest

from netspec import files
from netspec.errors import Error, PathError


def test_places_are_tried_in_order_and_all_named(tmp_path, monkeypatch):
    root, here, models = (tmp_path / name for name in ("root", "here", "models"))
    for folder in (root, here, models):
        folder.mkdir()
    monkeypatch.setattr(files, "ROOT", root)
    monkeypatch.chdir(here)
    solver = models / "solver.prototxt"
    for folder in (root, models, here):
        (folder / "list.txt").write_text("x")
        assert files.find("list.txt", beside=solver) == str(folder / "list.txt")
    with pytest.raises(PathError, match=f"list 'none.txt' not found; tried: {here}/none.txt, {models}/none.txt, {root}/none"):
        files.find("none.txt", beside=solver, what="list")


def test_what_is_no_text_is_told_by_its_first_odd_byte(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"one\ntw\xf6\n")
    with pytest.raises(Error, match=r"list.txt' is not a text file \(UTF-8\): byte 6 is 0xf6$"):
        files.read_text(tmp_path / "list.txt")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), ValueError("ours")])
def test_a_file_that_is_not_finished_never_appears(tmp_path, error):
    path = tmp_path / "new folder" / "weights.caffemodel"
    with pytest.raises(type(error) if not isinstance(error, OSError) else Error), files.atomic(path) as file:
        file.write(b"half")
        raise error
    assert list(path.parent.iterdir()) == []


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a b ü.txt"
    files.write_text(path, "old")
    with pytest.raises(ValueError), files.atomic(path) as file:
        file.write(b"new")
        raise ValueError
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    files.write_text(path, "new")
    assert path.read_text() == "new"


def test_a_folder_in_the_way_is_one_line(tmp_path):
    with pytest.raises(Error, match="cannot write '.*': Is a directory"):
        files.write_text(tmp_path, "x")
    with pytest.raises(Error, match="cannot read '.*': Is a directory"):
        files.read_bytes(tmp_path)
