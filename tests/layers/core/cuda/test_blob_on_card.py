"""A blob's values are on the side that has the newer ones, whoever writes and however."""

import functools
import gc

import numpy as np
import pytest

from layers.core.blob import Blob
from layers.core.cuda import card as cards
from netspec.errors import Error
from tests.layers.core.cuda.simulated import add_cuda, needs_card, read

pytestmark = needs_card
SHAPE = (2, 3, 4)


@pytest.fixture
def card():
    return cards.find("gpu")


@pytest.fixture
def counted(card, monkeypatch):
    """Return {"upload": calls, "download": calls} of the card from now on."""
    counts = {"upload": 0, "download": 0}
    for name in counts:
        def counting(call, name, *arguments):
            counts[name] += 1
            return call(*arguments)

        monkeypatch.setattr(card, name, functools.partial(counting, getattr(card, name), name))
    return counts


def ramp(shape=SHAPE):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def blob_of(values, name="x"):
    blob = Blob(values.shape, name)
    blob.data[...] = values
    return blob


def add(card, blob, value, diff=False):
    card.run(add_cuda, blob.count, blob.change_on(card, diff), value)


def on(card, blob, diff=False):
    return read(card, blob.on(card, diff), blob.count).reshape(blob.shape)


def test_the_card_sees_what_the_host_wrote_and_the_host_what_the_card_wrote(card):
    blob = blob_of(ramp())
    assert (on(card, blob) == ramp()).all()
    add(card, blob, 1)
    assert (blob.data == ramp() + 1).all()
    blob.data[0] = 7
    add(card, blob, 1)
    expected = ramp() + 2
    expected[0] = 8
    assert (blob.data == expected).all()


def test_untouched_values_are_zero_on_the_card_and_take_no_memory_of_the_host(card):
    blob = Blob(SHAPE, "x")
    assert not on(card, blob).any() and blob.memory().nbytes == 0
    add(card, blob, 3, diff=True)
    assert (blob.diff == 3).all()


def test_nothing_moves_that_need_not(card, counted):
    blob = blob_of(ramp())
    for _ in range(3):
        blob.on(card)
    assert counted == {"upload": 1, "download": 0}
    add(card, blob, 1)
    add(card, blob, 1)
    assert counted == {"upload": 1, "download": 0}
    for _ in range(3):
        blob.peek()
    assert counted == {"upload": 1, "download": 1}
    blob.on(card)  # whoever only peeks has changed nothing
    assert counted == {"upload": 1, "download": 1}
    blob.write_on(card)
    assert counted == {"upload": 1, "download": 1}


def test_a_kernel_that_writes_every_value_needs_none_from_the_host(card, counted):
    blob = blob_of(ramp())
    card.upload(blob.write_on(card), ramp() * 2)
    assert counted["upload"] == 1
    assert (blob.data == ramp() * 2).all()


def test_a_held_view_may_be_written_at_any_time(card):
    blob = blob_of(ramp())
    view = blob.data
    assert (on(card, blob) == ramp()).all()
    view[...] = 5
    assert (on(card, blob) == 5).all()
    view[...] = 6  # the card has values, and these are newer
    add(card, blob, 1)
    assert (view == 6).all()  # until somebody asks for `data`, as in Caffe
    assert (blob.data == 7).all() and (view == 7).all()
    view[...] = 8
    assert (on(card, blob) == 8).all()


def test_in_place_and_shared_values_are_one(card):
    blob, other = blob_of(ramp()), Blob((24,), "y")
    other.share_data(blob)
    add(card, other, 1)
    assert (blob.data == ramp() + 1).all()
    blob.data[...] = 4
    assert (on(card, other) == 4).all()
    other.share_diff(blob)
    add(card, blob, 2, diff=True)
    assert (other.diff == 2).all() and other.diff.shape == (24,)


def test_shrinking_keeps_values_and_memory_and_growing_gives_it_back(card):
    blob = blob_of(ramp())
    add(card, blob, 1)
    gc.collect()
    taken, address = card.arena.taken, id(blob.memory().part)
    blob.reshape(2, 5)
    assert (on(card, blob).reshape(-1) == ramp().reshape(-1)[:10] + 1).all()
    add(card, blob, 1)
    blob.reshape(SHAPE)
    assert id(blob.memory().part) == address
    flat = ramp().reshape(-1) + 1
    flat[:10] += 1
    assert (blob.data.reshape(-1) == flat).all()
    blob.reshape(100, 100)
    assert not on(card, blob).any()
    assert card.arena.taken == taken - 256 + 40192
    del blob
    assert card.arena.taken == taken - 256


def test_an_empty_blob_has_a_place(card):
    blob = Blob((0, 3), "x")
    assert on(card, blob).shape == (0, 3)
    add(card, blob, 1)
    assert blob.data.shape == (0, 3)


def test_clearing_on_the_card(card):
    blob = blob_of(ramp())
    assert not blob.memory().clear_on_card()  # it was never there: nothing is done
    add(card, blob, 1)
    assert blob.memory().clear_on_card()
    assert not blob.data.any() and not on(card, blob).any()
    blob.data[...] = 3  # the host's are newer
    assert not blob.memory().clear_on_card()
    assert (on(card, blob) == 3).all()


def test_values_that_were_given_up_are_lost_on_the_card_too(card):
    blob = blob_of(ramp())
    add(card, blob, 1)
    gc.collect()
    taken = card.arena.taken
    blob.memory().give_up([])
    assert card.arena.taken == taken - 256
    for ask in (lambda: blob.data, lambda: blob.on(card), lambda: blob.change_on(card)):
        with pytest.raises(Error, match="given up"):
            ask()
    card.upload(blob.write_on(card), ramp())
    assert (blob.data == ramp()).all()


def test_blocks_are_brought_to_the_card_as_nchw_and_forgotten_when_it_writes(card):
    values = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    blob = Blob(values.shape, "x")
    blob.blocks = True
    assert blob.write().picture.blocked
    blob.memory().blocked.put(values)
    assert (on(card, blob) == values).all()
    add(card, blob, 1)
    assert not blob.memory().in_blocks(blob.shape)
    assert (blob.nchw() == values + 1).all()
    assert blob.write().picture.blocked  # and the next layer of the host may write blocks again
    blob.memory().blocked.put(values)
    assert (on(card, blob) == values).all() and (blob.data == values).all()


def test_doubles_do_not_go_to_a_card(card):
    with pytest.raises(Error, match="values of float64 on a card: cards compute in float32"):
        Blob(SHAPE, "x", np.float64).on(card)


def test_a_blob_can_go_to_another_card(card):
    other = cards.SimulatedCard(1) if cards.simulated() else None
    if other is None:
        pytest.skip("needs two cards")
    blob = blob_of(ramp())
    add(card, blob, 1)
    add(other, blob, 1)
    assert (blob.data == ramp() + 2).all()
    add(card, blob, 1)
    assert (blob.data == ramp() + 3).all()
    assert other.arena.taken == 0
