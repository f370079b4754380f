"""The page stands alone, shows every row, and survives odd names and losses."""

import base64
import io
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from data import colors, metrics, report
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
    assert report.contact_sheet(rows(9), ["a", "b", "c"]).width > 1200
    assert report.contact_sheet([], ["a"]).height > 0


def curve(losses):
    text = report.loss_curve(losses)
    svg = re.sub(r"=([^\s\">]+)(?=[\s>])", r'="\1"', text[:text.index("</svg>") + 6])
    return ElementTree.fromstring(svg), text


def path_points(svg, kind):
    path = next(p for p in svg.iter("path") if p.get("class") == kind)
    return [tuple(map(float, p.split())) for p in re.split("[ML]", path.get("d"))[1:]], path.get("d")


def test_the_curve_keeps_order_scale_and_the_frame():
    svg, _ = curve([(i, 2 - i / 10) for i in range(11)])
    points, _ = path_points(svg, "mean")
    assert len(points) == 11
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in zip(points, points[1:]))
    assert points[5][1] == pytest.approx((points[0][1] + points[10][1]) / 2, abs=0.2)
    assert all(0 <= x <= 640 and 0 <= y <= 300 for x, y in points)


def test_a_long_curve_is_thinned_without_losing_its_peak_and_gets_a_mean():
    losses = [(i, 1.0) for i in range(50000)]
    losses[31234] = (31234, 9.0)
    svg, text = curve(losses)
    raw, _ = path_points(svg, "raw")
    assert len(raw) <= 800 and min(y for _, y in raw) < 60
    assert "mean of 2000 values" in text and len(text) < 40000


def test_losses_that_are_not_finite_leave_a_gap():
    svg, text = curve([(0, 1.0), (1, 0.5), (2, float("nan")), (3, float("inf")), (4, 0.4), (5, 0.3)])
    assert path_points(svg, "mean")[1].count("M") == 2 and "2 values not finite" in text
    assert report.loss_curve([(0, float("nan"))] * 5) == "" and report.loss_curve([]) == ""


@pytest.mark.parametrize("values", [[0, 0, 0], [1e6, 1e5, 10], [5, 5], [-1, -2, -3], [1e-9, 2e-9], [700000, 30]])
def test_odd_scales_draw(values):
    svg, text = curve(list(enumerate(values)))
    assert path_points(svg, "mean")[0] and "nan" not in text
    assert ("logarithmic" in text) == (min(values) > 0 and max(values) / min(values) > 30)


def test_ticks_are_round_and_cover():
    assert report._ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert report._ticks(0, 93000, 5) == [0, 20000, 40000, 60000, 80000, 100000]
    assert report._short(35000) == "35k" and report._short(2.5e6) == "2.5M" and report._short(1200) == "1200"


def test_a_row_whose_sizes_differ_is_refused(tmp_path):
    name, image, truth, guess = rows(1)[0]
    with pytest.raises(Error, match="truth is"):
        report.write_report(tmp_path, "t", [(name, image, truth[1:], guess)], ["a", "b", "c"])
    with pytest.raises(Error, match="prediction 2 has no name among the 2 classes"):
        report.write_report(tmp_path, "t", [(name, image, truth, guess * 0 + 2)], ["a", "b"])
