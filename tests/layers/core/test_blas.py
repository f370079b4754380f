"""Items on threads, scratch memory, and BLAS held to one thread meanwhile."""

import threading

import numpy as np
import pytest

from layers.core.cpu import blas, parallel


@pytest.fixture(autouse=True)
def three_threads():
    before = parallel.threads()
    parallel.set_threads(3)
    yield
    parallel.set_threads(before)


def test_each_item_is_done_once():
    done = []
    blas.each([(i, i * i) for i in range(50)], lambda *item: done.append(item), 1 << 30)
    assert sorted(done) == [(i, i * i) for i in range(50)]
    blas.each([], done.append, 1 << 30)
    assert len(done) == 50


def test_an_error_in_an_item_reaches_the_caller():
    def fail(number):
        if number == 7:
            raise ValueError("seven")

    with pytest.raises(ValueError, match="seven"):
        blas.each([(i,) for i in range(20)], fail, 1 << 30)


def test_blas_has_one_thread_inside_and_its_own_again_outside():
    get, put = blas._openblas()
    before = get()
    seen = []
    blas.each([(i,) for i in range(6)], lambda i: seen.append(get()), 1 << 30)
    assert set(seen) == {1}
    with blas.one_thread(), blas.one_thread():
        assert get() == 1
    assert get() == before


def test_scratch_is_reused_by_slot_and_thread():
    one = blas.scratch((3, 4), np.float32, "test")
    assert one.shape == (3, 4) and one.dtype == np.float32
    assert np.shares_memory(one, blas.scratch((2, 2), np.float32, "test"))
    assert not np.shares_memory(one, blas.scratch((3, 4), np.float32, "test 2"))
    assert not np.shares_memory(one, blas.scratch((3, 4), np.float64, "test"))
    others = []
    thread = threading.Thread(target=lambda: others.append(blas.scratch((3, 4), np.float32, "test")))
    thread.start()
    thread.join()
    assert not np.shares_memory(one, others[0])


def test_large_scratch_is_not_kept(monkeypatch):
    monkeypatch.setattr(blas, "KEEP", 64)
    assert not np.shares_memory(blas.scratch((99,), np.float32, "test"), blas.scratch((99,), np.float32, "test"))
