"""Time two engines in turns, so that whatever else the machine does meets both."""

import statistics
import time
from typing import NamedTuple

PAUSE = 0.06  # seconds in which the threads of the engine that ran last stop spinning for work
LONG = 0.5  # seconds of a call that needs no unmeasured one before it: waking threads and filling caches is nothing to it
SLOW = 25  # seconds after which two turns are enough


class Pair(NamedTuple):
    """What turns gave: medians in seconds, and the median of the ratios ours / theirs of neighbouring calls."""

    ours: float
    theirs: float
    ratio: float
    turns: list

    @classmethod
    def of(cls, turns):
        """Make one of [(ours, theirs), ...] in seconds."""
        ours, theirs = zip(*turns)
        return cls(statistics.median(ours), statistics.median(theirs), statistics.median(a / b for a, b in turns), turns)


def in_turns(ours, theirs, seconds, least, inputs=1, theirs_keep=False):
    """Time two `process.Engine`s that have jobs open.

    Parameters
    ----------
    seconds, least : float, int
        How long, and how many turns at the least.
    inputs : int
        Number of inputs; more than one are taken in turn, and the unmeasured call before is of the one before.
    theirs_keep : bool
        Whether the other engine's unmeasured call is of the same input: it is timed on one size after all.

    Returns
    -------
    Pair, Pair or None
        Of calls on inputs that both engines have met before, and of the calls that met them: of inputs 1 and up, since input 0
        was checked. With one input there are none. `seconds` and `least` are of the former.
    """
    met = [_turn(ours, theirs, number, inputs, theirs_keep) for number in range(1, inputs)]
    turns, begun, number = [], time.perf_counter(), 0
    while (took := time.perf_counter() - begun) < seconds or len(turns) < least:
        if len(turns) > 1 and took > SLOW and inputs == 1:
            break
        turns.append(_turn(ours, theirs, number, inputs, theirs_keep))
        number = (number + 1) % inputs
    return Pair.of(turns), Pair.of(met) if met else None


def _turn(ours, theirs, number, inputs, theirs_keep):
    """Return the seconds of one call of each on input `number`."""
    turn = []
    for engine, keep in ((ours, inputs == 1), (theirs, inputs == 1 or theirs_keep)):
        time.sleep(PAUSE)
        before = number if keep else (number - 1) % inputs
        warm = engine.last is None or engine.last < LONG or (keep and inputs > 1)
        turn.append(engine.time(number, before if warm else None))
    return tuple(turn)
