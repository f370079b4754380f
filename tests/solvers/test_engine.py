"""--math, --threads, --plan, --low-memory and --no-border reach the net, in every command that runs one."""

import pytest

from layers.core.cpu import parallel
from layers.core.net import Net
from netspec.errors import run_door
from solvers import compare, infer, nets, run, score
from tests.solvers import small


@pytest.fixture(autouse=True)
def threads_as_before():
    before = parallel.threads()
    yield
    parallel.set_threads(before)


@pytest.fixture
def made(monkeypatch):
    """The nets that the test makes, in order."""
    nets_made, make = [], Net.__init__

    def init(self, *arguments, **keywords):
        make(self, *arguments, **keywords)
        nets_made.append(self)

    monkeypatch.setattr(Net, "__init__", init)
    return nets_made


@pytest.mark.parametrize("door", [run, score, infer, compare], ids=lambda door: door.__name__)
def test_help_names_them(door, capsys):
    with pytest.raises(SystemExit):
        door.main(["--help"])
    text = capsys.readouterr().out
    assert all(option in text for option in ("--math", "--threads", "--plan", "--no-border"))
    assert ("--low-memory" in text) == (door in (run, infer))  # the others read blobs that no layer reads any more


def test_training_uses_them(tmp_path, monkeypatch, made):
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path)
    assert run_door(run.main, ["solver.prototxt", "--iterations", "1", "--math", "strict", "--threads", "1"]) == 0
    assert {net.math for net in made} == {"strict"} and parallel.threads() == 1
    with pytest.raises(SystemExit):
        run.main(["solver.prototxt", "--math", "quick"])


def test_nets_that_score_infer_and_compare_take_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPJET_MATH", "caffe")
    message = nets.read(nets.find("fcn_sample", ("deploy",)))
    assert nets.open_net(message, "x").math == "caffe"
    assert nets.open_net(message, "x", math="strict").math == "strict"


def test_training_prints_its_plan_and_keeps_no_transformed_weights(tmp_path, monkeypatch, capsys, made):
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path)
    assert run_door(run.main, ["solver.prototxt", "--iterations", "1", "--plan", "--low-memory", "--no-border"]) == 0
    err = capsys.readouterr().err
    assert "plan of" in err and "NCHW" in err and "memory: " in err and "parameters" in err
    assert {(net.low_memory, net._borders) for net in made} == {(True, None)}
