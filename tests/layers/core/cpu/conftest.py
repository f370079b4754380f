"""Threads even for small work, so that tests see how it is shared out."""

import pytest

from layers.core.cpu import parallel


@pytest.fixture(autouse=True)
def small_work_uses_threads(monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 1)
    before = parallel.threads()
    parallel.set_threads(2)
    yield
    parallel.set_threads(before)
