import json
import re
import shutil
import xml.etree.ElementTree as xml

import pytest

from netspec import draw, text
from tests.netspec.test_summary import NET
from tests.solvers import doors


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    doors.write(tmp_path / "net.prototxt", NET)
    return tmp_path


def test_layers_in_place_are_in_the_box_of_whose_top_they_change():
    nodes, edges = draw.boxes(text.read_net("net.prototxt"))
    assert [node.names for node in nodes] == [["data"], ["conv1", "relu1"], ["pool1"], ["both"], ["fc"], ["loss"]]
    assert edges == [(0, 1), (1, 2), (2, 3), (2, 3), (3, 4), (4, 5), (0, 5)]
    assert [node.kind for node in nodes] == ["data", "weights", "pool", "other", "weights", "loss"]
    assert nodes[1].text.count("layer {") == 2


def test_the_page_holds_every_layer_its_text_and_needs_nothing_else(capsys, here):
    code, out, _ = doors.run(capsys, draw.main, "net.prototxt", "--input", "data=2,3,8,8", "--input", "label=2,1")
    page = (here / "net.html").read_text()
    assert (code, out) == (0, "net.html\n")
    layers = json.loads(re.search(r'id="layers">(.*?)</script>', page)[1])
    assert [one["names"] for one in layers][1] == ["conv1", "relu1"] and "kernel_size: 3" in layers[1]["text"]
    for words in ("Convolution 5 3x3 pad 1", "2x5x8x8", "+ ReLU relu1", "140 parameters, lr 1 2", "small: &lt;b&gt;"):
        assert words in page, words
    assert "src=" not in page and "https:" not in page


def test_a_name_with_markup_stays_text(here):
    nodes = [draw.Node(["</script><b>"], "data", ["</script><b>"], "</script>")]
    assert "</script>" not in draw.details(nodes) and "<b>" not in draw.svg("t", nodes, [])


@pytest.mark.parametrize("rankdir", draw.DIRECTIONS)
def test_the_svg_is_well_formed_and_flows_as_asked(capsys, here, monkeypatch, rankdir):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert doors.run(capsys, draw.main, "net.prototxt", "-o", "net.svg", "--rankdir", rankdir)[0] == 0
    root = xml.parse(here / "net.svg").getroot()
    boxes = [group.find("{*}rect").attrib for group in root.iterfind("{*}g")]
    along = "y" if rankdir == "TB" else "x"
    assert len(boxes) == 6 and len(root.findall("{*}path")) == 7
    places = [float(box[along]) for box in boxes]
    assert places == sorted(places) and places[0] < places[-1]


def test_shapes_that_cannot_be_known_are_left_out_with_a_warning(capsys, here):
    code, _, err = doors.run(capsys, draw.main, "net.prototxt", "--input", "data=2,3,8,8", "--input", "label=3,1,8")
    assert code == 0 and "warning: drawn without shapes" in err
    assert "Convolution 5 3x3 pad 1" in (here / "net.html").read_text()


def test_dot_names_every_box_and_edge(capsys, here):
    doors.run(capsys, draw.main, "net.prototxt", "-o", "net.dot")
    source = (here / "net.dot").read_text()
    assert source.count("[label=") == 6 and source.count(" -> ") == 7 and "rankdir=TB" in source
    assert r'"small: <b>' in source


def test_png_wants_graphviz_and_says_what_needs_nothing(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    line = doors.refused(capsys, draw.main, "net.prototxt", "-o", "net.png")
    assert "apt install graphviz); .html and .svg need nothing" in line


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_a_png(capsys, here):
    assert doors.run(capsys, draw.main, "net.prototxt", "-o", "net.png")[0] == 0
    assert (here / "net.png").read_bytes().startswith(b"\x89PNG")


def test_graphvizs_failure_is_one_line(capsys, here, monkeypatch):
    program = doors.write(here / "bin" / "dot", "#!/bin/sh\necho 'syntax error' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{here / 'bin'}:/usr/bin:/bin")
    assert "Graphviz's dot failed: syntax error" in doors.refused(capsys, draw.main, "net.prototxt", "-o", "net.png")
    assert not (here / "net.png").exists()


def test_mistakes_are_said(capsys):
    assert "its name must end in" in doors.refused(capsys, draw.main, "net.prototxt", "-o", "net.pdf", code=2)
    assert "tried: " in doors.refused(capsys, draw.main, "nets.prototxt")
    assert "no blob 'dat' to give a shape; did you mean 'data'?" in doors.refused(
        capsys, draw.main, "net.prototxt", "--input", "dat=1,3,8,8", code=2)
