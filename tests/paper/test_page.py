"""The pages: rows by section, verdicts, curves, nothing of a row read as markup."""

import html.parser

from data import curves
from paper import page


def result(**more):
    row = {"claim": "a <b> | c & `code`", "place": "4.3, Table 3", "ran": "`make`", "paper": "63.6", "ours": 0.5,
           "verdict": "reproduced", "note": "a note"}
    return {"name": "one", "title": "Title", "place": "4.3", "rows": [row], "needs": [], "curves": {}, "pictures": [],
            "seconds": 1.0, "date": "2016-05-20", "seed": 1, "revision": "abc", "machine": "m", **more}


class Balanced(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_rows_are_escaped_and_code_is_kept():
    text = page.markdown([result()])
    assert "| a <b> \\| c & `code`<br>*a note* | 4.3, Table 3 | 63.6 | 0.5 | ✓ reproduced | `make` (`one`) |" in text
    text = page.page([result()], {})
    assert "a &lt;b&gt; | c &amp; <code>code</code>" in text
    Balanced().feed(text)


def test_sections_are_in_the_papers_order():
    rows = [{**result()["rows"][0], "place": place, "claim": place}
            for place in ("6.3", "Table 1", "Fig. 5", "3.1", "4.1", "Table 8")]
    text = page.markdown([result(rows=rows)])
    places = ["## 3.1 ", "| 3.1<", "## 4.1 ", "| 4.1<", "| Table 1<", "## 4.4 ", "| Fig. 5<", "## 6.1 ", "| Table 8<", "## 6.3 "]
    assert sorted(places, key=text.index) == places


def test_verdicts_are_counted():
    rows = [{**result()["rows"][0], "verdict": verdict} for verdict in ("needs data", "needs data", "same shape")]
    assert page.counts([result(rows=rows)]) == {"reproduced": 0, "same shape": 1, "not reproduced": 0, "needs data": 2}


def test_curves_share_a_drawing_when_they_share_a_figure():
    curves = {name: {"x": [0, 1, 2], "y": [1, None, 3], "label": f"<{name}>", "figure": figure, "x_label": "iteration"}
              for name, figure in (("a", "F"), ("b", "F"), ("c", "G"))}
    text = page.page([result(curves=curves)], {})
    assert text.count("<svg") == 2 and "&lt;a&gt;" in text and "iteration" in text
    Balanced().feed(text)


def test_a_drawing_leaves_gaps_and_goes_logarithmic():
    svg = curves.drawing("t", {"a": {"x": [0, 1, 2, 3], "y": [1, 10, None, 1000]}})
    assert svg.count("M") == 2 and ">1000<" in svg and ">10<" in svg
    assert curves.drawing("t", {"a": {"x": [0], "y": [None]}}) == ""
    assert curves.drawing("t", {"a": {"x": [1], "y": [0.0]}}).startswith("<svg")


def test_a_long_curve_keeps_its_peaks():
    points = [(float(x), 0.0) for x in range(5000)]
    points[1234] = (1234.0, 9.0)
    kept = curves.thinned(points)
    assert len(kept) <= curves.MOST + 1 and (1234.0, 9.0) in kept and kept == sorted(kept) and kept[-1] == points[-1]


def test_round_numbers_cover_the_values():
    assert curves.round_numbers(0.3, 9.7, 5) == [0, 2, 4, 6, 8, 10]
    assert curves.round_numbers(5, 5, 5)[0] <= 5 <= curves.round_numbers(5, 5, 5)[-1]
