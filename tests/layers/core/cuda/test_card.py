"""Which card is meant; a card's memory, copies and launches, over a driver that is made up and in the simulator."""

import ctypes
import threading

import numpy as np
import pytest

from layers.core.cuda import card as cards
from layers.core.cuda import compiler, driver
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error, UnknownName
from tests.layers.core.cuda.fake_driver import CUresult, FakeDriver
from tests.layers.core.cuda.simulated import add_cuda, needs_card, read


@pytest.fixture
def fake(monkeypatch):
    """Two new cards and one too old, 1 MiB each."""
    made = FakeDriver([(9, 0), (7, 0), (7, 5)])
    monkeypatch.setattr(driver, "driver", made)
    monkeypatch.setattr(cards, "simulated", lambda: False)
    monkeypatch.setattr(compiler, "ptx_of", lambda kernel, capability: (f"{kernel.name} {capability}", "entry"))
    cards.card.cache_clear()
    yield made
    cards.card.cache_clear()


# --- which one -------------------------------------------------------------------------------------------------------


def test_devices_are_found_by_number_and_name(fake):
    for name in (None, "", "cpu"):
        assert cards.find(name) is None
    first = cards.find("gpu")
    for name in (0, np.int64(0), "0", "gpu:0", "cuda", "cuda:0", first):
        assert cards.find(name) is first
    other = cards.find("gpu:2")
    assert (other.number, other.name, other.capability, other.processors) == (2, "Fake 2", (7, 5), 4)
    assert repr(other) == "<card 2: Fake 2, capability 7.5>"
    assert cards.cards() == [("Fake 0", (9, 0), 1 << 20), ("Fake 1", (7, 0), 1 << 20), ("Fake 2", (7, 5), 1 << 20)]


@pytest.mark.parametrize("device, message", [
    ("gpu:1", r"card 1 \(Fake 1\) is of capability 7\.0; deepjet needs 7\.5 \(Turing\) or newer: compute on the CPU"),
    ("gpu:3", r"no card 3: the driver sees 3, numbers 0 to 2; nvidia-smi -L lists them"),
    (-1, r"device -1: cards are counted from 0"),
    ("gpu:-1", r"device gpu:-1: cards are counted from 0"),
    ("gpu:all", r"device 'gpu:all': deepjet runs a net on one card so far; name one, such as 'gpu:0'"),
    ("all", r"one card so far"),
    ("gpu:0,1", r"device 'gpu:0,1': deepjet runs a net on one card so far"),
    ("0,1", r"one card so far"),
    ("gpu:0:1", r"device 'gpu:0:1'; it is 'cpu', 'gpu' or 'gpu:NUMBER'"),
    ("tpu", r"device 'tpu'; it is"),
    ("gpu:²", r"device 'gpu:²'; it is"),
])
def test_what_is_no_card_is_refused_with_the_cure(fake, device, message):
    with pytest.raises(Error, match=message):
        cards.find(device)


def test_a_wrong_name_is_a_mistake_of_the_caller(fake):
    with pytest.raises(UnknownName):
        cards.find("tpu")


def test_no_card_at_all(fake):
    fake.capabilities = ()
    with pytest.raises(Error, match=r"no card 0: the driver sees 0; nvidia-smi -L"):
        cards.find("gpu")
    fake.fails["Init"] = CUresult.CUDA_ERROR_NO_DEVICE
    with pytest.raises(Error, match=r"refuses Init: cuda_error_no_device \(100\)"):
        cards.find("gpu")
    assert cards.cards() == []


def test_a_card_that_was_refused_is_asked_again(fake):
    fake.fails["Init"] = CUresult.CUDA_ERROR_NO_DEVICE
    with pytest.raises(Error):
        cards.find("gpu")
    fake.fails.clear()
    assert cards.find("gpu").number == 0


# --- a card over a driver --------------------------------------------------------------------------------------------


