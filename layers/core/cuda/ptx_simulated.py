"""The names of `layers.core.cuda.ptx` in plain Python, for numba's simulator.

What a warp does together, 32 threads of Python do: each brings its values, the last one computes.
"""

import threading

import numpy as np

KEPT = np.uint32(0xFFFFE000)  # the bits of a float32 that tf32 has
PATIENCE = 60  # seconds that a thread waits for the others of its warp: one of them has failed

_warps = threading.local()
_one_at_a_time = threading.Lock()


class Running:
    """Stands for numba's module `cuda` in kernels and their parts: that of the kernel which runs."""

    def __getattr__(self, name):
        from numba.cuda.simulator import kernel

        return getattr(kernel._get_kernel_context(), name)


def raise_to(pointer, index, number):
    """Make the int32 at the index the larger of itself and `number`."""
    with _one_at_a_time:
        pointer[index] = max(pointer[index], number)


def load(shared, index, offset):
    """Return element index + offset."""
    return shared[index + offset]


def store(shared, index, offset, x):
    """Write element index + offset."""
    shared[index + offset] = x


def within(number, limit):
    """Return whether 0 <= number < limit."""
    return 0 <= number < limit


def place(number, pitch, more):
    """Return number * pitch + more."""
    return int(number) * int(pitch) + int(more)


def quotient(number, divisor):
    """Return number // divisor."""
    assert number >= 0, f"{number} // {divisor}"
    return number // divisor


def load4(pointer, index, offset):
    """Return the 4 elements from index + offset on; whole numbers as Python's, which do not overflow, as 64 bits do not."""
    values = [pointer[index + offset + i] for i in range(4)]
    return tuple(map(int, values)) if isinstance(values[0], np.integer) else tuple(values)


def copy4(shared, index, source, offset, valid):
    """Copy one float, or write a zero."""
    shared[index] = source[offset] if valid else 0


def copy16(shared, index, source, offset, valid):
    """Copy four floats, or write zeros; both places must be aligned as the card asks for."""
    assert index % 4 == 0 and (offset % 4 == 0 or not valid), f"16 bytes at {index} from {offset}"
    for i in range(4):
        shared[index + i] = source[offset + i] if valid else 0


def end_copies():
    """Nothing is under way."""


def wait_copies(left):
    """Nothing to wait for."""


def tf32(x):
    """Return the bits of x, rounded to 10 bits of fraction (ties away from zero)."""
    bits = np.float32(x).view(np.uint32)
    return (bits + np.uint32(0x1000)) & KEPT if np.isfinite(x) else bits


def value(bits):
    """Return the float32 of 32 bits."""
    return np.uint32(bits).view(np.float32)


class Warp:
    """Where 32 threads of a block meet; what they bring lies in two sets of places, used in turns."""

    lock = threading.Lock()

    def __init__(self):
        self.given = [[None] * 32, [None] * 32]
        self.made = [None, None]
        self.turn = 0
        self.barrier = threading.Barrier(32, self.compute)

    @classmethod
    def of(cls, thread):
        """Return the warp that a thread of the simulator belongs to."""
        block = thread._manager
        with cls.lock:
            warps = block.__dict__.setdefault("warps", {})
            number = thread.thread_id // 32
            if number not in warps:
                warps[number] = cls()
            return warps[number]

    def compute(self):
        """Multiply, when all have come: a warp's product is summed in float64 and rounded once."""
        given = np.array(self.given[self.turn], np.float32).reshape(8, 4, 10)  # lane // 4, lane % 4, operand
        a, b, d = np.empty((16, 8)), np.empty((8, 8)), np.empty((16, 8))
        a[:8, :4], a[8:, :4], a[:8, 4:], a[8:, 4:] = (given[:, :, i] for i in range(4))
        b[:4], b[4:] = given[:, :, 4].T, given[:, :, 5].T
        d[:8, ::2], d[:8, 1::2], d[8:, ::2], d[8:, 1::2] = (given[:, :, i] for i in range(6, 10))
        with np.errstate(all="ignore"):
            d += a @ b
            self.made[self.turn] = d.astype(np.float32)
        self.turn = 1 - self.turn


def mma(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """Return four values of the warp's D = A B + C, as `layers.core.cuda.ptx.mma`."""
    thread = threading.current_thread()
    if not hasattr(_warps, "warp"):
        _warps.warp = Warp.of(thread)
    warp, lane = _warps.warp, thread.thread_id % 32
    turn = warp.turn
    warp.given[turn][lane] = (*(value(np.uint32(bits) & KEPT) for bits in (a0, a1, a2, a3, b0, b1)), c0, c1, c2, c3)
    warp.barrier.wait(PATIENCE)
    d, row, column = warp.made[turn], lane // 4, lane % 4 * 2
    return d[row, column], d[row, column + 1], d[row + 8, column], d[row + 8, column + 1]
