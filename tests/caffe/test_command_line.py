import importlib
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2, weights
from solvers import solver, testing, timing
from tests.solvers import doors, small
from tests.support import ROOT

command_line = importlib.import_module("caffe.__main__")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    small.write(tmp_path, small.NET.replace('batch_size: 1', 'batch_size: 2'))
    return tmp_path


@pytest.fixture
def caffe(capsys):
    return lambda *words: doors.run(capsys, command_line.main, *words)


@pytest.fixture
def refused(capsys):
    return lambda *words, code=1: doors.refused(capsys, command_line.main, *words, code=code)


def test_train_writes_the_snapshot_and_says_what_caffe_says(caffe):
    code, out, err = caffe("train", "-solver", "solver.prototxt")
    assert (code, out) == (0, "out/snap_iter_20.caffemodel\n")
    assert "Use CPU." in err and "Starting Optimization" in err and "Optimization Done." in err and "Iteration 19" in err


def test_flags_are_taken_in_each_of_the_ways_that_caffe_takes_them(caffe):
    caffe("train", "-solver", "solver.prototxt")
    first = weights.read_weights("out/snap_iter_20.caffemodel").layers["conv1"][0].data.copy()
    for words in (["--solver", "solver.prototxt"], ["-solver=solver.prototxt"], ["--solver=solver.prototxt"]):
        os.remove("out/snap_iter_20.caffemodel")
        assert caffe("train", *words)[0] == 0
        assert np.array_equal(weights.read_weights("out/snap_iter_20.caffemodel").layers["conv1"][0].data, first)


def test_train_goes_on_from_a_snapshot(caffe, here):
    caffe("train", "-solver", "solver.prototxt")
    whole = weights.read_weights("out/snap_iter_20.caffemodel").layers["conv1"][0].data.copy()
    (here / "solver.prototxt").write_text(small.SOLVER.replace("max_iter: 20", "max_iter: 8"))
    caffe("train", "-solver", "solver.prototxt")
    (here / "solver.prototxt").write_text(small.SOLVER)
    code, _, err = caffe("train", "-solver", "solver.prototxt", "-snapshot", "out/snap_iter_8.solverstate")
    assert code == 0 and "Resuming from out/snap_iter_8.solverstate" in err
    assert np.array_equal(weights.read_weights("out/snap_iter_20.caffemodel").layers["conv1"][0].data, whole)


def test_train_keeps_layers_of_the_stage_and_level_alone(caffe, here, refused):
    net = small.NET.replace('name: "drop1"', 'name: "drop1" include { stage: "wild" min_level: 2 }')
    (here / "net.prototxt").write_text(net)
    (here / "solver.prototxt").write_text(small.SOLVER.replace("max_iter: 20", "max_iter: 1"))
    seen = []
    for words in ([], ["-stage", "wild,other", "-level", "2"]):
        assert caffe("train", "-solver", "solver.prototxt", *words)[0] == 0
        seen.append([layer.name for layer in _net_of("out/snap_iter_1.caffemodel").layer])
    assert "drop1" not in seen[0] and "drop1" in seen[1]


def _net_of(path):
    net = caffe_pb2.NetParameter()
    with open(path, "rb") as file:
        net.ParseFromString(file.read())
    return net


def test_train_refuses_snapshot_and_weights_together_and_no_solver(refused, caffe):
    line = refused("train", "-solver", "solver.prototxt", "-snapshot", "a.solverstate", "-weights", "b.caffemodel", code=2)
    assert "-snapshot to resume training or -weights to finetune" in line
    code, _, err = caffe("train")
    assert code == 2 and "-solver" in err


def test_missing_and_misspelt_things_are_said(refused, caffe):
    assert "tried: " in refused("train", "-solver", "solvr.prototxt")
    assert "did you mean 'train'?" in refused("trian", code=2)
    assert caffe("train", "-solvr", "solver.prototxt")[0] == 2
    assert "needs -weights" in refused("test", "-model", "net.prototxt", code=2)
    assert "tried: " in refused("test", "-model", "net.prototxt", "-weights", "none.caffemodel")
    assert "on one card so far" in refused("time", "-model", "net.prototxt", "-gpu", "all")
    assert caffe("time", "-model", "net.prototxt", "-iterations", "0")[0] == 2


def test_test_logs_each_batch_and_the_means_of_caffe(caffe, here):
    caffe("train", "-solver", "solver.prototxt")
    code, _, err = caffe("test", "-model", "net.prototxt", "-weights", "out/snap_iter_20.caffemodel", "-iterations", "3")
    assert code == 0
    batches = [float(x) for x in re.findall(r"Batch \d, loss = (\S+)", err)]
    loss = float(re.search(r"Loss: (\S+)", err)[1])
    mean = float(re.search(r"\] loss = (\S+) \(\* 1 = (\S+) loss\)", err)[1])
    assert len(batches) == 3 and "Running for 3 iterations." in err
    assert loss == pytest.approx(np.mean(batches), rel=1e-5) and mean == pytest.approx(loss, rel=1e-5)