def test_values_go_there_and_back(fake):
    card = cards.find("gpu")
    part = card.arena.take(400)
    values = np.arange(100, dtype=np.float32)
    card.upload(part.span, values)
    assert (read(card, part.span, 100) == values).all()
    other = card.arena.take(400)
    card.copy(other.span, part.span, 200)
    card.clear(part.span, 40)
    assert (read(card, other.span, 50) == values[:50]).all()
    assert (read(card, part.span, 100) == np.where(values < 10, 0, values)).all()
    assert ("StreamSynchronize", "stream") in fake.called
    assert card.memory() == (1 << 20, (1 << 20) - card.arena.capacity)


def test_time_between_two_marks_is_the_cards(fake):
    card = cards.find("gpu")
    marks = card.mark(), card.mark()
    assert card.seconds(*marks) == 0.0025
    calls = [call[0] for call in fake.called if call[0].startswith("Event")]
    assert calls == [*["EventCreate", "EventRecord"] * 2, "EventSynchronize", "EventElapsedTime", *["EventDestroy"] * 2]


def test_too_little_memory_names_the_card_and_the_driver_is_asked_to_free(fake):
    card = cards.find("gpu")
    part = card.arena.take(1 << 19)
    with pytest.raises(Error, match=r"card 0 \(Fake 0\) has no 0\.00 GiB more: .*MemAlloc: cuda_error_out_of_memory"):
        card.arena.take(3 << 18)
    del part
    card.arena.take(3 << 18)
    names = [call[0] for call in fake.called]
    assert names[names.index("MemFree") - 1] == "StreamSynchronize"


def test_a_run_covers_its_elements_with_few_enough_blocks(fake):
    card = cards.find("gpu")
    part = card.arena.take(4)
    fake.layout = [ctypes.c_uint64, ctypes.c_float, ctypes.c_int32]
    for count, blocks in ((1, 1), (256, 1), (257, 2), (10**6, 128)):
        card.run(add_cuda, count, part.span, 0.5)
        _, grid, block, _, _, values, _ = fake.launched.pop()
        assert (grid, block, values) == ((blocks, 1, 1), (256, 1, 1), [part.span.address, 0.5, count])
    card.run(add_cuda, 0, part.span, 0.5)
    assert not fake.launched
    card.launch(add_cuda, (3, 2), part.span, 0.5, 7, threads=(32, 4))
    assert fake.launched[0][1:3] == ((3, 2, 1), (32, 4, 1))
    assert len([call for call in fake.called if call[0] == "ModuleLoadData"]) == 1


def test_every_thread_enters_the_cards_context_once(fake):
    card = cards.find("gpu")
    threads = [threading.Thread(target=lambda: (card.memory(), card.memory())) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    assert len([call for call in fake.called if call[0] == "CtxSetCurrent"]) == 3


def test_a_thread_that_uses_two_cards_goes_from_one_to_the_other(fake):
    one, other = cards.find("gpu:0"), cards.find("gpu:2")
    fake.called.clear()
    for card in (one, one, other, one):
        card.memory()
    entered = [call[1] for call in fake.called if call[0] == "CtxSetCurrent"]
    assert entered == ["context 0", "context 2", "context 0"]


def test_an_error_of_a_kernel_comes_out_where_values_are_read(fake):
    card = cards.find("gpu")
    part = card.arena.take(4)
    fake.fails["StreamSynchronize"] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(driver.DriverError, match=r"cuda_error_illegal_address \(700\)"):
        read(card, part.span, 1)
    fake.fails.clear()


# --- in the simulator or on a card -----------------------------------------------------------------------------------


@needs_card
def test_a_kernel_runs():
    card = cards.find("gpu")
    part = card.arena.take(4 * 1000)
    card.upload(part.span, np.arange(1000, dtype=np.float32))
    card.run(add_cuda, 999, part.span, 0.5)
    expected = np.arange(1000, dtype=np.float32) + 0.5
    expected[999] = 999
    assert (read(card, part.span, 1000) == expected).all()


@needs_card
def test_a_net_of_doubles_is_refused():
    net = caffe_pb2.NetParameter(name="n")
    with pytest.raises(Error, match="a net of float64 on .*: cards compute in float32"):
        Net(net, dtype=np.float64, device="gpu")
