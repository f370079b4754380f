"""Staging: pinned memory of the host, from which values go to a card while the host goes on.

The driver copies from pinned memory alone by itself; from other memory it may make the host wait until what was queued before is
done. So values are copied into a ring of pinned memory first, which is quick, and go on from there. What lies in the ring is
overwritten when its copy has been made; only who is a whole ring ahead of the card waits.
"""

import collections
import ctypes

import numpy as np

from layers.core.cuda import driver

SIZE = 32 << 20  # bytes of the ring
NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING


class Staging:
    """The ring of one card, taken when it is first needed.

    Attributes
    ----------
    size : int
        Bytes; 0 where the system gives no pinned memory.
    """

    def __init__(self, card, size=SIZE):
        self.card, self.size = card, size
        self._ring = None
        self._at = 0
        self._under_way = collections.deque()  # (first, last, event) of copies, oldest first
        self._spare = []  # events

    def send(self, span, array):
        """Queue a copy of a contiguous array to the card; the array may change at once. Return False if it does not fit here."""
        nbytes = array.nbytes
        if nbytes > self.size // 2 or not nbytes or not self._take():
            return False
        if self._at + nbytes > self.size:
            self._at = 0
        first, last = self._at, self._at + nbytes
        while any(begin < last and first < end for begin, end, _ in self._under_way):
            _, _, event = self._under_way.popleft()
            driver.call("EventSynchronize", event)
            self._spare.append(event)
        self._ring[first:last] = array.reshape(-1).view(np.uint8)
        driver.call("MemcpyHtoDAsync", span.address, self._ring.ctypes.data + first, nbytes, self.card.stream)
        event = self._spare.pop() if self._spare else driver.call("EventCreate", NO_TIMING)
        driver.call("EventRecord", event, self.card.stream)
        self._under_way.append((first, last, event))
        self._at = last
        return True

    def _take(self):
        """Return whether there is a ring."""
        if self._ring is None:
            try:
                address = int(driver.call("MemHostAlloc", self.size, 0))
            except driver.DriverError:
                self.size = 0
                return False
            self._ring = np.frombuffer((ctypes.c_uint8 * self.size).from_address(address), np.uint8)
        return True
