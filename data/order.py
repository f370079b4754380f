"""Which picture comes next: the published loaders' draws, and an order that can be put into a snapshot."""

import random

from netspec.errors import Error


class Order:
    """Which picture comes next: in the list's order, or drawn from a seeded generator with replacement.

    The draws are the published loaders': seed, draw one position, deliver it, draw the next. With ``draws="python3"``
    they are what those loaders draw today (`random.randint`); ``"python2"`` gives what they drew under Python 2, that
    is, the sequence that the published weights saw.
    """

    DRAWS = ("python3", "python2")

    def __init__(self, count, randomize=False, seed=None, draws="python3"):
        self.count, self.draws = count, draws
        self.random = random.Random(seed) if randomize else None
        self.index = self._draw() if randomize else 0

    def _draw(self):
        if self.draws == "python2":
            return int(self.random.random() * self.count)
        return self.random.randint(0, self.count - 1)

    def advance(self):
        """Go to the next picture."""
        self.index = self._draw() if self.random else (self.index + 1) % self.count

    def copy(self):
        """Return an order that will go the same way, independent of this one."""
        other = Order(self.count, draws=self.draws)
        other.index = self.index
        if self.random:
            other.random = random.Random()
            other.random.setstate(self.random.getstate())
        return other

    def get_state(self):
        """Return a JSON-able dict from which `set_state` goes on exactly."""
        state = {"count": self.count, "index": self.index, "random": None}
        if self.random:
            version, words, _ = self.random.getstate()
            state["random"] = [version, list(words)]
        return state

    def set_state(self, state):
        """Go on from `state`; a state of another list or another kind of order is an error."""
        try:
            count, index, generator = int(state["count"]), int(state["index"]), state["random"]
            words = generator and (int(generator[0]), tuple(int(w) for w in generator[1]), None)
        except (KeyError, TypeError, ValueError, IndexError):
            raise Error(f"the data order to restore is damaged: {str(state)[:200]}") from None
        if count != self.count:
            raise Error(f"the data order to restore is of a list of {count} pictures, this list has {self.count}")
        if bool(words) != bool(self.random) or not 0 <= index < count:
            raise Error(f"the data order to restore is {'random' if words else 'sequential'} at {index}, this layer's "
                        f"is {'random' if self.random else 'sequential'} over {self.count}; set 'randomize' as it was")
        if words:
            try:
                self.random.setstate(words)
            except (ValueError, TypeError, OverflowError) as error:
                raise Error(f"the data order to restore holds no random state: {error}") from None
        self.index = index
