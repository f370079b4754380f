"""The loss curve: its points, its scale, and odd losses."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from data import loss_curve


def curve(losses):
    text = loss_curve.loss_curve(losses)
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
    assert loss_curve.loss_curve([(0, float("nan"))] * 5) == "" and loss_curve.loss_curve([]) == ""


@pytest.mark.parametrize("values", [[0, 0, 0], [1e6, 1e5, 10], [5, 5], [-1, -2, -3], [1e-9, 2e-9], [700000, 30]])
def test_odd_scales_draw(values):
    svg, text = curve(list(enumerate(values)))
    assert path_points(svg, "mean")[0] and "nan" not in text
    assert ("logarithmic" in text) == (min(values) > 0 and max(values) / min(values) > 30)


def test_ticks_are_round_and_cover():
    assert loss_curve._ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert loss_curve._ticks(0, 93000, 5) == [0, 20000, 40000, 60000, 80000, 100000]
    assert loss_curve._short(35000) == "35k" and loss_curve._short(2.5e6) == "2.5M" and loss_curve._short(1200) == "1200"
