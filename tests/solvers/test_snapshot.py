import json
import os
import random

import h5py
import numpy as np
import pytest

from netspec import caffe_pb2, weights
from netspec.errors import Error
from solvers import snapshot, solver
from tests.solvers import small

HDF5 = caffe_pb2.SolverParameter.HDF5


def make(path, **fields):
    param = solver._read(path)[0]
    for name, value in fields.items():
        setattr(param, name, value)
    return solver.make(param, path=path.name)


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return small.write(tmp_path)


def params(machine):
    return [b.data.copy() for b in machine.net.learnable_params]


@pytest.mark.parametrize("form", [caffe_pb2.SolverParameter.BINARYPROTO, HDF5])
def test_resumed_training_equals_an_unbroken_one_bit_for_bit(path, form):
    whole = make(path, snapshot_format=form)
    whole.step(20)
    first = make(path, snapshot_format=form)
    first.step(10)
    _, state = first.snapshot()
    # Another process would have other random states and another seed.
    random.seed(99)
    np.random.seed(99)
    second = make(path, snapshot_format=form, random_seed=77)
    second.restore(state)
    assert second.iter == 10
    second.step(10)
    for a, b in zip(params(whole), params(second)):
        assert np.array_equal(a, b)
    for a, b in zip(whole.history, second.history):
        assert (a is None and b is None) or np.array_equal(a, b)
    assert whole.smoothed_loss == second.smoothed_loss
    assert whole.pixel_loss.rows() == second.pixel_loss.rows()


def test_global_random_states_are_resumed(path):
    machine = make(path)
    random.seed(1)
    np.random.seed(1)
    _, state = machine.snapshot()
    expected = random.random(), np.random.rand()
    machine.restore(state)
    assert (random.random(), np.random.rand()) == expected


def test_state_holds_caffes_fields(path):
    machine = make(path)
    machine.step(2)
    model, state = machine.snapshot()
    assert (model, state) == ("out/snap_iter_2.caffemodel", "out/snap_iter_2.solverstate")
    message = caffe_pb2.SolverState.FromString((path.parent / state).read_bytes())
    assert (message.iter, message.learned_net, message.current_step) == (2, model, 0)
    shapes = [list(b.shape.dim) for b in message.history]
    assert shapes == [list(b.shape) for b in machine.net.learnable_params]
    assert not any(message.history[0].data)  # the frozen layer is there all the same
    assert np.array_equal(message.history[2].data, machine.history[2].ravel())
    assert json.loads(message.deepjet)["version"] == 1


def test_hdf5_state_holds_caffes_datasets(path):
    machine = make(path, snapshot_format=HDF5)
    machine.step(1)
    model, state = machine.snapshot()
    assert (model, state) == ("out/snap_iter_1.caffemodel.h5", "out/snap_iter_1.solverstate.h5")
    with h5py.File(state) as file:
        assert file["iter"][()].tolist() == [1]
        assert sorted(file["history"]) == [str(i) for i in range(len(machine.history))]


def test_snapshot_diff_writes_diffs(path):
    machine = make(path, snapshot_diff=True)
    machine.step(1)
    model, _ = machine.snapshot()
    with weights.read_weights(model) as found:
        assert np.array_equal(found.layers["conv1"][0].diff, machine.net.params["conv1"][0].diff)


def test_state_moved_with_its_weights_finds_them(path):
    machine = make(path)
    machine.step(1)
    model, state = machine.snapshot()
    os.mkdir("elsewhere")
    for name in (model, state):
        os.rename(name, os.path.join("elsewhere", os.path.basename(name)))
    other = make(path, random_seed=8)
    other.restore("elsewhere/snap_iter_1.solverstate")
    for a, b in zip(params(machine), params(other)):
        assert np.array_equal(a, b)


