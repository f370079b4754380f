"""The vector unit follows from what numba compiles for."""

import os

from layers.core.cpu import isa


def test_features_decide():
    assert isa.named("x86_64", "znver4", "+avx512f,+avx2,+fma").name == "avx512"
    assert isa.named("x86_64", "haswell", "+avx2,+fma,-avx512f").name == "avx2"
    assert isa.named("x86_64", "ivybridge", "+avx,-avx2,-avx512f").name == "plain"
    assert isa.named("arm64", "apple-m1", "").name == "neon"


def test_without_features_the_processors_name_decides():
    assert isa.named("x86_64", "skylake-avx512", "").name == "avx512"
    assert isa.named("x86_64", "haswell", "").name == "avx2"
    assert isa.named("x86_64", "generic", "").name == "plain"


def test_blocks_fit_the_registers():
    registers = {"avx512": 32, "avx2": 16, "neon": 32, "plain": 17}
    for one in isa.KNOWN.values():
        vectors = one.columns // one.width
        assert one.rows * vectors + vectors + 1 <= registers[one.name]
        assert one.few[0] < one.few[1] < one.rows and one.rows <= isa.BLOCK


def test_emulation_is_seen():
    if "DEEPJET_EMULATED" in os.environ:
        assert isa.ISA.name == os.environ["DEEPJET_EMULATED"]
