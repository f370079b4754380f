import pytest

from netspec.errors import Error
from solvers import train_log
from tests.solvers.doors import write

# The two forms of Caffe's iteration line, its rate, its outputs; and what FCN's score.py prints.
CAFFE = """I1120 13:39:22.1 25210 solver.cpp:289] Solving net
I1120 13:39:22.1 25210 solver.cpp:347] Iteration 0, Testing net (#0)
I1120 13:39:22.1 25210 solver.cpp:414]     Test net output #0: accuracy = 0.25
I1120 13:39:22.1 25210 solver.cpp:414]     Test net output #1: score = 1
I1120 13:39:22.1 25210 solver.cpp:414]     Test net output #2: score = 2
I1120 13:39:22.1 25210 solver.cpp:218] Iteration 0, loss = 2.5
I1120 13:39:22.1 25210 solver.cpp:237]     Train net output #0: loss = 2.75 (* 1 = 2.75 loss)
I1120 13:39:22.1 25210 sgd_solver.cpp:105] Iteration 0, lr = 0.01
I1120 13:39:22.1 25210 solver.cpp:218] Iteration 20 (3.5 iter/s, 5.7s/20 iters), loss = nan
I1120 13:39:22.1 25210 solver.cpp:347] Iteration 20, Testing net (#1)
I1120 13:39:22.1 25210 solver.cpp:414]     Test net output #0: accuracy = 0.5
>>> 2016-01-02 11:12:13.1 Iteration 20 mean IU 0.63
"""


def test_every_line_of_caffes_logs_is_understood(tmp_path):
    log = train_log.read_log(write(tmp_path / "train.log", CAFFE))
    assert log == {"loss": ([0, 20], [2.5, None]), "learning rate": ([0], [0.01]), "train: loss": ([0], [2.75]),
                   "test #0: accuracy": ([0], [0.25]), "test #1: accuracy": ([20], [0.5]), "score: mean IU": ([20], [0.63])}


def test_a_resumed_run_leaves_a_gap(tmp_path):
    text = "".join(f"Iteration {i}, loss = {i}\n" for i in (0, 20, 40, 20, 40))
    assert train_log.read_log(write(tmp_path / "train.log", text))["loss"] == ([0, 20, 40, 20, 20, 40], [0, 20, 40, None, 20, 40])


def test_what_is_no_log_is_refused(tmp_path):
    with pytest.raises(Error, match="is no training log"):
        train_log.read_log(write(tmp_path / "x.log", "hello\n"))


def test_smoothing_begins_anew_after_a_gap():
    one = train_log.smoothed(train_log.Series([0, 1, 2, 3, 4, 5], [2, 4, 9, None, 8, 6]), 2)
    assert one == ([0, 1, 2, 3, 4, 5], [2, 3, 6.5, None, 8, 7])
    assert train_log.smoothed(train_log.Series([0, 1], [2, 4]), 1).y == [2, 4]
