"""pycaffe's process-wide settings."""

import logging

from layers.core import rng

log = logging.getLogger("deepjet")
_gpu_said = False


def set_mode_cpu():
    """Compute on the CPU (as deepjet does so far anyway)."""


def set_mode_gpu():
    """Ask for the GPU: deepjet has no kernels for it yet, so it says once that it goes on with the CPU."""
    global _gpu_said
    if not _gpu_said:
        log.warning("set_mode_gpu: deepjet computes on the CPU so far; results are the same, the speed is not")
        _gpu_said = True


def get_mode():
    """Return "cpu"."""
    return "cpu"


def set_device(number):
    """Choose the GPU; takes effect when there are kernels for one."""


def set_random_seed(seed):
    """Seed the nets that are made from now on and have no seed of their own."""
    rng.seed_process(seed)
