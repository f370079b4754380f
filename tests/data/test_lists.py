import pytest

from data.lists import ImageList
from netspec.errors import Error, PathError


def test_paths_may_hold_spaces_and_empty_lines_are_left_out(tmp_path):
    (tmp_path / "list.txt").write_text("\ufeffa cat.jpg 3\n\n b.jpg  -1 \r\n")
    assert ImageList(tmp_path / "list.txt").entries == [("a cat.jpg", 3, 1), ("b.jpg", -1, 3)]


@pytest.mark.parametrize("text, message", [
    ("a.jpg 1\nb.jpg\n", "list.txt:2: a line is a path, a space and an integer label; got 'b.jpg'"),
    ("a.jpg 1.5\n", "list.txt:1: a line is"), ("7\n", "list.txt:1: .*here is no path"), ("\n", "lists no picture")])
def test_bad_lines_are_named(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(Error, match=message):
        ImageList(tmp_path / "list.txt")


def test_a_missing_picture_is_named_with_its_line(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg 1\nb.jpg 1\n")
    (tmp_path / "b.jpg").write_text("x")
    listed = ImageList(tmp_path / "list.txt")
    assert listed.find(1, "") == (str(tmp_path / "b.jpg"), f"image of {tmp_path / 'list.txt'}:2")
    with pytest.raises(PathError, match="image of .*list.txt:1 'a.jpg' not found; tried: .*a.jpg"):
        listed.find(0, "")
