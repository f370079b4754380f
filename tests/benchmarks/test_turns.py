"""Engines are timed in turns; sizes that are met for the first time are told apart from those that were met before."""

import pytest

from benchmarks import report, rows, turns
from benchmarks.measure import empty
from benchmarks.turns import Pair


class Engine:
    """Takes 4 seconds for an input it has not met, 1 for the others; both times `factor`."""

    last = None

    def __init__(self, factor=1):
        self.factor, self.met, self.calls = factor, {0}, []

    def time(self, number, before):
        if before is not None:
            self.met.add(before)
        self.last = (1 if number in self.met else 4) * self.factor
        self.met.add(number)
        self.calls.append((number, before))
        return self.last


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0)


def test_calls_on_inputs_met_before_and_those_that_met_them_are_two_pairs():
    pair, met = turns.in_turns(Engine(), Engine(2), 0, 8, 4)
    assert pair.turns == [(1, 2)] * 8
    assert met == Pair(4, 8, 0.5, [(4, 8)] * 3)


def test_an_engine_that_keeps_its_size_is_never_measured_when_it_meets_one():
    ours, theirs = Engine(), Engine()
    pair, met = turns.in_turns(ours, theirs, 0, 4, 4, theirs_keep=True)
    assert met.turns == [(4, 1)] * 3 and pair.turns == [(1, 1)] * 4
    assert all(number == before for number, before in theirs.calls)
    assert all(number != before for number, before in ours.calls)


def test_one_input_is_not_met_twice():
    ours = Engine()
    pair, met = turns.in_turns(ours, Engine(), 0, 3)
    assert met is None and pair.turns == [(1, 1)] * 3 and {number for number, _ in ours.calls} == {0}


def test_the_table_has_a_line_for_sizes_first_met_and_no_goals_there():
    row = next(row for row in rows.ROWS if row.kind == "varying")
    result = empty(row)
    result["pairs"]["ncnn"] = Pair.of([(1, 2)])._asdict()
    result["first met"]["ncnn"] = Pair.of([(3, 4)])._asdict()
    page = report.markdown({"processor": "any", "threads": 2, "date": "today"}, {}, {}, [result], "run")
    before, met = (line for line in page.splitlines() if line.startswith(f"| {row.name}"))
    assert "each met before | 1.00 s | 2.00 s (0.50)" in before and "best float32 1: 0.50 met" in before
    assert "first met | 3.00 s | 4.00 s (0.75) | - |" in met
