"""Every kernel becomes PTX, and machine code that keeps its values in registers; no card is needed."""

import importlib.util
import os

import pytest

from layers.core.cuda import compiler, resources
from layers.core.cuda.kernel import OLDEST
from netspec.errors import Error
from solvers import solver

for stem in solver.types().values():  # they have kernels, too
    importlib.import_module(f"solvers.{stem}")
SPILLS = {}  # kernel's name -> (bytes that may be spilled, why)

simulated = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"
compiles = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None or simulated,
                              reason="needs the package numba-cuda (pip install -e '.[cuda]') and no simulator")


@compiles
@pytest.mark.parametrize("capability", resources.CAPABILITIES, ids=lambda pair: "sm_{}{}".format(*pair))
def test_every_kernel_compiles(capability):
    kernels = resources.all_kernels(capability)
    assert len(kernels) > 15
    for kernel in kernels:
        text, entry = compiler.ptx_of(kernel, capability)
        assert f".target sm_{capability[0]}{capability[1]}" in text, kernel.name
        assert f".entry {entry}(" in text, kernel.name


@compiles
@pytest.mark.parametrize("capability", resources.CAPABILITIES, ids=lambda pair: "sm_{}{}".format(*pair))
def test_no_kernel_spills_unless_listed(capability):
    if resources.ptxas() is None:
        pytest.skip("needs ptxas: a CUDA toolkit, or pip install nvidia-cuda-nvcc")
    for kernel in resources.all_kernels(capability):
        took = resources.resources(kernel, capability)
        assert took.spilled <= SPILLS.get(kernel.name, (0, ""))[0], (kernel.name, took)
        assert took.shared <= 64 << 10 or capability > OLDEST, (kernel.name, took)
        assert took.blocks(kernel.threads) >= 1, (kernel.name, took)


@compiles
def test_tensor_cores_are_used_from_ampere_on():
    kernels = {kernel.name.rsplit(".", 1)[1]: kernel for kernel in resources.all_kernels()}
    assert not [name for name in kernels if "tf32" in name and kernels[name].since < (8, 0)]
    assert "mma.sync" in compiler.ptx_of(kernels["slide_3xtf32_128_cuda"], (8, 0))[0]
    assert "cp.async" in compiler.ptx_of(kernels["slide_float32_128_cuda"], (8, 0))[0]
    assert "cp.async" not in compiler.ptx_of(kernels["slide_float32_128_cuda"], (7, 5))[0]


def test_a_missing_assembler_is_said(monkeypatch):
    monkeypatch.setattr(resources, "ptxas", lambda: None)
    with pytest.raises(Error, match="ptxas was not found: install a CUDA toolkit"):
        resources.resources(resources.all_kernels()[0], (8, 0))
