import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest

from layers.core.cpu import compiled, parallel


@numba.njit(nogil=True)
def square_cpu(first, last, values, out):
    for i in range(first, last):
        out[i] += values[i] * values[i]


@pytest.fixture(autouse=True)
def threads_as_before():
    before = parallel.threads()
    yield
    parallel.set_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_every_element_is_done_once(threads):
    parallel.set_threads(threads)
    values = np.arange(100003, dtype=np.float64)
    out = np.zeros_like(values)
    parallel.run(square_cpu, values.size, values, out)
    assert (out == values**2).all()
    parallel.run(square_cpu, 2, values, out, work=10**9)
    assert out[1] == 2 and out[2] == 4


@pytest.mark.parametrize("threads", [1, 3])
def test_a_call_is_run_again_with_other_arguments(threads):
    parallel.set_threads(threads)
    values, out = np.arange(50001, dtype=np.float64), np.zeros(50001)
    call = parallel.Call(square_cpu, values.size, [values, out])
    for times in range(1, 4):
        call.run()
        assert (out == times * values**2).all()
    call.args[0] = values + 1
    parallel.set_threads(2)
    call.run()
    assert (out == 3 * values**2 + (values + 1) ** 2).all()


def test_an_error_in_a_call_comes_to_the_caller_each_time():
    @numba.njit(nogil=True)
    def fails_cpu(first, last, values):
        if last > 2:
            raise ValueError("wrong")

    call = parallel.Call(fails_cpu, 4, [np.zeros(4)], work=1 << 20)
    for _ in range(3):
        with pytest.raises(ValueError, match="wrong"):
            call.run()


