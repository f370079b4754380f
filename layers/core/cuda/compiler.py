"""Kernels to PTX, the assembly of NVIDIA's cards, with numba-cuda; needs no card.

The text is kept on disk, by all sources of the house that can be in it, numba-cuda's version and the card's capability, so a
second process starts without a compiler; the driver, which makes machine code of PTX, keeps that by itself.
"""

import contextlib
import functools
import hashlib
import logging
import os
import pathlib
import re
import tempfile
import threading
import time

from layers.core.cuda.kernel import bound
from netspec.errors import Error

log = logging.getLogger("deepjet")
_lock = threading.Lock()
LAYERS = pathlib.Path(__file__).resolve().parents[2]
WHOLE = "\n// whole\n"  # the last line of what is kept: a file that was cut off lacks it
INSTALL = "in deepjet's folder: pip install -e '.[cuda]' (drivers from 550 to 575: '.[cuda12]')"


def ptx_of(kernel, capability):
    """Return (PTX text, name of the entry) of a kernel for cards of at least `capability`, (major, minor)."""
    path = _place(kernel, capability)
    text = None
    if path is not None:
        with contextlib.suppress(OSError, UnicodeError):
            text = path.read_text()
    if not text or not text.endswith(WHOLE):
        tell(path and path.parent)
        begin = time.perf_counter()
        text = _compile(kernel, capability) + WHOLE
        log.debug("compiled %s in %.2f s", kernel.name, time.perf_counter() - begin)
        _keep(path, text)
    return text, re.search(r"\.visible \.entry (\w+)\(", text)[1]


@functools.cache
def tell(folder):
    """Say, once in a process, that somebody waits for the compiler."""
    log.warning("compiling kernels for the card (%s) ...",
                f"once; kept in '{folder}'" if folder else
                "in every process, since no folder can be written to: NUMBA_CACHE_DIR may name one")


def _compile(kernel, capability):
    try:
        import numba_cuda  # numba's own numba.cuda is older and lacks what we use  # noqa: F401
        from numba import cuda
        from numba.cuda import dispatcher, types

        from layers.core.cuda import ptx, ptx_turing
    except ImportError as error:
        raise Error(f"kernels for NVIDIA cards need the package numba-cuda ({error}); {INSTALL}") from error

    class Device:
        """Stands for a card while numba compiles the parts of a kernel: there need be none, or it may be another."""

        id = 0
        compute_capability = capability

    numbers = [getattr(types, name) for name, _ in kernel.arguments]
    signature = types.void(*(types.CPointer(number) if pointer else number
                             for number, (_, pointer) in zip(numbers, kernel.arguments)))
    instructions = ptx if capability >= (8, 0) else ptx_turing
    function = bound(kernel.function, cuda, instructions, cuda.jit(device=True, forceinline=True), {})
    with _lock:
        ask, dispatcher.get_current_device = dispatcher.get_current_device, Device
        try:
            return cuda.compile_ptx(function, signature, cc=capability, device=False, launch_bounds=kernel.threads)[0]
        except cuda.cudadrv.error.NvvmSupportError as error:
            raise Error(f"kernels for NVIDIA cards need NVIDIA's compiler libraries ({error}); {INSTALL}") from error
        finally:
            dispatcher.get_current_device = ask


@functools.cache
def version(source=None):
    """Return a hash of what PTX depends on: the layers' sources, a kernel's own `source` elsewhere, and the compiler."""
    import importlib.metadata

    digest = hashlib.sha256()
    for path in sorted(LAYERS.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    if source is not None:
        digest.update(source.read_bytes())
    for package in ("numba", "llvmlite", "numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{package} {importlib.metadata.version(package)}".encode())
    return digest.hexdigest()


def folder():
    """Return where PTX is kept: NUMBA_CACHE_DIR, or beside these sources, or the user's cache; None where nothing can be."""
    places = [pathlib.Path(os.environ["NUMBA_CACHE_DIR"])] if os.environ.get("NUMBA_CACHE_DIR") else [
        pathlib.Path(__file__).resolve().parent / "__pycache__", pathlib.Path.home() / ".cache" / "deepjet"]
    for place in places:
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            if os.access(place, os.W_OK):
                return place
    return None


def _place(kernel, capability):
    place = folder()
    source = pathlib.Path(kernel.function.__code__.co_filename)
    name = f"{kernel.name}-sm_{capability[0]}{capability[1]}-{version(None if LAYERS in source.parents else source)[:16]}.ptx"
    return place and place / name


def _keep(path, text):
    if path is None:
        return
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            try:
                file.write(text)
                file.close()
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise
        for old in path.parent.glob(path.name.rsplit("-", 1)[0] + "-*.ptx"):
            if old != path:
                old.unlink()
