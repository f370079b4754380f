"""--math and --threads reach the net, in every command that runs one."""

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


@pytest.mark.parametrize("door", [run, score, infer, compare], ids=lambda door: door.__name__)
def test_help_names_both(door, capsys):
    with pytest.raises(SystemExit):
        door.main(["--help"])
    text = capsys.readouterr().out
    assert "--math" in text and "--threads" in text


def test_training_uses_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path)
    made = []
    make = Net.__init__

    def init(self, *arguments, **keywords):
        make(self, *arguments, **keywords)
        made.append(self.math)

    monkeypatch.setattr(Net, "__init__", init)
    assert run_door(run.main, ["solver.prototxt", "--iterations", "1", "--math", "strict", "--threads", "1"]) == 0
    assert set(made) == {"strict"} and parallel.threads() == 1
    with pytest.raises(SystemExit):
        run.main(["solver.prototxt", "--math", "quick"])


def test_nets_that_score_infer_and_compare_take_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPJET_MATH", "caffe")
    message = nets.read(nets.find("fcn_sample", ("deploy",)))
    assert nets.open_net(message, "x").math == "caffe"
    assert nets.open_net(message, "x", math="strict").math == "strict"
