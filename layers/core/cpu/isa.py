"""The vector unit that kernels are written for: its width, and the block of results its registers can hold.

The micro-kernel keeps a block of `rows` x (`groups` * 16) sums in registers: rows * groups * 16 / width accumulators,
groups * 16 / width vectors of one operand and one of the other. A block so large reuses each loaded value enough to
keep the multipliers busy (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication").

What numba compiles for is asked, not what the machine has: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES emulate older ones.
Compiled kernels are cached by both, so every choice must follow from these two alone.
"""

import platform
from typing import NamedTuple

from numba.core.registry import cpu_target

BLOCK = 16  # channels in a block of the blocked layout, on every machine
PIXEL = BLOCK * 4  # bytes of a pixel of a block

# Processors for which numba may be given a name and no features; see `named`.
AVX512 = {"skylake-avx512", "cascadelake", "cooperlake", "icelake-client", "icelake-server", "tigerlake",
          "sapphirerapids", "emeraldrapids", "graniterapids", "znver4", "znver5", "x86-64-v4"}
AVX2 = {"haswell", "broadwell", "skylake", "alderlake", "raptorlake", "znver1", "znver2", "znver3", "x86-64-v3"}


class Isa(NamedTuple):
    """A vector unit.

    Attributes
    ----------
    name : str
    width : int
        Floats in a vector.
    rows, groups : int
        The micro-kernel's block is rows x (groups * 16).
    few : tuple of int
        Smaller numbers of rows, for the edge of a matrix, rising.
    """

    name: str
    width: int
    rows: int
    groups: int
    few: tuple

    @property
    def columns(self):
        """Columns of the micro-kernel's block."""
        return self.groups * BLOCK


KNOWN = {
    "avx512": Isa("avx512", 16, 14, 2, (4, 8)),  # 32 registers: 28 + 2 + 1
    "avx2": Isa("avx2", 8, 6, 1, (2, 4)),  # 16 registers: 12 + 2 + 1
    "neon": Isa("neon", 4, 6, 1, (2, 4)),  # 32 registers: 24 + 4 + 1
    "plain": Isa("plain", 4, 3, 1, (1, 2)),  # 16 registers: 12 + 4 (one is spilled, or read from memory)
}


def named(machine, processor, features):
    """Return the `Isa` for a machine ("x86_64"), LLVM's name of a processor and its features ("+avx2,-avx512f,...")."""
    if machine.lower() in ("aarch64", "arm64"):
        return KNOWN["neon"]
    has = {one[1:] for one in features.split(",") if one.startswith("+")}
    without = {one[1:] for one in features.split(",") if one.startswith("-")}
    if not has | without:
        has = {"avx512f"} if processor in AVX512 else {"avx2", "fma"} if processor in AVX2 else set()
    if "avx512f" in has:
        return KNOWN["avx512"]
    if {"avx2", "fma"} <= has:
        return KNOWN["avx2"]
    return KNOWN["plain"]


def host():
    """Return the `Isa` that numba compiles for in this process."""
    _, processor, features = cpu_target.target_context.codegen().magic_tuple()
    return named(platform.machine(), processor, features)


ISA = host()
