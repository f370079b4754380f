"""What holds for every test."""

import logging
import signal

import pytest

LONGEST = "test_simulated.py"  # takes minutes in a process of its own: begun first, the other files run beside it

# A shell that starts something in the background lets it ignore Ctrl-C, and so its children, of which some tests are about that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Begin with the longest file."""
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(autouse=True)
def log_as_before():
    """Take away what a command or a solver hung on deepjet's log, so that no test hears another's."""
    log = logging.getLogger("deepjet")
    handlers, level, propagate = list(log.handlers), log.level, log.propagate
    yield
    log.handlers[:] = handlers
    log.setLevel(level)
    log.propagate = propagate
