"""What holds for every test."""

import logging

import pytest


@pytest.fixture(autouse=True)
def log_as_before():
    """Take away what a command or a solver hung on deepjet's log, so that no test hears another's."""
    log = logging.getLogger("deepjet")
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:] = handlers
    log.setLevel(level)
    log.propagate = propagate
