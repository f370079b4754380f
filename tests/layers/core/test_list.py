"""The table of layers: printed from the code, and the page of it that lies in docs/."""

import subprocess
import sys

import pytest

from layers.core import catalogue
from layers.core import list as door
from tests.support import ROOT


@pytest.fixture(scope="module")
def found():
    return {row.type: row for row in door.rows()}


def test_the_page_is_what_the_command_writes(found):
    assert door.PAGE.read_text() == door.markdown(list(found.values())), "python -m layers.core.list --write"


def test_every_type_is_listed_with_what_it_is(found):
    assert sorted(found) == catalogue.types()
    assert all(row.what and row.tested for row in found.values()), [row.type for row in found.values() if not row.tested]
    assert "61 of Caffe 1.0's 61" in door.counts(found.values())


def test_oracles_are_found_in_the_tests(found):
    relu = found["ReLU"]
    assert relu.cases == 2 and relu.gradient and relu.opencv and relu.onnx and relu.card and relu.in_place and relu.caffes
    accuracy = found["Accuracy"]
    assert accuracy.cases == 2 and not accuracy.gradient and not accuracy.opencv and not accuracy.in_place
    assert not found["Interp"].caffes and found["Interp"].opencv and not found["Interp"].cases
    assert not found["Data"].card


def test_what_caffe_recorded_is_all_accounted_for(found):
    cases = list((ROOT / "tests" / "goldens" / "layers").glob("*.npz"))
    assert sum(row.cases for row in found.values()) == len(cases) == 112


def test_a_type_without_tests_is_seen_as_such(tmp_path):
    rows = door.rows(tmp_path)
    assert not any(row.tested or row.gradient or row.opencv or row.onnx or row.cases for row in rows)
    assert "ReLU" in door.markdown(rows).split("## What has no other oracle")[1]


def test_the_command(capsys):
    assert door.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["LSTM", "CPU,", "card"] for line in lines) and "layer types: 61 of" in lines[-1]
    assert door.main(["--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Layers\n")
    done = subprocess.run([sys.executable, "-m", "layers.core.list", "--markdwon"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "unrecognized arguments: --markdwon" in done.stderr
