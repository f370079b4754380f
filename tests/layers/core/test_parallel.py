import os
import threading

import numba
import numpy as np
import pytest

from layers.core.cpu import parallel


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


def test_workers_that_never_run_are_not_waited_for():
    parallel.set_threads(3)
    held = threading.Event()
    for _ in range(2):
        parallel._workers().submit(held.wait)
    try:
        assert run_all()
    finally:
        held.set()


def test_workers_that_run_late_find_nothing_left():
    parallel.set_threads(3)
    held = threading.Event()
    for _ in range(2):
        parallel._workers().submit(held.wait, 0.01)
    assert all(run_all() for _ in range(20))


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
    held, seen = threading.Event(), []
    for _ in range(2):
        parallel._workers().submit(held.wait)

    def part(first, last):
        seen.append(first)
        raise ValueError("part one")

    with pytest.raises(ValueError, match="part one"):
        parallel.run(part, 3, work=10**9)
    held.set()
    parallel._workers().submit(int).result()
    assert seen == [0]
