"""Whether an array has changed: a hash of its bytes, read at memory speed.

Weights may be written through any view that somebody kept, so no counter can tell; a hash does, for a few milliseconds per
100 MB. What is kept of weights between calls (their Winograd transform) is kept with it.
"""

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached

PART = 1 << 14  # words hashed one by one into a part's hash, whatever the number of threads
_ODD = np.uint64(0x9E3779B97F4A7C15)


def fingerprint(array):
    """Return 64 bits that differ, but for one chance in 2^64, when any value of a C-contiguous `array` does.

    One changed word always changes them.
    """
    data = array.reshape(-1).view(np.uint8)
    words = data[: data.size // 8 * 8].view(np.uint64)
    parts = np.empty(-(-words.size // PART), np.uint64)
    parallel.run(fingerprint_cpu, parts.size, words, parts, work=words.size)
    return int(np.bitwise_xor.reduce(parts)) if parts.size else 0, data[words.size * 8 :].tobytes(), array.shape


@cached
def fingerprint_cpu(first, last, words, parts):
    """Hash the parts [first, last): the sum over words of (word xor place) times an odd number, then mixed."""
    for part in range(first, last):
        block = words[part * PART : min((part + 1) * PART, words.size)]
        total = np.uint64(0)
        for i in range(block.size):
            total += (block[i] ^ (np.uint64(i) * _ODD)) * (np.uint64(2 * i + 1) ^ _ODD ^ np.uint64(1))
        total ^= total >> np.uint64(29)
        parts[part] = total * (np.uint64(2 * part + 1) * _ODD ^ np.uint64(2))
