"""Small things that layers keep on a card: tables that seldom change, and flags that kernels raise."""

import numpy as np


def uploaded(card, array):
    """Return a `Part` that holds a copy of an array."""
    array = np.ascontiguousarray(array)
    part = card.arena.take(array.nbytes)
    if array.nbytes:
        card.upload(part.span, array)
    return part


class Numbers:
    """Numbers that kernels read in a card's memory, because they change from one replay of a recording to the next.

    Attributes
    ----------
    span : Span
        Where they are.
    """

    def __init__(self, card, count, dtype=np.float32):
        self.card, self._dtype, self._sent = card, dtype, None
        self._part = card.arena.take(count * np.dtype(dtype).itemsize)
        self.span = self._part.span

    def write(self, values):
        """Bring them there, if they are others than those that were brought last."""
        values = np.ascontiguousarray(values, self._dtype)
        if self._sent is None or self._sent.tobytes() != values.tobytes():
            self.card.upload(self.span, values)
            self._sent = values.copy()


class Flag:
    """A number that kernels set to 1 when they find something wrong: nobody waits for it until it is looked at.

    Attributes
    ----------
    span : Span
        Where the int32 is.
    """

    def __init__(self, card):
        self.card, self._part = card, card.arena.take(4)
        self.span = self._part.span

    def lowered(self):
        """Return the span of the int32, set to 0."""
        self.card.clear(self.span, 4)
        return self.span

    def raised(self):
        """Return whether a kernel found something; waits for all that was queued."""
        found = np.empty(1, np.int32)
        self.card.download(found, self.span)
        return bool(found[0])
