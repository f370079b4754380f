"""pycaffe's process-wide settings: they are what nets start from that are made later and say nothing themselves."""

import logging

from layers.core import rng
from layers.core.cuda import card as cards
from netspec.errors import Error

log = logging.getLogger("deepjet")
_gpu = None  # the number of the card that nets are made on
_number = 0  # of the card that set_mode_gpu means
_refused = set()  # numbers of which the log has told


def set_mode_cpu():
    """Make nets on the CPU from now on."""
    global _gpu
    _gpu = None


def set_mode_gpu():
    """Make nets on the card that `set_device` named (0 if none) from now on.

    Where there is no such card the log says why, and nets go on on the CPU: published scripts call this whatever the machine.
    """
    global _gpu
    try:
        cards.find(_number)
        _gpu = _number
    except Error as error:
        if _gpu is not None or _number not in _refused:
            log.warning("set_mode_gpu: deepjet computes on the CPU (the same results, slower): %s", error)
        _refused.add(_number)
        _gpu = None


def get_mode():
    """Return "cpu" or "gpu"."""
    return "cpu" if _gpu is None else "gpu"


def set_device(number):
    """Choose the card, counted from 0, that nets are made on in GPU mode."""
    global _gpu, _number
    _number = int(number)
    if _gpu is not None:
        set_mode_gpu()


def device():
    """Return what `Net(device=...)` takes: a card's number, or None for the default."""
    return _gpu


def set_random_seed(seed):
    """Seed the nets that are made from now on and have no seed of their own."""
    rng.seed_process(seed)
