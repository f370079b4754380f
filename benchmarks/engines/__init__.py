"""The engines that are compared: which file drives each, with which options.

Each engine runs in a process of its own (`benchmarks.process`), so that its threads and its memory disturb no other. Its
file has `NEEDS` (what to install), `version()` and `JOBS`: kind of work -> class. A job is made of its settings and
the engine's options and has `run(number)` - the work that is timed, on input `number` - and `check()`, which
returns {name: array} of what must be equal in all engines.
"""

import importlib
from typing import NamedTuple


class Engine(NamedTuple):
    """One column of the tables.

    Attributes
    ----------
    file : str
        The module in this folder.
    options : dict
        What is passed to its jobs.
    exact : bool
        Whether it computes in float32. Only such an engine counts among the best.
    """

    file: str
    options: dict
    exact: bool = True


ENGINES = {
    "deepjet": Engine("deepjet", {}),
    "deepjet, whole": Engine("deepjet", {"border": False}),
    "deepjet, one size": Engine("deepjet", {}),
    "ncnn": Engine("ncnn", {}),
    "openvino": Engine("openvino", {"precision": "f32"}),
    "openvino default": Engine("openvino", {}, exact=False),
    "onnxruntime": Engine("onnxruntime", {}),
    "opencv": Engine("opencv", {}),
    "torch": Engine("torch", {}),
    "torch channels last": Engine("torch", {"layout": "channels_last"}),
    "numpy": Engine("numpy", {}),
    "protobuf": Engine("protobuf", {}),
    "read and copy": Engine("numpy", {}),
}


def module(name):
    """Return the file of an engine, imported."""
    return importlib.import_module(f"benchmarks.engines.{ENGINES[name].file}")


def arrays_of(path):
    """Return {layer: list of arrays} of a caffemodel."""
    from netspec import weights

    with weights.read_weights(path) as source:
        return {name: [blob.data for blob in blobs] for name, blobs in source.layers.items() if blobs}


def inputs_of(settings):
    """Return the job's inputs: a list of {blob name: float32 array}."""
    import numpy as np

    return [{name: np.load(path) for name, path in one.items()} for one in settings["inputs"]]
