"""Run a test file again as if the processor were an older one."""

import os
import subprocess
import sys

import pytest

from layers.core.cpu.isa import ISA
from tests.support import ROOT

# What numba is told: LLVM's name of a processor and the features it may use.
OLDER = {
    "avx2": ("haswell", "+64bit,+cmov,+cx8,+fxsr,+mmx,+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,"
             "+bmi2,+lzcnt,+movbe,+f16c"),
    "plain": ("generic", ""),
}


def again(path, name):
    """Run the tests of `path` in a process that compiles for the processor `name`; skip where that is this one."""
    if "DEEPJET_EMULATED" in os.environ:
        pytest.skip("this is the emulated run")
    if ISA.name == name or ISA.name == "neon":
        pytest.skip(f"this machine compiles for {ISA.name}")
    processor, features = OLDER[name]
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "DEEPJET_EMULATED": name}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", path]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
