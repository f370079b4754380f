"""Caffe's own trainings: every parameter after each of eight steps, and a resume from Caffe's snapshots."""

import shutil

import numpy as np
import pytest

from solvers import snapshot, solver
from tests.support import GOLDENS

FOLDER = GOLDENS / "solvers"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz") if path.stem.partition("_")[0].upper() in
               {name.upper() for name in solver.types()})
STEPS = 8
TOLERANCE = 2e-4  # of the largest value of a blob


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("goldens") / "solvers"
    shutil.copytree(FOLDER, folder)
    return folder


@pytest.fixture(autouse=True)
def here(copied, monkeypatch):
    monkeypatch.chdir(copied)
    return copied


def hold(machine, golden, step):
    for layer, blobs in machine.net.params.items():
        for number, blob in enumerate(blobs):
            expected = golden[f"step{step}/{layer}/{number}"]
            assert abs(blob.data - expected).max() <= TOLERANCE * max(abs(expected).max(), 1e-6), (step, layer, number)


def test_there_are_cases():
    assert len([case for case in CASES if case.startswith("sgd_")]) >= 10


@pytest.mark.parametrize("case", CASES)
def test_training_equals_caffes(case, monkeypatch):
    # Caffe's snapshots lie in this folder: ours go nowhere.
    monkeypatch.setattr(snapshot, "write", lambda machine: None)
    golden = np.load(f"{case}.npz")
    machine = solver.make(f"{case}.prototxt")
    machine.net.copy_from("init.caffemodel")
    for step in range(1, STEPS + 1):
        machine.step(1)
        hold(machine, golden, step)
        assert float(machine.net.blobs["loss"].data) == pytest.approx(float(golden[f"step{step}/loss"]), rel=2e-4)


@pytest.mark.parametrize("ending", [".solverstate", ".solverstate.h5"])
@pytest.mark.parametrize("case", CASES)
def test_caffes_snapshot_is_resumed(case, ending, monkeypatch):
    monkeypatch.setattr(snapshot, "write", lambda machine: None)
    golden = np.load(f"{case}.npz")
    machine = solver.make(f"{case}.prototxt")
    machine.restore(f"{case}_iter_3{ending}")
    assert machine.iter == 3
    for layer, blobs in machine.net.params.items():
        for number, blob in enumerate(blobs):
            assert np.allclose(blob.data, golden[f"step3/{layer}/{number}"], rtol=1e-6, atol=1e-8)
    # Caffe's data order is not in its snapshot: bring the data to where it stood, then go on.
    for _ in range(3 * machine.param.iter_size):
        machine.net.forward_from_to(0, 0)
    for step in range(4, STEPS + 1):
        machine.step(1)
        hold(machine, golden, step)


def test_multistep_counts_as_in_caffes_snapshot():
    machine = solver.make("sgd_multistep.prototxt")
    machine.restore("sgd_multistep_iter_3.solverstate")
    assert machine.current_step == 1
