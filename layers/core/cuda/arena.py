"""Arena: a card's memory, taken from the driver in a few large pieces and handed out from there.

Asking the driver takes as long as a kernel, and waits for those that run. So a net reserves once what its plan says, and
blobs take and give back parts without asking anybody. A part is used again only for work that is queued later, on the same
stream: nothing has to be waited for.
"""

import bisect
import collections
import threading

from netspec.errors import Error

ALIGNMENT = 256  # bytes: what the driver itself promises


class Arena:
    """Memory of one card.

    Attributes
    ----------
    capacity : int
        Bytes taken from the driver.
    peak : int
        The most bytes that were handed out at a time.
    """

    def __init__(self, card):
        self.card = card
        self.capacity = self.peak = self._taken = 0
        self._pieces = {}  # number -> span
        self._free = []  # (piece, offset, nbytes) in that order, never two side by side
        self.watched = None  # a list of what is taken, for a recording
        self._returned = collections.deque()  # as `_free`, in any order
        self._lock = threading.Lock()

    @property
    def taken(self):
        """Bytes handed out."""
        with self._lock:
            self._settle()
            return self._taken

    def available(self):
        """Return the bytes that can be taken: free ones here, and what the card's driver still has."""
        with self._lock:
            self._settle()
            return self.capacity - self._taken + self.card.memory()[1]

    def reserve(self, nbytes):
        """See that `nbytes` more can be taken without asking the driver again.

        What is not there comes as one piece; small pieces that nobody uses any more make room for it.
        """
        with self._lock:
            self._settle()
            if nbytes > self.capacity - self._taken:
                self._trim()  # and with them what is too small for any blob now
                self._grow(nbytes - (self.capacity - self._taken))

    def take(self, nbytes):
        """Return a part of at least `nbytes`, aligned to 256 bytes and not cleared."""
        return self._take(nbytes, False)

    def borrow(self, nbytes):
        """The same for a moment, at the far end: what is taken to be kept lies together, without holes of what was borrowed."""
        return self._take(nbytes, True)

    def _take(self, nbytes, far):
        nbytes = rounded(max(nbytes, 1))
        with self._lock:
            self._settle()
            number = self._fitting(nbytes, far)
            if number is None:
                self._grow(nbytes)
                number = self._fitting(nbytes, far)
            piece, offset, size = self._free.pop(number)
            if size > nbytes:
                left = (piece, offset, size - nbytes) if far else (piece, offset + nbytes, size - nbytes)
                self._free.insert(number, left)
                offset += far * (size - nbytes)
            self._taken += nbytes
            self.peak = max(self.peak, self._taken)
            if self.watched is not None:
                self.watched.append((piece, offset, nbytes))
            return Part(self, piece, offset, self.card.within(self._pieces[piece], offset, nbytes))

    def hold(self, ranges):
        """Take what is free of these ranges, (piece, offset, nbytes), and return it as a list of parts."""
        parts = []
        with self._lock:
            self._settle()
            for piece, first, wanted in ranges:
                for one in [one for one in self._free if one[0] == piece]:
                    _, offset, size = one
                    begin, end = max(first, offset), min(first + wanted, offset + size)
                    if begin >= end:
                        continue
                    self._free.remove(one)
                    rest = (piece, offset, begin - offset), (piece, end, offset + size - end)
                    for left in rest:
                        if left[2]:
                            bisect.insort(self._free, left)
                    self._taken += end - begin
                    parts.append(Part(self, piece, begin, self.card.within(self._pieces[piece], begin, end - begin)))
            self.peak = max(self.peak, self._taken)
        return parts

    def _fitting(self, nbytes, far):
        """Return the number of the smallest free part that is large enough: large ones stay for large blobs; or the last."""
        sizes = [(size, number) for number, (_, _, size) in enumerate(self._free) if size >= nbytes]
        return (sizes[-1] if far else min(sizes))[1] if sizes else None

    def _grow(self, nbytes):
        nbytes = rounded(nbytes)
        try:
            span = self.card.take(nbytes)
        except Error:
            # Pieces that nobody uses, too small for what is asked, may make room for one that is large enough.
            if self.watched is not None or not self._trim():
                raise
            span = self.card.take(nbytes)
        number = max(self._pieces, default=-1) + 1
        self._pieces[number] = span
        self.capacity += nbytes
        bisect.insort(self._free, (number, 0, nbytes))

    def _trim(self):
        """Give the driver back the pieces of which nothing is handed out; return whether there were any."""
        whole = [one for one in self._free if one[2] == self._pieces[one[0]].nbytes]
        for one in whole:
            self.card.give_back(self._pieces[one[0]])
            self._free.remove(one)
            del self._pieces[one[0]]
            self.capacity -= one[2]
        return bool(whole)

    def give_back(self, piece, offset, nbytes):
        """Take a part back.

        The garbage collector may call this at any point of any thread, within `take` too, so it is only written down.
        """
        self._returned.append((piece, offset, nbytes))

    def _settle(self):
        """Put what was given back among the free parts, joined with those beside it."""
        while self._returned:
            piece, offset, nbytes = self._returned.popleft()
            self._taken -= nbytes
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
        self.arena.give_back(self.piece, self.offset, self.span.nbytes)


def rounded(nbytes):
    """Return the bytes that a part of `nbytes` takes."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
