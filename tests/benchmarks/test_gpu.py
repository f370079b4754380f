"""The command that measures cards: its parts run on a simulated one, its table tells met goals from missed ones."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from benchmarks import gpu, gpu_report
from benchmarks.gpu_parts import PARTS
from layers.core.cuda import resources
from netspec.errors import Error
from solvers import solver
from tests.support import ROOT


def test_parts_run_on_a_simulated_card_and_what_they_found_is_written(tmp_path):
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "DEEPJET_THREADS": "1"}
    parts = ["machine", "compile", "ceilings", "steps"]
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu", "--toy", "--parts", *parts, "--out", str(tmp_path)], cwd=ROOT,
                          env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    path, = tmp_path.glob("*-simulated.json")
    found = json.loads(path.read_text())["parts"]
    assert list(found) == parts and not any("stopped" in part for part in found.values())
    assert found["compile"]["kernels"] > 50 and found["ceilings"]["copies"]["ours"] > 0
    steps = found["steps"]["steps"]
    assert [step["name"] for step in steps] == ["conv1 + pooling", "score_fr", "upscore + crop"]
    assert steps[1]["operations"] == 2 * 3 * 2 * 16 and steps[1]["bytes"] == 4 * (2 * 16 + 3 * 16 + 3 * 2)
    assert "| conv1 + pooling |" in path.with_suffix(".md").read_text()


def test_no_card_is_one_line_and_status_2(monkeypatch, capsys):
    def none(device):
        raise Error("no card 0")

    monkeypatch.setattr(gpu.cards, "find", none)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "benchmarks.gpu: no card 0\n"


def test_a_part_that_fails_or_takes_too_long_keeps_what_it_found(tmp_path, monkeypatch):
    program = tmp_path / "program"
    monkeypatch.setattr(gpu.sys, "executable", str(program))

    def run(text):
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        return gpu._run("sizes", str(tmp_path), True, 100)

    assert run('echo \'{"sizes": [1]}\' > "$5"; echo error: the reason; exit 3') == {
        "sizes": [1], "stopped": "failed (3): error: the reason", "log": ["error: the reason"]}
    monkeypatch.setitem(PARTS, "sizes", (None, 0.1))
    monkeypatch.setattr(gpu, "LEAST", 0)
    assert run("sleep 20; echo more")["stopped"].startswith("took more than")
    monkeypatch.setattr(gpu, "LEAST", 5)
    assert gpu._run("sizes", str(tmp_path), False, 3) == {"stopped": "no time was left"}


def results(**changed):
    """Return what parts could have found."""
    return {
        "goldens": {"counts": {"passed": 90}, "good": True},
        "kernels": {"good": True, "comparisons": [
            {"what": "a", "how": "float32", "difference": 1e-7, "limit": 1e-6, "good": True}]},
        "accuracy": {"scores": {"fp32 64x64 against float64": {"error": 1e-6, "same class": 1.0, "same bits": True}},
                     "training": {"same bits": True}},
        "forwards": {"nets": {"FCN-8s": {"seconds": {"fp32": 0.02, "torch fp32": 0.01, "tf32": 0.006, "torch tf32": 0.005},
                                         "graph": {"fp32": True}, "difference": {}}}},
        "idle": {"forward": {"replayed": 1.0, "plain": 1.5, "graph": True, "launches": 3, "busy": 0.97,
                             "kernels": {"k": [3, 0.97]}}},
        **changed}


def test_goals_are_met_missed_or_not_measured():
    page = gpu_report.markdown("Card", results(), "run", 1)
    rows = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if line.startswith("| ")}
    assert rows["FCN-8s forward, fp32, ours / torch's"].endswith("| 2 | **missed** |")
    assert rows["FCN-8s forward, tf32, ours / torch's"].endswith("| 1.2 | met |")
    assert rows["FCN-8s training step, fp32, ours / torch's"].endswith("| - | not measured |")
    assert rows["share of the forward in which the card does nothing"].endswith("| 0.03 | met |")
    assert rows["right: Caffe's recorded layers and nets"].endswith("| 90 passed | met |")
    assert "| FCN-8s | 20.000 ms | 10.000 ms (2.00) | 6.000 ms | 5.000 ms (1.20) |" in page


@pytest.mark.parametrize("changed, right", [
    ({}, True),
    ({"goldens": {"counts": {"passed": 89, "failed": 1}, "good": False}}, False),
    ({"sizes": {"stopped": "failed (1)"}}, False),
    ({"accuracy": {"scores": {"fp32 64x64 against float64": {"error": 1e-3, "same class": 1.0, "same bits": True}}}}, False),
    ({"accuracy": {"scores": {"fp32 64x64 against float64": {"error": 1e-6, "same class": 1.0, "same bits": False}}}}, False),
])
def test_the_status_says_whether_all_is_right(changed, right):
    assert gpu_report.all_right(results(**changed)) is right


def test_a_part_that_was_stopped_half_way_leaves_the_others_their_tables():
    page = gpu_report.markdown("Card", results(ceilings={"stopped": "took more than 1 s: x"}), "run", 1)
    assert "Stopped: took more than 1 s: x" in page and "Incomplete" in page and "| FCN-8s | 20.000 ms |" in page


def test_the_readme_lists_every_kernel():
    for stem in solver.types().values():  # they have kernels, too
        importlib.import_module(f"solvers.{stem}")
    page = (ROOT / "benchmarks/results/README.md").read_text()
    rows = {line.split("`")[1]: line.split("|")[2] for line in page.splitlines()
            if line.startswith(("| `layers.", "| `solvers."))}
    for kernel in resources.all_kernels():
        module, _, name = kernel.name.rpartition(".")
        if not module.startswith("tests"):  # other tests declare some
            assert name in rows[module].replace(",", "").split(), f"{kernel.name}: say whether it has run on a card"
    assert all(f"\n| {name} |" in page or name.startswith("memory") for name in PARTS)
