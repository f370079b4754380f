"""PTX is kept on disk, and compiled again where the file is not there, not whole, or of other sources."""

import logging
import os
import stat

import pytest

from layers.core.cuda import compiler
from netspec.errors import Error
from tests.layers.core.cuda.simulated import add_cuda

TEXT = ".version 9.0\n.visible .entry add_cuda_f32(\n)\n{\n ret;\n}\n"


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Return a list of the kernels that were compiled since, with NUMBA_CACHE_DIR in `tmp_path`."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    compiler.tell.cache_clear()
    calls = []

    def compile_it(kernel, capability):
        calls.append((kernel.name, capability))
        return TEXT

    monkeypatch.setattr(compiler, "_compile", compile_it)
    yield calls
    compiler.tell.cache_clear()


def test_a_kernel_is_compiled_once_for_each_capability(compiled, tmp_path):
    for _ in range(2):
        text, entry = compiler.ptx_of(add_cuda, (7, 5))
        assert text.startswith(TEXT) and entry == "add_cuda_f32"
        compiler.ptx_of(add_cuda, (9, 0))
    assert compiled == [(add_cuda.name, (7, 5)), (add_cuda.name, (9, 0))]
    names = sorted(os.listdir(tmp_path / "kept"))
    assert len(names) == 2 and names[0].startswith(f"{add_cuda.name}-sm_75-")


@pytest.mark.parametrize("damage", [b"", TEXT[:-20].encode(), TEXT.encode(), b"\xff\xfe\xfd" * 9])
def test_a_file_that_is_not_whole_is_made_again(compiled, tmp_path, damage):
    compiler.ptx_of(add_cuda, (7, 5))
    path, = (tmp_path / "kept").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert compiler.ptx_of(add_cuda, (7, 5))[0].startswith(TEXT)
    assert len(compiled) == 2 and path.read_bytes() == whole


def test_other_sources_are_compiled_anew_and_the_old_goes(compiled, tmp_path, monkeypatch):
    compiler.ptx_of(add_cuda, (7, 5))
    compiler.ptx_of(add_cuda, (9, 0))
    monkeypatch.setattr(compiler, "version", lambda source=None: "0" * 64)
    compiler.ptx_of(add_cuda, (7, 5))
    assert len(compiled) == 3
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names[0] == f"{add_cuda.name}-sm_75-{'0' * 16}.ptx" and "sm_90" in names[1] and len(names) == 2


def test_no_folder_to_write_to_costs_only_time(compiled, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING, "deepjet"):
        for _ in range(2):
            assert compiler.ptx_of(add_cuda, (7, 5))[1] == "add_cuda_f32"
    assert len(compiled) == 2
    assert [record.message for record in caplog.records] == [
        "compiling kernels for the card (in every process, since no folder can be written to: NUMBA_CACHE_DIR may name one) ..."]


def test_what_cannot_be_kept_leaves_nothing_behind(compiled, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert compiler.ptx_of(add_cuda, (7, 5))[0].startswith(TEXT)
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_passed_over(compiled, tmp_path, monkeypatch):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    assert compiler.folder() is None


def test_without_the_package_the_cure_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "numba_cuda", None)
    with pytest.raises(Error, match=r"need the package numba-cuda .*pip install -e '\.\[cuda\]'"):
        compiler._compile(add_cuda, (7, 5))


def test_kernels_become_ptx(tmp_path, monkeypatch):
    pytest.importorskip("numba_cuda")
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        pytest.skip("the simulator has no compiler")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for capability in ((7, 5), (8, 0), (9, 0)):
        text, entry = compiler.ptx_of(add_cuda, capability)
        assert f".target sm_{capability[0]}{capability[1]}" in text and entry in text
