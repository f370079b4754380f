"""Tests that need a card: a real one, or the one that numba's simulator plays with NUMBA_ENABLE_CUDASIM=1 (`make test-sim`)."""

import numpy as np
import pytest

from layers.core.cuda import card as cards
from layers.core.cuda.kernel import cuda, kernel

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
        from netspec.errors import Error

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
