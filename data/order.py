"""Which picture comes next: the published loaders' draws, and an order that can be put into a snapshot."""

import random
import secrets
from typing import NamedTuple

import numpy as np

from netspec.errors import Error


class Place(NamedTuple):
    """A place in an order: the position in the list, how many samples came before, and the seed of what is drawn there."""

    index: int
    step: int = 0
    seed: int = 0

    def generator(self):
        """Return the random generator of this place: the same for the same seed and step, whatever was drawn before."""
        return np.random.default_rng([self.seed % (1 << 64), self.step])


class Order:
    """Which picture comes next: in the list's order, or drawn from a seeded generator with replacement.

    The draws are the published loaders': seed, draw one position, deliver it, draw the next. With ``draws="python3"``
    they are what those loaders draw today (`random.randint`); ``"python2"`` gives what they drew under Python 2, that
    is, the sequence that the published weights saw.

    `step` counts the samples before this one, `seed` is that of draws at a place (see `Place`); both are in the state.
    """

    DRAWS = ("python3", "python2")

    def __init__(self, count, randomize=False, seed=None, draws="python3"):
        self.count, self.draws = count, draws
        self.random = random.Random(seed) if randomize else None
        self.seed = secrets.randbits(63) if seed is None else seed
        self.step = 0
        self.index = self._draw() if randomize else 0

    @property
    def place(self):
        """Where the order stands."""
        return Place(self.index, self.step, self.seed)

    def _draw(self):
        if self.draws == "python2":
            return int(self.random.random() * self.count)
        return self.random.randint(0, self.count - 1)

    def advance(self):
        """Go to the next picture."""
        self.index = self._draw() if self.random else (self.index + 1) % self.count
        self.step += 1

    def copy(self):
        """Return an order that will go the same way, independent of this one."""
        other = Order(self.count, seed=self.seed, draws=self.draws)
        other.index, other.step = self.index, self.step
        if self.random:
            other.random = random.Random()
            other.random.setstate(self.random.getstate())
        return other

    def get_state(self):
        """Return a JSON-able dict from which `set_state` goes on exactly."""
        state = {"count": self.count, "index": self.index, "step": self.step, "seed": self.seed, "random": None}
        if self.random:
            version, words, _ = self.random.getstate()
            state["random"] = [version, list(words)]
        return state

    def set_state(self, state):
        """Go on from `state`; a state of another list or another kind of order is an error."""
        try:
            count, index, generator = int(state["count"]), int(state["index"]), state["random"]
            step, seed = int(state.get("step", 0)), int(state.get("seed", self.seed))  # older snapshots have none
            words = generator and (int(generator[0]), tuple(int(w) for w in generator[1]), None)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise Error(f"the data order to restore is damaged: {str(state)[:200]}") from None
        if step < 0:
            raise Error(f"the data order to restore is damaged: {step} samples delivered")
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
        self.index, self.step, self.seed = index, step, seed
