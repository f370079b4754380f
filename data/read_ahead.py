"""Reading the next pictures in the background."""

import collections
import threading


class ReadAhead:
    """One thread that loads the next pictures while the net computes.

    `load` takes an `order.Place` and returns its sample.

    It owns nothing of the layer: the layer ends it when it is closed or collected, so a dropped net leaves no thread.
    """

    def __init__(self, load, order, depth):
        self._load, self._order, self._depth = load, order, depth
        self._ready, self._closed = collections.deque(), False
        self._changed = threading.Condition()  # reentrant: the collector may close it from inside any of its methods
        self._thread = threading.Thread(target=self._work, name="deepjet-read-ahead", daemon=True)
        self._thread.start()

    def _work(self):
        while True:
            with self._changed:
                while len(self._ready) >= self._depth and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
            place, failure, sample = self._order.place, None, None
            try:
                sample = self._load(place)
            except Exception as error:  # handed to the thread that takes this sample
                failure = error
            self._order.advance()
            with self._changed:
                self._ready.append((place.index, sample, failure))
                self._changed.notify_all()
            if failure is not None:
                return

    def take(self):
        """Return (index, sample) of the next picture, or raise what reading it raised.

        None when there is no thread to wait for: it was closed, or the process was forked.
        """
        with self._changed:
            while not self._ready:
                if self._closed or not self._thread.is_alive():
                    return None
                self._changed.wait(1.0)  # a forked process has no such thread and nobody to wake it
            index, sample, failure = self._ready.popleft()
            self._changed.notify_all()
        if failure is not None:
            raise failure
        return index, sample

    def close(self):
        """End the thread and forget what it has read."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)
