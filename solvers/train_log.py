"""What a training log says: loss, rate and outputs over the iterations, of Caffe's logs and ours, and of FCN's score.py."""

import contextlib
import math
import re
from typing import NamedTuple

from netspec import files
from netspec.errors import Error

LINES = re.compile(
    r"Iteration (?P<loss_at>\d+)(?: \([^)]*\))?, loss = (?P<loss>\S+)"
    r"|Iteration (?P<rate_at>\d+), lr = (?P<rate>\S+)"
    r"|Iteration (?P<test_at>\d+), Testing net \(#(?P<net>\d+)\)"
    r"|Test net output #\d+: (?P<test>\S+) = (?P<test_value>\S+)"
    r"|Train net output #\d+: (?P<train>\S+) = (?P<train_value>\S+)"
    r"|>>> .*Iteration (?P<score_at>\d+) (?P<score>loss|overall accuracy|mean accuracy|mean IU|fwavacc) (?P<score_value>\S+)")


class Series(NamedTuple):
    """Values over iterations: `y` is None where a value is not finite and where a run was begun again."""

    x: list
    y: list

    def add(self, x, y):
        """Append a point; a step back (a resumed run) leaves a gap."""
        if self.x and x < self.x[-1]:
            self.x.append(x)
            self.y.append(None)
        self.x.append(x)
        self.y.append(y if math.isfinite(y) else None)


def read_log(path):
    """Return {what: Series} of a log: "loss", "learning rate", "train: NAME", "test #0: NAME", "score: mean IU".

    A test output with several values of one name, as a map has, is left out: there is no single value to draw. Raises `Error`
    when the file is no training log.
    """
    series, at, train_at, net = {}, None, None, 0
    told = {}  # (what, iteration) -> how many values

    def add(what, iteration, word):
        with contextlib.suppress(ValueError):
            value = float(word.rstrip(","))
            told[what, iteration] = told.get((what, iteration), 0) + 1
            series.setdefault(what, Series([], [])).add(int(iteration), value)

    for found in LINES.finditer(files.read_text(path)):
        one = found.groupdict()
        if one["loss_at"]:
            train_at = one["loss_at"]
            add("loss", train_at, one["loss"])
        elif one["rate_at"]:
            add("learning rate", one["rate_at"], one["rate"])
        elif one["test_at"]:
            at, net = one["test_at"], one["net"]
        elif one["test"] and at is not None:
            add(f"test #{net}: {one['test']}", at, one["test_value"])
        elif one["train"] and train_at is not None:
            add(f"train: {one['train']}", train_at, one["train_value"])
        elif one["score"]:
            add(f"score: {one['score']}", one["score_at"], one["score_value"])
    if not series:
        raise Error(f"'{path}' is no training log: it has no line such as 'Iteration 20, loss = 1.5'; give what a training run "
                    "wrote to stderr (solvers.run --log FILE keeps it)")
    maps = {what for (what, _), count in told.items() if count > 1 and what.startswith(("test", "train"))}
    return {what: one for what, one in series.items() if what not in maps}


def smoothed(series, window):
    """Return the running mean of `window` values (fewer at the beginning and after a gap)."""
    out, recent = Series(list(series.x), []), []
    for value in series.y:
        if value is None:
            recent = []
            out.y.append(None)
            continue
        recent = [*recent[1 - window:], value] if window > 1 else [value]
        out.y.append(sum(recent) / len(recent))
    return out
