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


SLOW = """
import time
import numpy as np
from layers.core.cpu import compiled

@compiled.cached
def add_cpu(first, last, values):
    for i in range(first, last):
        values[i] += 1

compiled.NOTICEABLE, compiled.QUIET = 0, 0.1
values = np.zeros(3, np.float32)
add_cpu(0, 3, values)
time.sleep(0.5)
print(values.sum())
"""


def slow_program(tmp_path, **environment):
    """Run SLOW from a file of the project's folder (numba caches no other), with `environment`; return what it wrote."""
    for name in ("layers/__init__.py", "layers/core/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    if not (tmp_path / "layers/core/cpu").exists():
        shutil.copytree(ROOT / "layers/core/cpu", tmp_path / "layers/core/cpu", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "slow.py").write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), **environment}
    done = subprocess.run([sys.executable, "slow.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3.0\n"
    return done.stderr


def test_who_waits_for_the_compiler_is_told_so_once(tmp_path):
    told = slow_program(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache")).splitlines()
    assert len(told) == 2
    assert told[0].startswith("compiling kernels for ") and "once" in told[0] and str(tmp_path / "cache") in told[0]
    assert told[1].startswith("compiled kernels in ")
    assert slow_program(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == ""


def test_where_the_installation_cannot_be_written_to_the_users_folder_keeps_the_code(tmp_path):
    # A file stands where the folder would: refused to everybody, root included.
    (tmp_path / "__pycache__").write_text("")
    home = tmp_path / "home"
    home.mkdir()
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "NUMBA_CACHE_DIR": ""}
    assert str(home) in slow_program(tmp_path, **own)
    assert slow_program(tmp_path, **own) == ""


def test_where_nothing_can_be_written_to_every_process_compiles_and_says_so(tmp_path):
    for name in ("__pycache__", "home"):
        (tmp_path / name).write_text("")
    own = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / "cache"), "NUMBA_CACHE_DIR": ""}
    for _ in range(2):
        assert "in every process" in slow_program(tmp_path, **own)
