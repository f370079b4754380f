import threading
import time

import numpy as np
import pytest

from layers.core.cpu.watch import HOLDER, watch


@pytest.mark.parametrize("holder", sorted({0, HOLDER}), ids=lambda holder: "held" if holder else "free")
def test_watching_ends_when_the_counter_is_reached_or_time_is_up(holder):
    counter = np.array([3, 0], np.int64)
    watch(counter.ctypes.data, 3, 0, holder)
    start = time.monotonic()
    watch(counter.ctypes.data, 3, 10**10, holder)
    watch(counter.ctypes.data, 4, 10**6, holder)
    assert time.monotonic() - start < 5


def test_watching_leaves_the_interpreter_to_others():
    counter, reached = np.zeros(1, np.int64), []

    def watching():
        while counter[0] < 1:
            watch(counter.ctypes.data, 1, 10**8, HOLDER)
        reached.append(counter[0])

    watcher = threading.Thread(target=watching, daemon=True)
    watcher.start()
    time.sleep(0.02)
    assert not reached
    counter[0] = 1
    watcher.join(10)
    assert reached == [1]
