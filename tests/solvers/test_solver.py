import datetime
import glob
import os
import re

import numpy as np
import pytest

from netspec import caffe_pb2
from netspec.errors import Error, PathError, UnknownName
from solvers import log, solver
from tests.solvers import small

ACCURACY = """
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" include { phase: TEST }
  accuracy_param { ignore_label: 255 } }
"""
NET = small.NET + ACCURACY
TESTED = small.SOLVER + "test_iter: 2 test_interval: 2\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    return tmp_path


def make(folder, net=NET, text=small.SOLVER, **fields):
    path = small.write(folder, net=net, solver=text)
    param = solver._read(path)[0]
    for name, value in fields.items():
        setattr(param, name, value)
    return solver.make(param, path=path.name)


# --- the log, read as Caffe's stock parsers read it ------------------------------------------------------------------


def parse(text):
    """Return (seconds since "Solving", rows of train outputs, rows of test outputs), by parse_log.py's rules."""
    number = r"([\.\deE+-]+)"
    patterns = {"iteration": r"Iteration (\d+)", "train": r"Train net output #(\d+): (\S+) = " + number,
                "test": r"Test net output #(\d+): (\S+) = " + number,
                "lr": r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)"}
    patterns = {key: re.compile(pattern) for key, pattern in patterns.items()}
    rows, times, iteration, rate, start = {"train": [], "test": []}, [], -1, float("nan"), None
    for line in text.splitlines():
        words = line.split()
        if "Solving" in line and start is None:
            start = when(words)
        found = patterns["iteration"].search(line)
        if found:
            iteration = int(found[1])
        if iteration == -1:
            continue
        times.append((when(words) - start).total_seconds())
        found = patterns["lr"].search(line)
        if found:
            rate = float(found[1])
        for kind in ("train", "test"):
            found = patterns[kind].search(line)
            if found:
                rows[kind].append((iteration, rate, found[2], float(found[3])))
    return times, rows["train"], rows["test"]


def when(words):
    month, day = int(words[0][1:3]), int(words[0][3:])
    clock, microsecond = words[1].rsplit(".", 1)
    hour, minute, second = (int(part) for part in clock.split(":"))
    return datetime.datetime(2024, month, day, hour, minute, second, int(microsecond))


def test_log_is_what_caffes_parsers_read(here, capfd):
    machine = make(here, text=TESTED, base_lr=1e-10, display=2)
    machine.param.max_iter = 4
    machine.solve()
    text = capfd.readouterr().err
    times, train, test = parse(text)
    assert all(later >= earlier >= 0 for earlier, later in zip(times, times[1:]))
    assert [(row[0], row[2]) for row in train] == [(0, "loss"), (2, "loss")]
    assert [row[0] for row in test] == [0, 0, 2, 2, 4, 4]
    assert {row[2] for row in test} == {"accuracy", "loss"}
    assert test[-1][1] == 1e-10
    assert "Solving small" in text and "Learning Rate Policy: fixed" in text and "Optimization Done." in text
    for line in text.splitlines():
        assert re.match(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.]+:\d+\] ", line), line
    assert re.search(r"solver\.cpp:\d+\] Iteration 2 \(\S+ iter/s, \S+s/2 iters\), loss = \S+\n", text)
    assert re.search(r"solver\.cpp:\d+\]     Train net output #0: loss = (\S+) \(\* 1 = \1 loss\)\n", text)
    assert re.search(r"sgd_solver\.cpp:\d+\] Iteration 2, lr = 1e-10\n", text)
    assert re.search(r"solver\.cpp:\d+\] Iteration 4, loss = \S+\n", text)


def test_log_says_the_loss_per_valid_pixel(here, capfd):
    machine = make(here, average_loss=1)
    machine.step(1)
    text = capfd.readouterr().err
    raw = float(re.search(r"output #0: loss = (\S+)", text)[1])
    pixel, valid, total = re.search(r"    Loss per valid pixel: (\S+) \((\d+) of (\d+) pixels\)", text).groups()
    assert (int(valid), int(total)) == (25, 30)
    assert float(pixel) == pytest.approx(raw / 25, rel=1e-4)  # normalize: false and one image


