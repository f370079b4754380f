"""Tests that need a card: a real one, or the one that numba's simulator plays with NUMBA_ENABLE_CUDASIM=1 (`make test-sim`)."""

import os
import subprocess
import sys

import numpy as np
import pytest

from layers.core.cuda import card as cards
from layers.core.cuda.kernel import cuda, kernel
from netspec.errors import Error
from tests.support import ROOT

# Caffe's recorded layers, and whatever asks for `needs_card`.
SUITE = ["tests/layers/test_goldens.py::test_layer_equals_caffe", "tests/layers/core/cuda", "tests/solvers/test_on_card.py",
         "tests/solvers/test_queued.py",
         "tests/solvers/test_engine.py::test_training_on_a_card_prints_its_plan"]
needs_card = pytest.mark.skipif(not cards.cards(), reason="needs a card, or NUMBA_ENABLE_CUDASIM=1 (make test-sim)")


@kernel("float*, float, int")
def add_cuda(x, value, count):
    """x += value."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        x[i] = x[i] + value


def read(card, span, count, dtype=np.float32):
    """Return values of a span."""
    array = np.empty(count, dtype)
    card.download(array, span)
    return array


class Memory:
    """Stands for a card's memory under an arena: pieces of it, `most` bytes in all."""

    def __init__(self, most=1 << 20):
        self.most, self.pieces = most, []

    def take(self, nbytes):
        """Return a piece."""
        if nbytes > self.memory()[1]:
            raise Error(f"no {nbytes} bytes more")
        self.pieces.append(cards.Span(1 << 20 << len(self.pieces), nbytes))
        return self.pieces[-1]

    def give_back(self, span):
        """Take a piece back."""
        self.pieces.remove(span)

    def memory(self):
        """Return (all, free)."""
        return self.most, self.most - sum(span.nbytes for span in self.pieces)

    @staticmethod
    def within(span, offset, nbytes):
        """Return a part of a piece."""
        return cards.Card.within(span, offset, nbytes)


def run(*options, capture=False):
    """Run the suite on a simulated card, with more options for pytest; return the finished process."""
    # One thread: the simulator has threads enough, and the kernels of the CPU are small here.
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "DEEPJET_DEVICE": "gpu", "DEEPJET_THREADS": "1"}
    keywords = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) if capture else {}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUITE, *options]
    return subprocess.run(command, cwd=ROOT, env=environment, **keywords)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]).returncode)
