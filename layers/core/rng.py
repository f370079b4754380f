"""Random numbers that do not depend on threads and can be put into a snapshot.

Value i of a stream is a hash of (key, i), so a kernel draws element i of a mask without knowing who draws the
others: the same bits for any number of threads. A stream's whole state is two integers.
"""

import os

import numpy as np

from layers.core.cpu.compiled import cached

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, splitmix64's step (Steele, Lea, Flood 2014)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_MASK = 2**64 - 1


@cached
def bits_at(key, index):
    """Return 64 random bits, element `index` of the stream `key` (both uint64): splitmix64's output function."""
    z = key + (index + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def _mix(a, b):
    """Return a 64-bit hash of two integers, for keys of child streams."""
    z = (a * 0x9E3779B97F4A7C15 + b + 0x632BE59BD9B4E019) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


class Stream:
    """A source of random numbers: `key` says which, `counter` how many were used."""

    def __init__(self, key=0, counter=0):
        self.key, self.counter = int(key) & _MASK, int(counter)

    def child(self, number):
        """Return an independent stream, always the same one for the same `number`."""
        return Stream(_mix(self.key, int(number)))

    def take(self, count):
        """Reserve `count` values for `bits_at`; return (key, first index) as uint64."""
        first = self.counter
        self.counter += int(count)
        return np.uint64(self.key), np.uint64(first)

    def generator(self):
        """Return a numpy Generator for one use (a filler, a shuffle); each call gives another."""
        self.counter += 1
        return np.random.Generator(np.random.Philox(key=_mix(self.key, self.counter)))

    def state(self):
        """Return what `set_state` needs, JSON-able."""
        return {"key": self.key, "counter": self.counter}

    def set_state(self, state):
        """Go on where `state` was taken."""
        self.key, self.counter = int(state["key"]), int(state["counter"])


_process = Stream(int.from_bytes(os.urandom(8), "little"))  # Caffe too starts from entropy until it is seeded


def seed_process(seed):
    """Seed what nets without a seed of their own draw from (pycaffe's `set_random_seed`)."""
    _process.set_state({"key": _mix(0, int(seed)), "counter": 0})


def next_seed():
    """Return a seed for a net that was given none."""
    _process.counter += 1
    return _mix(_process.key, _process.counter)
