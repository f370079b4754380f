"""Work of a card that is written down once and then done again and again, without Python in between.

On a real card this is a CUDA graph: kernels, copies and memsets of a stream with their arguments as they were. What brings values
to the card or waits for it cannot be in one, nor can memory be taken from the driver; `NotRecorded` says so, and whoever records
does the work plainly then. The simulated card keeps a list.
"""

import contextlib

from layers.core.cuda.driver import CardError


class NotRecorded(CardError):
    """The work cannot be written down: it moves values to or from the host, or takes memory."""


class Recording:
    """What `record` wrote down.

    Attributes
    ----------
    accesses : list
        Which blobs the work asked for, in its order: (blob, diff, read, write, shape, span).
    taken : list
        Ranges of the arena's memory that it took, (piece, offset, nbytes), maybe gave back and took again.
    """

    def __init__(self, card):
        self.card = card
        self.accesses, self.taken = [], []
        self._parts = self._work = None

    def fits(self):
        """Bring what the work reads to the card, as if it ran; return whether all blobs are where and as they were."""
        return _bring(self.card, self.accesses)

    def replay(self):
        """Queue the work."""
        self.card.replay(self._work)

    def __del__(self):
        if self._work is not None:
            self.card.forget(self._work)


@contextlib.contextmanager
def record(card):
    """Within the block work of a card is not done but written down; gives the `Recording`, which is complete afterwards."""
    recording = Recording(card)
    card.begin_recording()
    card.recording, card.accesses, card.arena.watched = recording, recording.accesses, recording.taken
    try:
        yield recording
    except BaseException:
        card.recording = card.accesses = card.arena.watched = None
        with contextlib.suppress(CardError):
            card.forget(card.end_recording())
        raise
    card.recording = card.accesses = card.arena.watched = None
    recording._work = card.end_recording()
    # Scratch was given back, but is used at each replay: nobody else may have it.
    recording._parts = card.arena.hold(recording.taken)


def _bring(card, accesses):
    for blob, diff, read, write, shape, span in accesses:
        if blob.shape != shape or blob.memory(diff).span(card, blob.count, read, write) is not span:
            return False
    return True


TRIES = 3  # of recording the same work, before it is left at running plainly


class Repeated:
    """Work that is done often with the same blobs: plainly at first, then recorded, then replayed."""

    def __init__(self, card):
        self.card = card
        self.key = self.recording = None
        self.tries = TRIES
        self.accesses = []  # of the last time that the work was done plainly

    def run(self, key, work, prepare=None):
        """Do ``work()``, after ``prepare()``, which is never recorded.

        `key` tells what the work depends on beside the blobs that it asks the card for and what `prepare` writes there.
        """
        if key != self.key:
            self.key, self.recording, self.tries = key, None, TRIES
            self._plainly(work, prepare)  # compiles kernels and takes memory
            return
        if not (_bring(self.card, self.accesses) if self.recording is None else self.recording.fits()):
            self.recording = None
            self._plainly(work, prepare)
            return
        if prepare is not None:
            prepare()
        if self.recording is None and self.tries:
            try:
                with record(self.card) as recording:
                    work()
                self.recording = recording
            except CardError:
                self.tries -= 1  # the card's memory may have had to grow: then it has by the next time
        if self.recording is None:
            work()
        else:
            self.recording.replay()

    def _plainly(self, work, prepare):
        self.accesses = self.card.accesses = []
        try:
            if prepare is not None:
                prepare()
            work()
        finally:
            self.card.accesses = None
