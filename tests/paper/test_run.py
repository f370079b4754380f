"""`make paper`: what is due runs, what is done is kept, a failure or Ctrl-C loses nothing."""

import json
import re

import pytest

from netspec.errors import run_door
from paper import experiment, run

FILE = '''
from paper.experiment import Row

TITLE, PLACE, MINUTES, NEEDS = "Title of {name}", "4.3", 0.01, {needs}


def run(context):
    """Run."""
    {body}
    context.say("half way")
    context.progress(0.5)
    return {{"rows": [Row("claim of {name}", PLACE, "ran", "1", "2", "same shape")],
            "curves": {{"a": {{"x": [1, 2], "y": [3, None], "label": "curve"}}}},
            "pictures": {{"dot": __import__("numpy").zeros((2, 3, 3), "uint8")}}}}
'''


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A paper/ of its own; returns a function that adds an experiment to it."""
    for name in ("experiments", "results", "scratch", "docs"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(experiment, "FOLDER", tmp_path / "experiments")
    monkeypatch.setattr(experiment, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(experiment, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr("netspec.files.ROOT", tmp_path)
    monkeypatch.setattr("paper.experiments.__path__", [str(tmp_path / "experiments")])

    def add(name, body="pass", needs=()):
        (tmp_path / "experiments" / f"{name}.py").write_text(FILE.format(name=name, body=body, needs=needs))
        return tmp_path

    return add


def test_results_are_kept_and_reused(room, capsys):
    there = room("kept_a")
    room("kept_b")
    assert run_door(run.main, []) == 0
    assert "2 experiments to run" in capsys.readouterr().err
    result = json.loads((there / "results" / "kept_a.json").read_text())
    assert result["rows"][0]["claim"] == "claim of kept_a" and result["seed"] == experiment.SEED and result["machine"]
    assert (there / "results" / "kept_a" / "dot.png").exists()
    for page in ("paper.md", "paper.html"):
        assert "claim of kept_b" in (there / "docs" / page).read_text()
    assert run_door(run.main, []) == 0
    assert "0 experiments to run; 2 have a result that still holds" in capsys.readouterr().err
    assert run_door(run.main, ["kept_a", "--force"]) == 0
    assert "1 experiments to run; 0 have" in capsys.readouterr().err


def test_a_changed_experiment_runs_again_and_is_not_on_the_page_before(room, capsys):
    there = room("changed_a")
    assert run_door(run.main, []) == 0
    room("changed_a", "x = 1")
    assert run_door(run.main, ["--page"]) == 0
    assert "not on the page: changed_a.json" in capsys.readouterr().err
    assert "claim of changed_a" not in (there / "docs" / "paper.md").read_text()
    assert run_door(run.main, ["--list"]) == 0
    assert "of an older version" in capsys.readouterr().out
    assert run_door(run.main, []) == 0
    assert "claim of changed_a" in (there / "docs" / "paper.md").read_text()


def test_a_failing_experiment_is_reported_and_does_not_stop_the_others(room, capsys):
    there = room("failing_a", "raise ZeroDivisionError('by hand')")
    room("failing_b")
    assert run_door(run.main, []) == 1
    err = capsys.readouterr().err
    assert "failed: failing_a: ZeroDivisionError: by hand" in err and "Traceback" in err
    assert [path.name for path in (there / "results").glob("*.json")] == ["failing_b.json"]
    assert "failing_a" not in (there / "docs" / "paper.md").read_text()


def test_ctrl_c_keeps_what_is_done(room, capsys):
    there = room("stopped_a")
    room("stopped_b", "raise KeyboardInterrupt")
    room("stopped_c")
    assert run_door(run.main, []) == 130
    assert [path.name for path in (there / "results").glob("*.json")] == ["stopped_a.json"]
    assert "claim of stopped_a" in (there / "docs" / "paper.md").read_text()


def test_what_needs_real_images_waits_for_them_and_keeps_its_pictures_out_of_docs(room, capsys):
    there = room("real_a", needs=("real",))
    assert run_door(run.main, []) == 0
    assert "not run: real_a needs a folder of real photographs" in capsys.readouterr().err
    assert not list((there / "results").glob("*"))
    assert run_door(run.main, ["--real", str(there)]) == 0
    assert not (there / "results" / "real_a").exists()
    assert "<img" not in (there / "docs" / "paper.html").read_text()
    assert "dot.png" not in (there / "docs" / "paper.md").read_text()
    assert (there / "scratch" / "paper.html").read_text().count("<img") == 1


def test_list_says_name_place_and_state(room, capsys):
    room("listed_a", needs=("real",))
    assert run_door(run.main, ["--list"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"listed_a +4.3 +0.0 +real +none +Title of listed_a", out)


@pytest.mark.parametrize("words, code, why", [
    (["bilinaer"], 2, "no experiment 'bilinaer'; did you mean 'bilinear'"),
    (["--real", "/nowhere"], 1, "folder '/nowhere' of --real not found"),
    (["--device", "x9"], 2, "device"),
])
def test_bad_options(words, code, why, capsys):
    assert run_door(run.main, words) == code
    assert why in capsys.readouterr().err


def test_the_time_left_follows_what_is_measured():
    assert run.clock(0.5) == "30 s" and run.clock(12.3) == "12 min"
    bar = run.Bar([1.0, 2.0])
    with bar:
        bar.number, bar.begun = 0, run.time.perf_counter() - 30
        bar.progress(0.25)
        assert bar.minutes[0] == pytest.approx(2.0, rel=0.01)
        bar.progress(0.001)  # too early to tell
        assert bar.minutes[0] == pytest.approx(2.0, rel=0.01)
