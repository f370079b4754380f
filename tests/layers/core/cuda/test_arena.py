"""The arena: parts that fit, joined again when they come back, from wherever the garbage collector runs."""

import gc
import random
import threading

import pytest

from layers.core.cuda.arena import ALIGNMENT, Arena
from netspec.errors import Error
from tests.layers.core.cuda.simulated import Memory

KIB = 1 << 10


def arena_of(most=1 << 20):
    return Arena(Memory(most))


def test_parts_are_aligned_and_lie_apart():
    arena = arena_of()
    arena.reserve(64 * KIB)
    parts = [arena.take(nbytes) for nbytes in (0, 1, 255, 256, 257, 5000)]
    spans = sorted(part.span for part in parts)
    assert all(span.address % ALIGNMENT == 0 for span in spans)
    assert all(one.address + one.nbytes <= next.address for one, next in zip(spans, spans[1:]))
    assert [part.span.nbytes for part in parts] == [256, 256, 256, 256, 512, 5120]
    assert arena.taken == arena.peak == 256 * 4 + 512 + 5120 and arena.capacity == 64 * KIB


def test_a_part_that_comes_back_is_joined_with_its_neighbours():
    arena = arena_of()
    arena.reserve(3 * KIB)
    first, second, third = (arena.take(KIB) for _ in range(3))
    address = first.span.address
    del first, third
    assert arena.taken == KIB and len(arena._free) == 2
    del second
    assert arena.taken == 0 and arena._free == [(0, 0, 3 * KIB)]
    assert arena.take(3 * KIB).span.address == address
    assert arena.capacity == 3 * KIB and arena.peak == 3 * KIB


def test_the_smallest_part_that_fits_is_taken():
    arena = arena_of()
    arena.reserve(16 * KIB)
    parts = [arena.take(nbytes * KIB) for nbytes in (4, 1, 2, 1, 8)]
    small = parts[2].span.address
    parts[0] = parts[2] = None
    assert arena.take(2 * KIB).span.address == small


def test_pieces_are_never_joined_with_each_other():
    arena = arena_of()
    first, second = arena.take(KIB), arena.take(KIB)
    assert len(arena.card.pieces) == 2
    del first, second
    assert arena.taken == 0 and arena._free == [(0, 0, KIB), (1, 0, KIB)]


def test_reserve_asks_the_driver_once_for_what_is_missing():
    arena = arena_of()
    arena.reserve(10 * KIB)
    arena.reserve(10 * KIB)
    parts = [arena.take(KIB) for _ in range(10)]
    assert [span.nbytes for span in arena.card.pieces] == [10 * KIB]
    arena.reserve(3 * KIB)
    parts += [arena.take(KIB) for _ in range(3)]
    assert [span.nbytes for span in arena.card.pieces] == [10 * KIB, 3 * KIB]
    assert arena.available() == (1 << 20) - 13 * KIB


def test_unused_pieces_go_back_to_the_driver_when_it_has_no_more():
    arena = arena_of(10 * KIB)
    kept, part = arena.take(2 * KIB), arena.take(4 * KIB)
    with pytest.raises(Error, match="no 6144 bytes more"):
        arena.take(6 * KIB)
    del part
    part = arena.take(6 * KIB)
    assert sorted(span.nbytes for span in arena.card.pieces) == [2 * KIB, 6 * KIB]
    assert arena.capacity == 8 * KIB and arena.available() == 2 * KIB
    del kept, part
    assert arena.taken == 0


def test_parts_may_come_back_at_any_point():
    """The garbage collector runs within `take`, in the same thread; and other threads let parts go."""
    arena = arena_of(64 << 20)

    class Knot:
        def __init__(self, part):
            self.part, self.me = part, self

    def work(seed):
        draw, held = random.Random(seed), []
        for _ in range(300):
            Knot(arena.take(draw.randrange(1, 4 * KIB)))
            held.append(arena.take(draw.randrange(1, 4 * KIB)))
            if len(held) > 20:
                held.pop(draw.randrange(20))

    thresholds = gc.get_threshold()
    gc.set_threshold(3, 2, 2)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert arena.taken == 0
    assert sum(size for _, _, size in arena._free) == arena.capacity
    assert all(one[:2] < next[:2] for one, next in zip(arena._free, arena._free[1:]))
    assert len(arena._free) == len(arena.card.pieces)
