import re

import numpy as np
import pytest
from PIL import Image

from solvers import plot
from tests.solvers import doors
from tests.solvers.test_train_log import CAFFE


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, step in (("a", 1), ("b", 2)):
        more = "".join(f"Iteration {20 * i}, loss = {5 - i * step}\n" for i in (2, 3))
        doors.write(tmp_path / name / "train.log", CAFFE + more)
    return tmp_path


def test_logs_share_each_drawing_and_are_told_apart(capsys, here):
    code, out, _ = doors.run(capsys, plot.main, "a/train.log", "b/train.log")
    page = (here / "plot.html").read_text()
    assert (code, out) == (0, "plot.html\n")
    assert re.findall(r"<h2>(.*?)</h2>", page)[:2] == ["loss", "learning rate"]
    assert page.count("a/train.log</li>") == page.count("b/train.log</li>") > 1
    assert "2 at 60" in page and "-1 at 60" in page  # last values in the table
    assert "http" not in page.replace("http-equiv", "")  # needs nothing else


def test_a_picture_has_a_panel_for_each_drawing(capsys):
    doors.run(capsys, plot.main, "a/train.log", "-o", "two.png", "--only", "loss,learning rate")
    doors.run(capsys, plot.main, "a/train.log", "-o", "one.png", "--only", "loss")
    one, two = Image.open("one.png"), Image.open("two.png")
    assert two.size == (one.width, 2 * one.height)
    assert (np.asarray(one) != 255).any(-1).mean() > 0.003  # lines and words


def test_only_and_output_are_checked_and_list_draws_nothing(capsys, here):
    assert "did you mean 'loss'" in doors.refused(capsys, plot.main, "a/train.log", "--only", "los", code=2)
    assert ".html or .png" in doors.refused(capsys, plot.main, "a/train.log", "-o", "x.pdf", code=2)
    assert "tried: " in doors.refused(capsys, plot.main, "c/train.log")
    code, out, _ = doors.run(capsys, plot.main, "a/train.log", "--list")
    assert code == 0 and "loss: 4 values" in out and not list(here.glob("*.html"))


def test_names_say_no_more_than_tells_them_apart():
    assert plot.names(["/x/a.log", "/x/b.log"]) == ["a.log", "b.log"]
    assert plot.names(["/x/1/a.log", "/x/2/a.log"]) == ["1/a.log", "2/a.log"]
    assert plot.names(["/x/a.log", "/x/a.log"]) == ["/x/a.log (1)", "/x/a.log (2)"]