def test_several_callers_at_once():
    parallel.set_threads(2)
    outs = [np.zeros(50000) for _ in range(6)]
    values = np.arange(50000, dtype=np.float64)
    callers = [threading.Thread(target=parallel.run, args=(square_cpu, 50000, values, out)) for out in outs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((out == values**2).all() for out in outs)


def test_error_in_a_part_is_raised_after_all_parts_ended():
    parallel.set_threads(2)
    ended = []

    def part(first, last):
        ended.append(first)
        if first:
            raise ValueError("part two")

    with pytest.raises(ValueError, match="part two"):
        parallel.run(part, 2, work=10**9)
    assert sorted(ended) == [0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_makes_its_own_threads():
    parallel.set_threads(2)
    values, out = np.ones(50000), np.zeros(50000)
    parallel.run(square_cpu, 50000, values, out)
    child = os.fork()
    if child == 0:
        try:
            parallel.run(square_cpu, 50000, values, out)
            os._exit(0 if (out == 2).all() else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run_all(seconds=30):
    """Call parallel.run in a thread of its own; whether it came back in time, with all parts done."""
    values, out = np.ones(100003), np.zeros(100003)
    caller = threading.Thread(target=parallel.run, args=(square_cpu, values.size, values, out), daemon=True)
    caller.start()
    caller.join(seconds)
    return not caller.is_alive() and (out == 1).all()


@contextlib.contextmanager
def workers_held(seconds=30):
    """Keep all workers and one more caller at work until the end of the block, or for some seconds."""
    held, begun = threading.Event(), threading.Barrier(parallel.threads() + 1)

    def part(first, last):
        begun.wait(30)
        held.wait(seconds)

    caller = threading.Thread(target=parallel.run, args=(part, parallel.threads()), kwargs={"work": 10**9}, daemon=True)
    caller.start()
    begun.wait(30)
    try:
        yield
    finally:
        held.set()
        caller.join(30)


def test_workers_that_never_run_are_not_waited_for():
    parallel.set_threads(3)
    with workers_held():
        assert run_all()


def test_workers_that_run_late_find_nothing_left():
    parallel.set_threads(3)
    with workers_held(0.01):
        assert all(run_all() for _ in range(20))


def test_workers_that_cannot_be_started_are_not_needed(monkeypatch):
    parallel.set_threads(3)

    def refused(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(parallel.threading.Thread, "start", refused)
        out = np.zeros(50000)
        parallel.run(square_cpu, 50000, np.ones(50000), out)
    assert (out == 1).all()


def test_a_part_may_share_out_work_of_its_own():
    parallel.set_threads(3)
    values, outs = np.ones(50000), [np.zeros(50000) for _ in range(12)]

    def part(first, last):
        for i in range(first, last):
            parallel.run(square_cpu, values.size, values, outs[i])

    caller = threading.Thread(target=parallel.run, args=(part, len(outs)), kwargs={"work": 10**9}, daemon=True)
    caller.start()
    caller.join(30)
    assert not caller.is_alive() and all((out == 1).all() for out in outs)


def test_after_an_error_no_part_is_begun_any_more():
    parallel.set_threads(3)
    seen = []

    def part(first, last):
        seen.append(first)
        raise ValueError("part one")

    with workers_held(), pytest.raises(ValueError, match="part one"):
        parallel.run(part, 3, work=10**9)
    assert run_all() and seen == [0]


@pytest.mark.parametrize("error", [IndexError, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_errors_of_any_kind_in_any_part(error, wrong):
    parallel.set_threads(3)

    def part(first, last):
        if first == wrong:
            raise error("here")

    for _ in range(50):
        with pytest.raises(error, match="here"):
            parallel.run(part, 3, work=10**9)
    assert run_all()


def test_of_two_errors_the_caller_has_its_own():
    parallel.set_threads(2)
    both = threading.Barrier(2)

    def part(first, last):
        both.wait(30)
        raise ValueError(f"part {first}")

    with pytest.raises(ValueError, match="part 0"):
        parallel.run(part, 2, work=10**9)


@pytest.mark.parametrize("caller_works", [True, False])
def test_an_interrupted_caller_waits_for_what_has_begun(caller_works):
    parallel.set_threads(2)
    both, ended = threading.Barrier(2), []

    def part(first, last):
        both.wait(30)
        if first:
            time.sleep(0.05)
            signal.raise_signal(signal.SIGINT)  # handled by the main thread, which is the caller
            time.sleep(0.3)
            ended.append(first)
        elif caller_works:
            time.sleep(0.2)

    with pytest.raises(KeyboardInterrupt):
        parallel.run(part, 2, work=10**9)
    assert ended == [1]
    assert run_all()


@pytest.mark.parametrize("threads", [2, 5])
def test_results_of_many_small_calls_by_many_callers(monkeypatch, threads):
    monkeypatch.setattr(parallel, "SMALL", 1)
    parallel.set_threads(threads)
    values, wrong = np.arange(300, dtype=np.float64), []

    def calls():
        for i in range(400):
            out = np.zeros(300)
            parallel.run(square_cpu, 300, values, out)
            if not (out == values**2).all():
                wrong.append(i)
            if i % 50 == 0:
                time.sleep(0.001)  # so that workers fall asleep now and then

    callers = [threading.Thread(target=calls, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers) and not wrong


def test_finished_work_is_not_kept():
    parallel.set_threads(2)
    out = np.zeros(50000)
    before = sys.getrefcount(out)
    parallel.run(square_cpu, 50000, np.ones(50000), out)
    end = time.monotonic() + 10
    while sys.getrefcount(out) > before and time.monotonic() < end:
        time.sleep(0.01)
    assert sys.getrefcount(out) == before


def test_waiting_workers_use_no_time():
    parallel.set_threads(2)
    assert run_all()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_workers_end_when_their_number_changes():
    parallel.set_threads(1)
    others = set(threading.enumerate())
    for count in (3, 2, 1):
        parallel.set_threads(count)
        assert run_all()
        end = time.monotonic() + 10
        while len(set(threading.enumerate()) - others) > count - 1 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(set(threading.enumerate()) - others) == count - 1


SCRIPT = """
import atexit, threading
import numpy as np
from layers.core.cpu import parallel
from tests.layers.core.test_parallel import square_cpu
values, out = np.ones(50000), np.zeros(50000)
def again():
    for _ in range(%d):
        parallel.run(square_cpu, 50000, values, out)
atexit.register(again)
again()
if %d:
    threading.Thread(target=lambda: [again() for _ in range(10**9)], daemon=True).start()
print(sum(t.name == "kernel" for t in threading.enumerate()))
"""


@pytest.mark.parametrize("daemon", [0, 1])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_process_ends_at_once_and_one_thread_has_no_workers(threads, daemon):
    environment = {**os.environ, "DEEPJET_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", SCRIPT % (3, daemon)], env=environment, cwd=compiled.ROOT, timeout=120,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{threads - 1}\n", "")
