import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data import sample
from layers.core.net import Net
from netspec import caffe_pb2, weights
from netspec.errors import run_door
from solvers import data_layers, log, run, training
from tests.solvers import small
from tests.support import ROOT

ZERO = small.NET.replace('weight_filler { type: "xavier" }', "").replace("lr_mult: 0", "lr_mult: 1")
UPSAMPLED = ZERO.replace('name: "score" type: "Convolution" bottom: "conv1" top: "score"',
                         'name: "score" type: "Convolution" bottom: "conv1" top: "score_low"').replace(
    'layer { name: "loss"',
    'layer { name: "upscore" type: "Deconvolution" bottom: "score_low" top: "score" param { lr_mult: 0 }\n'
    '  convolution_param { num_output: 4 kernel_size: 1 bias_term: false } }\nlayer { name: "loss"')


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    small.write(tmp_path)
    return tmp_path


@pytest.fixture
def door(capfd):
    """Return a function that runs the command and returns (exit code, stdout, stderr)."""

    def call(*arguments):
        code = run_door(run.main, [str(a) for a in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def last_line(err):
    return err.strip().splitlines()[-1]


def test_trains_and_prints_the_weights_file(door):
    code, out, err = door("solver.prototxt")
    assert (code, out) == (0, "out/snap_iter_20.caffemodel\n")
    assert "Optimization Done." in err and "Solving small" in err
    assert "iter/s]" not in err  # no bar: stderr is no terminal
    assert os.path.exists("out/snap_iter_20.solverstate")


def test_resumes_exactly_and_trains_so_many_more(door):
    door("solver.prototxt")
    whole = weights.read_weights("out/snap_iter_20.caffemodel").layers["conv1"][0].data
    assert door("solver.prototxt", "--iterations", 10)[0] == 0
    code, out, err = door("solver.prototxt", "--snapshot", "out/snap_iter_10.solverstate", "--iterations", 10)
    assert (code, out) == (0, "out/snap_iter_20.caffemodel\n")
    assert "Restoring previous solver status from out/snap_iter_10.solverstate" in err
    assert np.array_equal(weights.read_weights("out/snap_iter_20.caffemodel").layers["conv1"][0].data, whole)


def test_nothing_left_to_do_is_said(door):
    door("solver.prototxt")
    code, _, err = door("solver.prototxt", "--snapshot", "out/snap_iter_20.solverstate")
    assert code == 1
    assert "iteration 20 is reached and max_iter is 20; --iterations N" in last_line(err)


def test_weights_are_loaded_and_reported(door, here):
    door("solver.prototxt", "--iterations", 1)
    (here / "net.prototxt").write_text(small.NET.replace('"score"', '"score_new"'))
    code, _, err = door("solver.prototxt", "--weights", "out/snap_iter_1.caffemodel", "--iterations", 1)
    assert code == 0
    assert "layers copied: 2 (frozen, conv1); in the file only: 1 (score); in the net only: 1 (score_new)" in err


def test_weights_that_match_nothing_are_refused_before_training(door, here):
    door("solver.prototxt", "--iterations", 1)
    (here / "net.prototxt").write_text(
        small.NET.replace('"conv1"', '"c"').replace('"score"', '"s"').replace('"frozen"', '"f"'))
    code, _, err = door("solver.prototxt", "--weights", "out/snap_iter_1.caffemodel")
    assert code == 1
    assert "the file has frozen, conv1, score, the net has f, c, s; rename" in last_line(err)
    assert "Solving" not in err


def test_weights_that_are_not_finite_are_refused_before_training(door, here):
    net = Net("net.prototxt", caffe_pb2.TRAIN)
    net.params["conv1"][0].data.flat[3] = np.nan
    net.save("bad.caffemodel")
    code, _, err = door("solver.prototxt", "--weights", "bad.caffemodel")
    assert code == 1
    assert "bad.caffemodel': parameter 0 of layer 'conv1' holds values that are not finite" in last_line(err)
    assert "Solving" not in err


def test_a_net_that_could_learn_nothing_is_refused(door, here):
    (here / "net.prototxt").write_text(small.NET[:small.NET.index('layer { name: "loss"')])
    code, _, err = door("solver.prototxt")
    assert code == 1 and "the training net has no loss" in last_line(err) and "Solving" not in err
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    (here / "net.prototxt").write_text(small.NET.replace("lr_mult: 1", "lr_mult: 0").replace("lr_mult: 2", "lr_mult: 0")
                                       .replace('top: "score"', f'top: "score" {frozen}'))
    code, _, err = door("solver.prototxt")
    assert code == 1 and "nothing in the training net learns" in last_line(err)


def test_zero_trunk_is_refused_and_fill_cures_it(door, here):
    (here / "net.prototxt").write_text(ZERO)
    code, _, err = door("solver.prototxt")
    assert code == 1
    assert "the weights of 3 layers (frozen, conv1, score) are all zero" in last_line(err)
    assert "--weights FILE" in last_line(err) and "--fill msra" in last_line(err)
    code, _, err = door("solver.prototxt", "--fill", "msra", "--iterations", 1)
    assert code == 0
    assert "random first values (msra, seed 5): 2 layers: frozen, conv1" in err
    found = weights.read_weights("out/snap_iter_1.caffemodel").layers
    assert found["conv1"][0].data.std() == pytest.approx(np.sqrt(2 / 27), rel=0.3)
    assert 0 < abs(found["score"][0].data).max() < 0.3  # one step away from zero


def test_fill_is_seeded(door, here):
    (here / "net.prototxt").write_text(ZERO)
    found = []
    for _ in range(2):
        door("solver.prototxt", "--fill", "xavier", "--iterations", 2)
        found.append(weights.read_weights("out/snap_iter_2.caffemodel").layers["conv1"][0].data)
    assert np.array_equal(*found)


def test_zero_upsampling_is_refused_and_start_cures_it(door, here):
    (here / "net.prototxt").write_text(UPSAMPLED)
    code, _, err = door("solver.prototxt", "--fill", "msra")
    assert code == 1
    assert "the upsampling kernels of upscore are all zero" in last_line(err)
    (here / "net.py").write_text(
        "def start(net):\n    net.params['upscore'][0].data[range(4), range(4)] = 1\n    return ['filled upscore']\n")
    code, _, err = door("solver.prototxt", "--fill", "msra", "--iterations", 1)
    assert code == 0
    assert "start: filled upscore" in err


def test_zero_upsampling_above_learned_scores_names_the_kernels(door, here):
    (here / "net.prototxt").write_text(UPSAMPLED.replace(
        'top: "score_low"\n  convolution_param { num_output: 4 kernel_size: 1 ',
        'top: "score_low"\n  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } '))
    code, _, err = door("solver.prototxt", "--fill", "msra")
    assert code == 1
    assert "the upsampling kernels of upscore are all zero, so nothing below them can learn" in last_line(err)
    assert 'weight_filler { type: "bilinear" }' in last_line(err)


def test_start_is_given_the_weights_and_not_called_on_resume(door, here):
    (here / "net.py").write_text("def start(net, weights):\n    return f'with {len(weights)} files'\n")
    code, _, err = door("solver.prototxt", "--iterations", 1)
    assert code == 0 and "start: with 0 files" in err
    assert "start: with 1 files" in door("solver.prototxt", "--weights", "out/snap_iter_1.caffemodel")[2]
    assert "start:" not in door("solver.prototxt", "--snapshot", "out/snap_iter_1.solverstate")[2]
    (here / "net.py").write_text("import nosuchmodule\n")
    code, _, err = door("solver.prototxt")
    assert code == 1 and "cannot be imported: ModuleNotFoundError" in last_line(err)


def test_start_that_transplants_makes_foreign_names_right(door, here):
    door("solver.prototxt", "--iterations", 1)
    (here / "net.prototxt").write_text(
        small.NET.replace('"conv1"', '"c"').replace('"score"', '"s"').replace('"frozen"', '"f"'))
    (here / "net.py").write_text("def start(net, weights):\n    net.params['c'][0].data[...] = 0.25\n")
    assert door("solver.prototxt", "--weights", "out/snap_iter_1.caffemodel", "--iterations", 1)[0] == 0


def test_weights_given_as_a_snapshot_are_refused_with_the_cure(door):
    door("solver.prototxt", "--iterations", 1)
    code, _, err = door("solver.prototxt", "--snapshot", "out/snap_iter_1.caffemodel")
    assert code == 1
    assert "--snapshot out/snap_iter_1.solverstate" in last_line(err)
    code, _, err = door("solver.prototxt", "--snapshot", "a", "--weights", "b")
    assert code == 2


def test_log_file_gets_the_log_too(door):
    _, _, err = door("solver.prototxt", "--iterations", 1, "--log", "run.log")
    with open("run.log") as file:
        assert file.read() == err


def test_sample_stands_for_the_data_set(door, here, monkeypatch):
    folder = here / "sample"
    sample.draw(folder, train=2, val=1)
    monkeypatch.setattr(data_layers.sample, "ensure", lambda: str(folder))
    head, _, tail = small.NET.partition('layer { name: "in"')
    layer = """layer { name: "in" type: "Python" top: "data" top: "label" python_param {
      module: "voc_layers" layer: "SBDDSegDataLayer"
      param_str: "{'sbdd_dir': '/no/such/folder', 'split': 'train', 'mean': (104.0, 117.0, 123.0), 'seed': 1337}" } }
"""
    net = head + layer + tail.split("\n", 1)[1].replace("num_output: 4", "num_output: 21")
    (here / "net.prototxt").write_text(net.replace('weight_filler { type: "xavier" }', ""))
    code, _, err = door("solver.prototxt", "--iterations", 2)
    assert code == 1 and "/no/such/folder" in last_line(err) and "--sample" in last_line(err)
    (here / "solver.prototxt").write_text(small.SOLVER.replace("base_lr: 0.01", "base_lr: 1e-8"))
    code, _, err = door("solver.prototxt", "--data", f"sbdd_dir={folder}", "--fill", "msra", "--iterations", 1)
    assert code == 0, err
    code, _, err = door("solver.prototxt", "--data", f"sbdd_dir={folder}", "--data", "sbd_dir=x", "--iterations", 1)
    assert code == 2 and "did you mean 'sbdd_dir'" in last_line(err)
    code, _, err = door("solver.prototxt", "--sample", "--iterations", 2)
    assert code == 0
    assert "random first values (msra" in err
    assert "Loss per valid pixel: 3.04452 " in err  # ln 21: the score layer begins at zero


def test_models_and_folders_name_solvers(door, here):
    (here / "sub").mkdir()
    small.write(here / "sub")
    assert run.find_solver("sub") == os.path.join("sub", "solver.prototxt")
    assert run.find_solver("fcn8s") == str(ROOT / "models" / "fcn8s" / "solver.prototxt")
    assert run.find_solver("voc-fcn8s") == str(ROOT / "models" / "fcn8s" / "solver.prototxt")
    code, _, err = door("fcn8")
    assert code == 2 and "did you mean 'fcn8s'" in err
    code, _, err = door("nix/solver.prototxt")
    assert code == 1 and "tried: " in err


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as end:
        run.main(["--help"])
    assert end.value.code == 0
    assert "python -m solvers.run models/" in capsys.readouterr().out


def test_bar_stands_below_the_log(door, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, _, err = door("solver.prototxt", "--iterations", 2)
    assert code == 0
    assert "2/2" in err
    assert log._stderr.bar is None


# --- signals, in a process of its own --------------------------------------------------------------------------------


def begin(folder, *options):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "solvers.run", "solver.prototxt", *options], cwd=folder, env=env,
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "Iteration 3 " in line:
            break
    return process, lines


def test_ctrl_c_finishes_the_iteration_snapshots_and_says_how_to_go_on(here):
    (here / "solver.prototxt").write_text(
        small.SOLVER.replace("max_iter: 20", "max_iter: 1000000") + "snapshot_after_train: false\n")
    process, _ = begin(here)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finishing this iteration" in err
    command = err.rpartition("to go on: ")[2].split()
    state = command[command.index("--snapshot") + 1]
    assert (here / state).exists()
    assert "Traceback" not in err


def test_hangup_snapshots_and_goes_on(here):
    (here / "solver.prototxt").write_text(small.SOLVER.replace("max_iter: 20", "max_iter: 1000000"))
    process, _ = begin(here)
    process.send_signal(signal.SIGHUP)
    for line in process.stderr:
        if "Snapshotting solver state" in line:
            break
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(list((here / "out").glob("*.solverstate"))) == 2


def test_second_ctrl_c_stops_at_once():
    signals = training.Signals()
    with signals:
        handler = signal.getsignal(signal.SIGINT)
        handler(signal.SIGINT, None)
        assert signals.take() == "stop"
        with pytest.raises(KeyboardInterrupt):
            handler(signal.SIGINT, None)
    assert signal.getsignal(signal.SIGINT) is not handler
