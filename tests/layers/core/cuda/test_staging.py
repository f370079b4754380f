"""Pinned memory: values go on from there, and nothing is overwritten whose copy is not made."""

import ctypes

import numpy as np
import pytest

from layers.core.cuda import card as cards
from layers.core.cuda import driver, staging
from tests.layers.core.cuda.fake_driver import CUresult, FakeDriver


@pytest.fixture
def fake(monkeypatch):
    made = FakeDriver()
    monkeypatch.setattr(driver, "driver", made)
    monkeypatch.setattr(cards, "simulated", lambda: False)
    monkeypatch.setattr(staging, "SIZE", 1024)
    return made


def make(fake, size=1024):
    card = cards.Card(0)
    card._staging = staging.Staging(card, size)
    part = card.arena.take(4096)
    fake.called.clear()
    return card, part


def names(fake):
    return [call[0] for call in fake.called]


def test_values_go_through_pinned_memory(fake):
    card, part = make(fake)
    values = np.arange(50, dtype=np.float32)
    card.upload(part.span, values)
    assert names(fake) == ["MemHostAlloc", "MemcpyHtoDAsync", "EventCreate", "EventRecord"]
    source = fake.called[1][2]
    assert source == ctypes.addressof(fake.pinned) != values.ctypes.data
    assert ctypes.string_at(part.span.address, 200) == values.tobytes()


def test_only_who_is_a_ring_ahead_waits_and_for_the_oldest(fake):
    card, part = make(fake)
    for _ in range(2):
        card.upload(part.span, np.zeros(100, np.float32))
    assert "EventSynchronize" not in names(fake)
    fake.called.clear()
    card.upload(part.span, np.zeros(60, np.float32))  # begins anew, where the first lies
    assert names(fake) == ["EventSynchronize", "MemcpyHtoDAsync", "EventRecord"] and fake.called[0][1] == "event 1"
    fake.called.clear()
    card.upload(part.span, np.zeros(60, np.float32))  # up to 480, over the second, too
    assert [call[1] for call in fake.called if call[0] == "EventSynchronize"] == ["event 2"]


@pytest.mark.parametrize("how", ["large", "empty", "refused"])
def test_what_does_not_go_through_it_is_copied_all_the_same(fake, how):
    card, part = make(fake)
    if how == "refused":
        fake.fails["MemHostAlloc"] = CUresult.CUDA_ERROR_OUT_OF_MEMORY
    values = np.arange({"large": 200, "empty": 0, "refused": 9}[how], dtype=np.float32)
    for _ in range(2):
        card.upload(part.span, values)
    assert [call[2] for call in fake.called if call[0] == "MemcpyHtoDAsync"] == [values.ctypes.data] * 2
    assert names(fake).count("MemHostAlloc") == (how == "refused")
    assert ctypes.string_at(part.span.address, values.nbytes) == values.tobytes()
