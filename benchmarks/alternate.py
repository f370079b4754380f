"""Time functions in turns, so that whatever else the machine does meets all of them."""

import statistics
import time


def alternate(functions, seconds=3.0, least=5, pause=0.0):
    """Run each function once unmeasured, then in turns for about `seconds`, at least `least` times each.

    With `pause` each turn begins with that many seconds of sleep and an unmeasured call: threads of another library that
    still spin for work after its call (OpenBLAS's, OpenMP's) are asleep then. Returns a list of (wall, processor) seconds a
    call, medians. On a busy machine the processor time says more; it counts all threads.
    """
    for function in functions:
        function()
    wall, processor = [[] for _ in functions], [[] for _ in functions]
    begun = time.perf_counter()
    while len(wall[0]) < least or time.perf_counter() - begun < seconds:
        for i, function in enumerate(functions):
            if pause:
                time.sleep(pause)
                function()
            start, used = time.perf_counter(), time.process_time()
            function()
            wall[i].append(time.perf_counter() - start)
            processor[i].append(time.process_time() - used)
    return [(statistics.median(w), statistics.median(p)) for w, p in zip(wall, processor)]
