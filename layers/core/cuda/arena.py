"""Arena: a card's memory, taken from the driver in a few large pieces and handed out from there.

Asking the driver takes as long as a kernel, and waits for those that run. So a net reserves once what its plan says, and
blobs take and give back parts without asking anybody. A part is used again only for work that is queued later, on the same
stream: nothing has to be waited for.
"""

import bisect
import threading

ALIGNMENT = 256  # bytes: what the driver itself promises


class Arena:
    """Memory of one card.

    Attributes
    ----------
    capacity : int
        Bytes taken from the driver.
    taken : int
        Bytes handed out.
    """

    def __init__(self, card):
        self.card = card
        self.capacity = self.taken = self.peak = 0
        self._pieces = []
        self._free = []  # (piece, offset, nbytes) in that order, never two side by side
        self._lock = threading.RLock()  # parts come back from wherever the garbage collector runs

    def reserve(self, nbytes):
        """See that `nbytes` more can be taken without asking the driver again (in one part, if that is how it is asked for)."""
        with self._lock:
            free = sum(size for _, _, size in self._free)
            if nbytes > free:
                self._grow(nbytes - free)

    def take(self, nbytes):
        """Return a part of at least `nbytes`, aligned to 256 bytes and not cleared."""
        nbytes = -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
        with self._lock:
            number = self._fitting(nbytes)
            if number is None:
                self._grow(nbytes)
                number = self._fitting(nbytes)
            piece, offset, size = self._free.pop(number)
            if size > nbytes:
                self._free.insert(number, (piece, offset + nbytes, size - nbytes))
            self.taken += nbytes
            self.peak = max(self.peak, self.taken)
            return Part(self, piece, offset, self.card.within(self._pieces[piece], offset, nbytes))

    def _fitting(self, nbytes):
        """Return the number of the smallest free part that is large enough: large ones stay for large blobs."""
        sizes = [(size, number) for number, (_, _, size) in enumerate(self._free) if size >= nbytes]
        return min(sizes)[1] if sizes else None

    def _grow(self, nbytes):
        nbytes = -(-nbytes // ALIGNMENT) * ALIGNMENT
        self._pieces.append(self.card.take(nbytes))
        self.capacity += nbytes
        self._free.append((len(self._pieces) - 1, 0, nbytes))

    def give_back(self, part):
        """Take a part back."""
        with self._lock:
            piece, offset, nbytes = part.piece, part.offset, part.span.nbytes
            self.taken -= nbytes
            at = bisect.bisect(self._free, (piece, offset))
            if at < len(self._free) and self._free[at][:2] == (piece, offset + nbytes):
                nbytes += self._free.pop(at)[2]
            if at and self._free[at - 1][0] == piece and sum(self._free[at - 1][1:]) == offset:
                _, offset, before = self._free.pop(at - 1)
                nbytes, at = nbytes + before, at - 1
            self._free.insert(at, (piece, offset, nbytes))


class Part:
    """Memory that goes back to its arena with the last who knows it.

    Attributes
    ----------
    span : layers.core.cuda.card.Span
    """

    __slots__ = ("arena", "offset", "piece", "span")

    def __init__(self, arena, piece, offset, span):
        self.arena, self.piece, self.offset, self.span = arena, piece, offset, span

    def __del__(self):
        self.arena.give_back(self)
