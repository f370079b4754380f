"""What a kernel takes of a card: registers, spilled bytes, shared memory, as NVIDIA's assembler `ptxas` counts them.

No card is needed, but numba-cuda and ptxas: from a CUDA toolkit, or from the package nvidia-cuda-nvcc.
"""

import importlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

from layers.core import catalogue
from layers.core.cuda import compiler
from layers.core.cuda.kernel import KERNELS
from netspec.errors import Error

CAPABILITIES = ((7, 5), (8, 0), (9, 0))  # what every kernel is compiled for in tests
FILE = 64 << 10  # registers of a multiprocessor, from capability 7.5 on


class Resources(NamedTuple):
    """Of one kernel on one capability: registers of a thread; bytes of stack and of spills of a thread, of shared memory."""

    registers: int
    stack: int
    spilled: int
    shared: int

    def blocks(self, threads):
        """Return how many blocks of `threads` one multiprocessor has registers for (given out to warps by 8 a thread)."""
        return FILE // (-(-self.registers // 8) * 8 * -(-threads // 32) * 32)


def all_kernels(capability=(99, 0)):
    """Return all kernels of layers, of scoring and of whatever else was imported, that run on a capability, by name."""
    importlib.import_module("layers.core.cuda.scoring")
    for name in catalogue.types():
        catalogue.find(name)
    return [kernel for _, kernel in sorted(KERNELS.items()) if kernel.since <= capability]


def ptxas():
    """Return the path of NVIDIA's assembler, None if there is none."""
    found = shutil.which("ptxas")
    if found is None:
        places = (path for folder in sys.path for path in pathlib.Path(folder or ".").glob("nvidia/*/bin/ptxas*"))
        found = next((str(path) for path in places if path.is_file()), None)
    return found


def resources(kernel, capability):
    """Return the `Resources` of a kernel; an `Error` says what ptxas does not take."""
    program = ptxas()
    if program is None:
        raise Error("NVIDIA's assembler ptxas was not found: install a CUDA toolkit, or pip install nvidia-cuda-nvcc==13.0.*")
    text, _ = compiler.ptx_of(kernel, capability)
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "kernel.ptx"
        source.write_text(text)
        done = subprocess.run([program, "-v", f"-arch=sm_{capability[0]}{capability[1]}", source, "-o", source.with_suffix(".o")],
                              capture_output=True, text=True)
    if done.returncode:
        raise Error(f"ptxas refuses kernel {kernel.name} for capability {capability[0]}.{capability[1]}: {done.stderr.strip()}")

    def number(pattern):
        found = re.search(pattern, done.stderr)
        return int(found[1]) if found else 0

    return Resources(number(r"Used (\d+) registers"), number(r"(\d+) bytes stack frame"), number(r"(\d+) bytes spill stores"),
                     number(r"(\d+) bytes smem") + kernel.shared)