def test_test_means_equal_a_loop_over_forward():
    net = Net("net.prototxt", caffe_pb2.TEST, seed=1)
    loss, means = testing.test(net, 4)
    again = Net("net.prototxt", caffe_pb2.TEST, seed=1)
    losses = [again.forward() for _ in range(4)]
    assert loss == pytest.approx(np.mean(losses), rel=1e-12)
    assert [name for name, _ in means] == ["loss"] and means[0][1] == pytest.approx(np.mean(losses), rel=1e-6)


def test_time_prints_a_forward_and_a_backward_line_for_each_layer(caffe):
    code, _, err = caffe("time", "-model", "net.prototxt", "-iterations", "2")
    assert code == 0
    for what in ("forward", "backward"):
        found = re.findall(rf"\] +(\S+)\t{what}: [\d.e-]+ ms\.", err)
        assert found == ["in", "frozen", "conv1", "relu1", "drop1", "score", "loss"]
    assert re.search(r"conv1\tforward: .* GFLOP/s, \d+ % of the peak", err)
    for line in ("*** Benchmark begins ***", "Testing for 2 iterations.", "Average Forward pass: ", "Average Backward pass: ",
                 "Average Forward-Backward: ", "Total Time: ", "*** Benchmark ends ***"):
        assert line in err


def test_the_stopwatch_leaves_the_net_as_it_was_and_finds_fused_layers():
    net = Net("net.prototxt", caffe_pb2.TEST, seed=1)
    before = net.forward()
    methods = [dict(vars(layer)) for layer in net.layers]
    with timing.Stopwatch(net) as watch:
        net.forward()
        assert {number: net.layer_names[by] for number, by in watch.within.items()} == {3: "conv1"}
        assert set(watch.take()) >= {0, 1, 2, 5, 6} and not watch.take()
    assert [set(vars(layer)) for layer in net.layers] == [set(one) for one in methods]
    assert isinstance(before, float)


def test_products_of_backward_count_what_is_wanted():
    net = Net("net.prototxt", caffe_pb2.TRAIN, seed=1)
    forward, backward, passes = timing.measure(net, 1)
    of = dict(zip(net.layer_names, zip(forward, backward)))
    assert of["frozen"][1].macs == 0  # nothing below learns
    assert of["conv1"][0].macs == of["conv1"][1].macs == 2 * 6 * 5 * 5 * 3 * 9  # its weights, not its bottom
    assert of["score"][1].macs == 2 * of["score"][0].macs
    assert all(seconds > 0 for seconds in passes) and sum(one.seconds for one in forward) > 0


def test_the_peak_is_that_of_a_real_product():
    assert 1e8 < timing.peak() < 1e15


def test_device_query_names_the_processor(caffe, refused):
    code, out, _ = caffe("device_query")
    assert code == 0 and out.startswith("CPU: ") and "threads" in out
    refused("device_query", "-gpu", "63")
    assert "takes a card's number" in refused("device_query", "-gpu", "first", code=2)


def test_upgrade_tools_have_their_names_in_caffe(caffe, here):
    (here / "old.prototxt").write_text('input: "data" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5\n'
                                       'layers { name: "r" type: RELU bottom: "data" top: "r" }\n')
    code, _, err = caffe("upgrade_net_proto_text", "old.prototxt", "new.prototxt")
    assert code == 0 and 'type: "ReLU"' in (here / "new.prototxt").read_text() and "Input" in (here / "new.prototxt").read_text()
    (here / "old_solver.prototxt").write_text('net: "net.prototxt" solver_type: ADAM\n')
    assert caffe("upgrade_solver_proto_text", "old_solver.prototxt", "new_solver.prototxt")[0] == 0
    assert 'type: "Adam"' in (here / "new_solver.prototxt").read_text()


@pytest.mark.parametrize("effect, snapshots, code", [("none", 0, None), ("snapshot", 1, None), ("stop", 1, 130)])
def test_ctrl_c_does_what_sigint_effect_says(here, effect, snapshots, code):
    (here / "solver.prototxt").write_text(
        small.SOLVER.replace("max_iter: 20", "max_iter: 1000000") + "snapshot_after_train: false\n")
    process = subprocess.Popen([sys.executable, "-m", "caffe", "train", "-solver", "solver.prototxt", "-sigint_effect", effect],
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    try:
        _read_until(process, "Iteration 3 ")
        process.send_signal(signal.SIGINT)
        if code is None:
            if snapshots:
                _read_until(process, "Snapshotting solver state")
            _read_until(process, "Iteration ")
            _read_until(process, "Iteration ")
            assert process.poll() is None
        else:
            process.communicate(timeout=60)
            assert process.returncode == code
        assert len(list((here / "out").glob("*.solverstate"))) >= snapshots
        assert snapshots or not list((here / "out").glob("*.solverstate"))
    finally:
        process.kill()
        process.communicate()


def _read_until(process, words):
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"'{words}' never came")


def test_a_solver_of_the_file_is_the_one_that_trains(caffe):
    machine = solver.make("solver.prototxt")
    machine.step(20)
    caffe("train", "-solver", "solver.prototxt")
    assert np.array_equal(weights.read_weights("out/snap_iter_20.caffemodel").layers["score"][0].data,
                          machine.net.params["score"][0].data)
    machine.close()