@pytest.mark.parametrize(("loss_param", "factor"), [
    ("normalization: FULL", 60 / 50), ("normalization: VALID", 1), ("normalization: BATCH_SIZE", 2 / 50),
    ("normalization: NONE", 1 / 50), ("normalize: true", 1), ("", 1)])
def test_loss_per_valid_pixel_undoes_every_normalisation(here, loss_param, factor):
    net = NET.replace("batch_size: 1", "batch_size: 2").replace("normalize: false", loss_param)
    machine = make(here, net=net, average_loss=1, display=0)
    machine.step(1)
    ((_, pixel, valid, total),) = machine.pixel_loss.rows()
    assert (valid, total) == (50, 60)
    assert pixel == pytest.approx(float(machine.net.blobs["loss"].data) * factor, rel=1e-6)


def test_log_obeys_glogs_level(here, capfd, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    make(here).step(1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("value", "text"), [
    (1e-10, "1e-10"), (0.1, "0.1"), (123456.7, "123457"), (1234567, "1.23457e+06"), (2, "2"),
    (np.float32(0.02), "0.02")])
def test_numbers_look_as_from_cpp_streams(value, text):
    assert log.number(value) == text


# --- the loop --------------------------------------------------------------------------------------------------------


def test_smoothed_loss_is_the_mean_of_the_last_losses(here):
    machine, seen = make(here, average_loss=3, iter_size=2), []
    machine.net.after_forward(lambda number: number == 6 and seen.append(float(machine.net.blobs["loss"].data)))
    machine.step(5)
    losses = [(a + b) / 2 for a, b in zip(seen[::2], seen[1::2])]
    assert machine.smoothed_loss == pytest.approx(np.mean(losses[-3:]), rel=1e-6)


def test_iter_size_sums_the_gradients_of_several_passes(here):
    net = small.NET.replace('layer { name: "drop1" type: "Dropout" bottom: "conv1" top: "conv1" }\n', "")
    one = make(here, net=net.replace("batch_size: 1", "batch_size: 4"), iter_size=1)
    one.step(1)
    four = make(here, net=net, iter_size=4)
    four.step(1)
    # The loss is divided by the batch (normalize: false), so four passes divided by iter_size are one of four images.
    for a, b in zip(one.net.learnable_params, four.net.learnable_params):
        assert np.allclose(a.data, b.data, rtol=1e-4, atol=1e-6)


def test_same_seed_same_bits(here):
    results = []
    for _ in range(2):
        machine = make(here)
        machine.step(4)
        results.append([b.data.copy() for b in machine.net.learnable_params])
    for a, b in zip(*results):
        assert np.array_equal(a, b)


def test_callbacks_are_called_in_caffes_order(here):
    machine, calls = make(here), []
    machine.add_callback(lambda: calls.append(("start", machine.iter)),
                         lambda: calls.append(("gradients", machine.iter)),
                         lambda: calls.append(("update", machine.iter)))
    machine.step(2)
    assert calls == [("start", 0), ("gradients", 0), ("update", 1), ("start", 1), ("gradients", 1), ("update", 2)]


def test_snapshots_are_taken_when_due_and_after_training(here):
    machine = make(here, snapshot=2)
    machine.param.max_iter = 5
    machine.solve()
    names = sorted(glob.glob("out/*.solverstate"))
    assert [os.path.basename(n) for n in names] == [f"snap_iter_{i}.solverstate" for i in (2, 4, 5)]


def test_no_snapshot_after_training_when_so_said(here):
    machine = make(here, snapshot_after_train=False)
    machine.param.max_iter = 1
    machine.solve()
    assert not glob.glob("out/*")


def test_stop_ends_after_the_iteration_and_solve_snapshots(here):
    machine = make(here)
    machine.requested_action = lambda: "stop" if machine.iter == 3 else None
    machine.solve()
    assert machine.stopped
    assert machine.iter == 3
    assert os.path.exists("out/snap_iter_3.solverstate")


def test_stop_ends_a_test_and_snapshot_can_be_asked_for(here, capfd):
    asked = iter([None, "snapshot", None, "stop"])
    machine = make(here, text=TESTED)
    machine.requested_action = lambda: next(asked, "stop")
    machine.step(5)
    assert machine.stopped and machine.iter == 1
    assert "Snapshotting to" in capfd.readouterr().err
    machine.requested_action = lambda: "stop"
    assert machine.test() is None
    assert "Test interrupted." in capfd.readouterr().err


def test_solve_resumes(here):
    machine = make(here)
    machine.step(3)
    _, state = machine.snapshot()
    other = make(here)
    other.param.max_iter = 5
    other.solve(state)
    assert other.iter == 5


# --- nets ------------------------------------------------------------------------------------------------------------


def test_test_net_has_the_train_nets_weights_and_averages(here, capfd):
    machine = make(here, text=TESTED)
    machine.step(1)
    averages = dict(machine.test())
    net = machine.test_nets[0]
    assert net.params["conv1"][0].data is not machine.net.params["conv1"][0].data
    assert np.shares_memory(net.params["conv1"][0].data, machine.net.params["conv1"][0].data)
    # Passes go on where the last test ended: 7 images, two tests of two passes before.
    found = []
    for _ in range(7):
        net.forward()
        found.append(float(net.blobs["loss"].data))
    assert averages["loss"][0] == pytest.approx((found[5] + found[6]) / 2, rel=1e-5)


def test_test_initialization_can_be_left_out(here, capfd):
    make(here, text=TESTED, test_initialization=False).step(2)
    assert "Testing net" not in capfd.readouterr().err
    make(here, text=TESTED).step(1)
    assert "Iteration 0, Testing net (#0)" in capfd.readouterr().err


def test_test_nets_are_counted_as_in_caffe(here):
    small.write(here, net=NET)
    text = small.SOLVER + 'test_net: "net.prototxt" test_iter: 1 test_iter: 2 test_interval: 5\n'
    (here / "two.prototxt").write_text(text)
    assert len(solver.make("two.prototxt").test_nets) == 2  # one of its own, one of `net`
    for lines, error in [
        ('test_net: "net.prototxt" test_interval: 5', "test_iter is given 0 times for 1 test nets"),
        ("test_iter: 1", "test_interval is 0"),
        ("test_iter: 1 test_interval: 5 test_state { } test_state { }", "test_state is given 2 times for 1"),
        ("test_iter: 0 test_interval: 5", "each must be above 0"),
    ]:
        (here / "bad.prototxt").write_text(small.SOLVER + lines)
        with pytest.raises(Error, match=error):
            solver.make("bad.prototxt")


def test_states_choose_layers(here):
    net = NET.replace("include { phase: TEST }", 'include { phase: TEST stage: "deep" }')
    text = TESTED + 'test_iter: 1 test_state { stage: "deep" } test_state { }\n'
    machine = make(here, net=net, text=text)
    assert ["accuracy" in n.blobs for n in machine.test_nets] == [True, False]


def test_nets_inside_of_the_solver(here):
    path = small.write(here)
    body = (here / "net.prototxt").read_text()
    path.write_text(small.SOLVER.replace('net: "net.prototxt"', f"net_param {{ {body} }}"))
    machine = solver.make(path)
    machine.step(1)
    assert machine.net.name == "small"


def test_one_training_net_is_wanted(here):
    path = small.write(here)
    path.write_text(small.SOLVER + 'train_net: "net.prototxt"')
    with pytest.raises(Error, match="here it is by net and train_net"):
        solver.make(path)
    path.write_text(small.SOLVER.replace('net: "net.prototxt"', ""))
    with pytest.raises(Error, match="here it is by none"):
        solver.make(path)


def test_net_is_found_beside_the_solver_file_from_another_folder(here, monkeypatch):
    path = small.write(here)
    (here / "list.txt").write_text(str(here / "data.h5"))
    (here / "net.prototxt").write_text(small.NET.replace("list.txt", str(here / "list.txt")))
    (here / "away").mkdir()
    monkeypatch.chdir(here / "away")
    assert solver.make(path).net.name == "small"
    path.write_text(small.SOLVER.replace("net.prototxt", "nix.prototxt"))
    with pytest.raises(PathError, match="training net 'nix.prototxt' not found; tried: .*away.*nix"):
        solver.make(path)


def test_weights_of_the_solver_file_are_loaded(here):
    machine = make(here)
    model, _ = machine.snapshot()
    other = make(here, text=small.SOLVER + f'weights: "{model}"\n', random_seed=9)
    assert np.array_equal(other.net.params["conv1"][0].data, machine.net.params["conv1"][0].data)


@pytest.mark.parametrize(("fields", "text"), [
    ({"iter_size": 0}, "iter_size is 0"), ({"average_loss": 0}, "average_loss is 0"),
    ({"display": -1}, "display is -1")])
def test_impossible_settings_are_refused(here, fields, text):
    with pytest.raises(Error, match=text):
        make(here, **fields)


def test_unknown_names_are_refused_with_the_nearest(here):
    with pytest.raises(UnknownName, match="did you mean 'L2'"):
        make(here, regularization_type="L22")
    with pytest.raises(UnknownName, match="did you mean 'fixed'"):
        make(here, lr_policy="fixd")


# --- values that are not finite --------------------------------------------------------------------------------------


def test_bad_loss_stops_with_the_first_blob_and_keeps_the_state_before(here):
    machine = make(here)
    machine.step(2)
    before = [b.data.copy() for b in machine.net.learnable_params]
    machine.net.layers[0].forward, real = _poison(machine), machine.net.layers[0].forward
    with pytest.raises(Error, match=r"loss is nan in iteration 2; .* is in blob 'data'.*87\.3365.*"
                                    r"kept in out/snap_iter_2\.solverstate"):
        machine.step(1)
    machine.net.layers[0].forward = real
    machine.restore("out/snap_iter_2.solverstate")
    assert machine.iter == 2
    for a, b in zip(before, machine.net.learnable_params):
        assert np.array_equal(a, b.data)
    # The data order too is that of before the bad iteration.
    machine.step(1)
    other = make(here)
    other.step(3)
    for a, b in zip(other.net.learnable_params, machine.net.learnable_params):
        assert np.array_equal(a.data, b.data)


def _poison(machine):
    forward = machine.net.layers[0].forward

    def poisoned(bottom, top):
        forward(bottom, top)
        top[0].data[0, 0, 3, 2] = np.nan

    return poisoned


def test_bad_parameters_are_found_when_the_loss_is_logged(here):
    machine = make(here, snapshot=1)
    machine.step(1)
    machine.net.forward_from_to = lambda first, last: 1.0
    machine.net.backward_from_to = lambda first, last: None
    machine.net.params["conv1"][0].data[0, 0, 0, 0] = np.inf
    with pytest.raises(Error, match=r"parameter 0 of layer 'conv1'.*iteration 1; .*last snapshot is of iteration 1"):
        machine.step(1)


def test_weights_that_are_not_finite_leave_the_last_snapshot(here):
    machine = make(here, snapshot=2)
    machine.step(2)
    machine.net.params["conv1"][0].data[...] = np.nan
    with pytest.raises(Error, match=r"blob 'conv1'.*last snapshot is of iteration 2: out/snap_iter_2"):
        machine.step(1)


def test_message_is_copied(here):
    path = small.write(here)
    param = solver._read(path)[0]
    kept = caffe_pb2.SolverParameter()
    kept.CopyFrom(param)
    solver.make(param, path=str(path)).param.max_iter = 1
    assert param == kept
