"""What the driver is told while a solver trains on a card: when the host waits, and what is replayed."""

import gc

import pytest

from layers.core.cuda import card as cards
from layers.core.cuda import compiler, driver
from solvers import solver
from tests.layers.core.cuda.fake_driver import FakeDriver
from tests.solvers import small


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Give the fake driver of the only card, which computes nothing."""
    fake = FakeDriver(most=1 << 26)
    monkeypatch.setattr(driver, "driver", fake)
    monkeypatch.setattr(compiler, "ptx_of", lambda kernel, capability: ("ptx", "entry"))
    monkeypatch.setattr(cards, "simulated", lambda: False)
    made = cards.Card(0)
    monkeypatch.setattr(cards, "card", lambda number: made)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPJET_DEVICE", "gpu")
    yield fake
    gc.collect()  # graphs are given back to this driver


@pytest.mark.parametrize("text, graphs", [("", 1), ("iter_size: 3 clip_gradients: 1", 4)])
def test_steps_are_replayed_and_nobody_waits_between_them(told, tmp_path, text, graphs):
    made = solver.make(str(small.write(tmp_path, solver=small.SOLVER.replace("display: 1 ", "display: 0 ") + text)))
    made.step(5)  # plainly, and written down
    told.called.clear()
    made.step(6)
    names = [call[0] for call in told.called]
    assert names.count("GraphLaunch") == 6 * graphs and "LaunchKernel" not in names and "MemAlloc" not in names
    assert names.count("StreamSynchronize") == names.count("MemcpyDtoHAsync") == 1 and names[-1] == "StreamSynchronize"
    assert "EventSynchronize" not in names
    # Between two steps: image, label and where dropout begins; gradients cleared; what the step said put aside.
    step = names[names.index("GraphLaunch") + 1:]
    step = step[:len(step) - step[::-1].index("GraphLaunch")]
    assert set(step) <= {"GraphLaunch", "MemcpyHtoDAsync", "EventCreate", "EventRecord", "MemcpyDtoDAsync", "MemsetD8Async"}
    passes = 6 * (graphs - (graphs > 1))
    assert names.count("MemcpyHtoDAsync") == 3 * passes + 1  # and that all is well, at the beginning


def test_a_display_waits_once(told, tmp_path):
    made = solver.make(str(small.write(tmp_path, solver=small.SOLVER.replace("display: 1 ", "display: 4 "))))
    made.step(5)
    told.called.clear()
    made.step(4)
    copies = [call for call in told.called if call[0] == "MemcpyDtoHAsync"]
    assert len(copies) <= 1 + 1 + len(made.net.learnable_params)  # losses, the top that is shown, whether parameters are finite
