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
