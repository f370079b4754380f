"""--gpu, --math, --threads, --plan, --low-memory and --no-border reach the net, in every command that runs one."""

import pytest

from layers.core.cpu import parallel
from layers.core.cuda import card as cards
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error, run_door
from solvers import compare, engine, infer, nets, run, score
from tests.layers.core.cuda.simulated import needs_card
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
    assert all(option in text for option in ("--gpu", "--math", "--threads", "--plan", "--no-border"))
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


@pytest.fixture
def found(monkeypatch):
    """Return a list of what was looked for as a card since; card 0 is there."""
    monkeypatch.delenv("DEEPJET_DEVICE", raising=False)
    asked = []

    def card(number):
        asked.append(number)
        if number:
            raise Error(f"no card {number}")
        return f"card {number}"

    monkeypatch.setattr(cards, "card", card)
    return asked


def solver_file(text):
    return caffe_pb2.SolverParameter(**text)


GPU, CPU = caffe_pb2.SolverParameter.GPU, caffe_pb2.SolverParameter.CPU


def test_a_card_is_chosen_by_the_option_then_the_environment_then_the_solver_file(found, monkeypatch, caplog):
    asks_gpu, says_nothing = solver_file({"solver_mode": GPU}), solver_file({})
    assert engine.device("0") == engine.device("gpu") == engine.device("gpu:0") == "card 0"
    assert engine.device("none", asks_gpu) == "cpu"
    for solver in (None, says_nothing, solver_file({"solver_mode": CPU})):
        assert engine.device(None, solver) is None
    assert engine.device(None, asks_gpu) == "card 0"
    monkeypatch.setenv("DEEPJET_DEVICE", "cpu")
    assert engine.device(None, asks_gpu) is None  # `Net` looks at the environment itself
    assert engine.device("0", asks_gpu) == "card 0"


def test_a_card_of_the_solver_file_that_is_not_there_is_a_warning(found, caplog):
    with caplog.at_level("WARNING", "deepjet"):
        assert engine.device(None, solver_file({"solver_mode": GPU, "device_id": 3})) is None
    assert "solver_mode: GPU, but the CPU computes (the same results, slower): no card 3" in caplog.text


@pytest.mark.parametrize("word, message, code", [
    ("3", "error: no card 3", 1), ("all", "runs a net on one card so far", 1), ("0,1", "runs a net on one card so far", 1),
    ("first", "it is 'cpu', 'gpu' or 'gpu:NUMBER'", 2), ("-1", "counted from 0", 1)])
def test_a_card_of_the_command_that_is_not_there_is_an_error(found, tmp_path, monkeypatch, capsys, word, message, code):
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path)
    assert run_door(run.main, ["solver.prototxt", f"--gpu={word}"]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("mode, said", [("solver_mode: GPU", True), ("solver_mode: CPU", False), ("", False)])
def test_published_solvers_train_without_a_card(found, tmp_path, monkeypatch, caplog, mode, said):
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path, solver=small.SOLVER + mode + " device_id: 1")
    with caplog.at_level("WARNING", "deepjet"):
        assert run_door(run.main, ["solver.prototxt", "--iterations", "1"]) == 0
    assert ("no card 1" in caplog.text) == said and found == [1] * said


@needs_card
def test_training_on_a_card_prints_its_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path)
    assert run_door(run.main, ["solver.prototxt", "--iterations", "1", "--plan", "--gpu", "0"]) == 0
    err = capsys.readouterr().err
    assert "plan of 'small' (TRAIN, <card 0: " in err and "memory on <card 0: " in err
