"""Machine code is cached across processes, and any edit in the folder of kernels makes it anew."""

import os
import shutil
import subprocess
import sys

from layers.core.cpu import compiled
from tests.support import ROOT

PROGRAM = """
import numpy as np
from layers.core.cpu import gemm, parallel
out = np.zeros((3, 4), np.float32)
gemm.gemm(np.ones((3, 5), np.float32), np.ones((5, 4), np.float32), out)
assert (out == 5).all()
print(sum(gemm.gemm_cpu.stats.cache_hits.values()), sum(gemm.gemm_cpu.stats.cache_misses.values()))
"""


def test_cache_is_hit_by_the_next_process_and_missed_after_an_edit_of_the_generator(tmp_path):
    for name in ("layers/__init__.py", "layers/core/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "layers/core/cpu", tmp_path / "layers/core/cpu", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}

    def hits_and_misses():
        done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert hits_and_misses() == ["0", "1"]
    assert hits_and_misses() == ["1", "0"]
    files = sorted(path.name for path in (tmp_path / "cache").rglob("*.nb?"))
    with open(tmp_path / "layers/core/cpu/vector_ir.py", "a") as generator:
        generator.write("# edited\n")
    assert hits_and_misses() == ["0", "1"]
    assert hits_and_misses() == ["1", "0"]
    # The old entries are overwritten, not left behind.
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*.nb?")) == files


def test_without_a_folder_for_the_cache_functions_still_compile(monkeypatch):
    def refuse(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(compiled, "_Cache", refuse)
    assert compiled.compiled(lambda x: x + 1)(2) == 3
