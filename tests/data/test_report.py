"""The page and the contact sheet stand alone, show every row, and survive odd names and losses."""

import base64
import io
import pathlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from data import colors, metrics, report
from data.contact_sheet import contact_sheet
from netspec.errors import Error


def rows(count=3, truth=True):
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        shape = (20 + number, 30 - number)
        label = rng.integers(0, 3, shape).astype(np.uint8)
        label[0] = 255
        made.append((f"id<{number}>", rng.integers(0, 256, (*shape, 3), np.uint8), label if truth else None,
                     rng.integers(0, 3, shape)))
    return made


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in ("img", "meta", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_everything_and_needs_nothing(tmp_path):
    shown = rows()
    hist = sum(metrics.confusion(truth, guess, 3) for _, _, truth, guess in shown)
    page, sheet = report.write_report(tmp_path, "A <title>", shown, ["background", "cat & dog", "cow"],
                                      [(i, 3.0 / (i + 1)) for i in range(100)], metrics.scores(hist), [("net", "<x>")])
    text = pathlib.Path(page).read_text(encoding="utf-8")
    tags = Tags(text)
    assert tags.open == []
    assert len(tags.images) == 12 and all(image["src"].startswith("data:image/") for image in tags.images)
    assert not re.search(r"(https?:)?//\w", re.sub(r'src="data:[^"]*"', "", text))
    assert "A &lt;title&gt;" in text and "cat &amp; dog" in text and "id&lt;0&gt;" in text
    assert "prefers-color-scheme" in text
    assert f"{metrics.scores(hist)['mean_iu']:.3f}" in text
    truth = Image.open(io.BytesIO(base64.b64decode(tags.images[1]["src"].split(",")[1]))).convert("RGB")
    assert np.array_equal(np.asarray(truth), colors.colorize(shown[0][2]))
    with Image.open(sheet) as picture:
        assert picture.width > 600 and picture.height > 400


def test_a_page_without_truth_losses_or_scores(tmp_path):
    page, _ = report.write_report(tmp_path, "plain", rows(2, truth=False), ["a", "b", "c"])
    text = pathlib.Path(page).read_text(encoding="utf-8")
    assert len(Tags(text).images) == 6 and "<svg" not in text and "<table" not in text


def test_many_rows_fit_on_the_sheet(tmp_path):
    assert contact_sheet(rows(9), ["a", "b", "c"]).width > 1200
    assert contact_sheet([], ["a"]).height > 0


def test_a_row_whose_sizes_differ_is_refused(tmp_path):
    name, image, truth, guess = rows(1)[0]
    with pytest.raises(Error, match="truth is"):
        report.write_report(tmp_path, "t", [(name, image, truth[1:], guess)], ["a", "b", "c"])
    with pytest.raises(Error, match="prediction 2 has no name among the 2 classes"):
        report.write_report(tmp_path, "t", [(name, image, truth, guess * 0 + 2)], ["a", "b"])
