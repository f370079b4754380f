"""Writing PyTorch's files without PyTorch, as torch.save does: pickles that name torch's functions, of modules with its names."""

import collections
import io
import json
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

from netspec.torch_file import MAGIC


class _Storage:
    def __init__(self, key, kind, array):
        self.key, self.kind, self.array = key, kind, array


class _Tensor:
    """Pickled as torch's tensors are: a call of _rebuild_tensor_v2 on a persistent storage."""

    def __init__(self, storage, offset, shape, steps):
        self.arguments = storage, offset, shape, steps, False, collections.OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
    def __init__(self, file, legacy):
        super().__init__(file, 2)
        self.legacy = legacy

    def persistent_id(self, value):
        if not isinstance(value, _Storage):
            return None
        pid = "storage", getattr(sys.modules["torch"], value.kind), value.key, "cpu", value.array.size
        return (*pid, None) if self.legacy else pid


def _modules():
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise AssertionError("must not be called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for kind in ("FloatStorage", "HalfStorage", "BFloat16Storage", "LongStorage"):
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    return {"torch": torch, "torch._utils": utils}


def tensors(state, kind="FloatStorage"):
    """Return {name: what is pickled as a tensor} and the storages, of {name: array}."""
    storages, found = [], collections.OrderedDict()
    for number, (name, array) in enumerate(state.items()):
        storage = _Storage(str(number), kind, np.ascontiguousarray(array).reshape(-1))
        storages.append(storage)
        steps = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides)
        found[name] = _Tensor(storage, 0, array.shape, steps)
    return found, storages


def save(path, found, storages, legacy=False):
    """Write a file as torch.save does; `legacy` as before version 1.6."""
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update(_modules())
    try:
        pickled = io.BytesIO()
        if legacy:
            for value in (MAGIC, 1001, {"little_endian": True}):
                pickle.dump(value, pickled, 2)
        _Pickler(pickled, legacy).dump(found)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    if legacy:
        pickle.dump([storage.key for storage in storages], pickled, 2)
        for storage in storages:
            pickled.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())
        path.write_bytes(pickled.getvalue())
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled.getvalue())
            archive.writestr("archive/byteorder", "little")
            for storage in storages:
                archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
    return path


def save_safetensors(path, state, dtype="F32"):
    """Write {name: array} as .safetensors; `dtype` says how the arrays' bytes are to be read."""
    header, raw = {"__metadata__": {"format": "pt"}}, b""
    for name, array in state.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(raw), len(raw) + array.nbytes]}
        raw += np.ascontiguousarray(array).tobytes()
    words = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(words)) + words + raw)
    return path