def test_learned_net_without_extension_and_legacy_history_shapes_are_read(path):
    machine = make(path)
    machine.step(1)
    model, _ = machine.snapshot()
    history = [h if h is not None else np.zeros(s) for h, s in zip(machine.history, machine.history_shapes)]
    flat = [h.reshape(1, 1, 1, -1) if h.ndim == 1 else h for h in history]
    weights.write_solverstate("old.solverstate", 1, model.removesuffix(".caffemodel"), 0, flat)
    other = make(path, random_seed=8)
    other.restore("old.solverstate")
    assert other.iter == 1
    for a, b in zip(params(machine), params(other)):
        assert np.array_equal(a, b)
    assert other.history[3].shape == machine.history[3].shape
    assert np.array_equal(other.history[3], machine.history[3])


def test_weights_given_as_a_snapshot_are_refused_with_the_cure(path):
    machine = make(path)
    machine.step(1)
    model, state = machine.snapshot()
    with pytest.raises(Error, match=f"--snapshot {state}.*--weights {model}"):
        machine.restore(model)


def test_missing_weights_of_a_state_are_an_error_with_every_place(path):
    machine = make(path)
    model, state = machine.snapshot()
    os.remove(model)
    with pytest.raises(Error, match="which are not there; tried: .*snap_iter_0.caffemodel"):
        machine.restore(state)


def test_state_of_another_net_is_refused_and_changes_nothing(path):
    machine = make(path)
    machine.step(1)
    model, _ = machine.snapshot()
    before = params(machine)
    shapes = list(machine.history_shapes)
    weights.write_solverstate("short.solverstate", 7, model, 0, [np.zeros(s) for s in shapes[:-1]])
    with pytest.raises(Error, match="holds 5 history blobs"):
        machine.restore("short.solverstate")
    shapes[2] = (5, 3, 2, 2)
    weights.write_solverstate("other.solverstate", 7, model, 0, [np.zeros(s) for s in shapes])
    with pytest.raises(Error, match=r"history blob 2 has shape \[5, 3, 2, 2\].*\[5, 3, 3, 3\]"):
        machine.restore("other.solverstate")
    assert machine.iter == 1
    for a, b in zip(before, params(machine)):
        assert np.array_equal(a, b)


def test_damaged_record_is_one_clear_error(path):
    machine = make(path)
    model, _ = machine.snapshot()
    weights.write_solverstate("bad.solverstate", 0, model, 0, [np.zeros(s) for s in machine.history_shapes], b"{oops")
    with pytest.raises(Error, match="record of random states and data order is damaged"):
        machine.restore("bad.solverstate")


def test_caffes_state_without_record_is_read(path):
    machine = make(path)
    machine.step(2)
    model, _ = machine.snapshot()
    weights.write_solverstate("caffe.solverstate", 2, model, 3, [np.ones(s) for s in machine.history_shapes])
    other = make(path)
    other.restore("caffe.solverstate")
    assert (other.iter, other.current_step) == (2, 3)
    assert (other.history[0] == 1).all()


def test_weights_that_are_not_finite_are_not_written(path):
    machine = make(path)
    machine.net.params["conv1"][1].data[2] = np.nan
    with pytest.raises(Error, match="parameter 1 of layer 'conv1'"):
        machine.snapshot()
    assert not os.path.exists("out/snap_iter_0.caffemodel")


def test_missing_folder_is_made_beside_the_solver_file(path, tmp_path, monkeypatch):
    os.mkdir("away")
    monkeypatch.chdir("away")
    machine = solver.make(os.path.join("..", "solver.prototxt"))
    assert snapshot.names(machine)[0] == os.path.join("..", "out/snap_iter_0.caffemodel")
    os.mkdir("out")  # Caffe's rule where its folder is there
    assert snapshot.names(machine)[0] == "out/snap_iter_0.caffemodel"


def test_folder_that_cannot_be_written_is_told_before_training(path):
    machine = make(path, snapshot_prefix="file/snap")
    (path.parent / "file").write_text("")
    with pytest.raises(Error, match="cannot write snapshots to .*choose another snapshot_prefix"):
        machine.solve()
    assert machine.iter == 0


def test_full_disk_is_told_before_training(path, monkeypatch):
    machine = make(path)
    monkeypatch.setattr(snapshot.shutil, "disk_usage", lambda folder: type("", (), {"free": 100}))
    with pytest.raises(Error, match="the disk has 0 MiB left"):
        machine.solve()
