"""A net's data layers: which they are, what they read, and how a command sends them to other data."""

import ast
import contextlib
import importlib
import os

from google.protobuf import text_format

from data import sample
from data.dataset import SAMPLE_CURE, dataset_kinds
from netspec import text
from netspec.errors import Error, UnknownName, nearest

# Layers that bring data from outside the net, and where their parameters are.
PARAMETERS = {"Data": "data_param", "HDF5Data": "hdf5_data_param", "ImageData": "image_data_param",
              "WindowData": "window_data_param", "MemoryData": "memory_data_param", "Python": "python_param"}


def find(net):
    """Return the layers (messages) of `net` that bring data from outside."""
    return [layer for layer in net.layer if brings_data(layer)]


def brings_data(layer):
    """Whether the layer (a message) brings data from outside: without bottoms, and not an Input."""
    return layer.type in PARAMETERS and not layer.bottom and bool(layer.top)


def param_dict(layer):
    """Return the param_str of a Python layer's message as a dict."""
    param_str = layer.python_param.param_str
    try:
        params = ast.literal_eval(param_str or "{}")
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        params = None
    if not isinstance(params, dict):
        raise Error(f"layer '{layer.name}' (Python): param_str is not a dict of Python literals: {param_str[:200]!r}")
    return params


def set_params(net, values):
    """Set parameters of the data layers of `net` in place: keys of param_str, or fields of data_param etc."""
    layers = find(net)
    if values and not layers:
        raise Error(f"net '{net.name}' has no data layer that could take {', '.join(values)}")
    for key, value in values.items():
        taken, known = False, []
        for layer in layers:
            param = getattr(layer, PARAMETERS[layer.type])
            if layer.type == "Python":
                # Which keys there are the layer itself knows: it refuses others when it is set up.
                param.param_str = repr({**param_dict(layer), key: value})
                taken = True
                continue
            known += [field.name for field in param.DESCRIPTOR.fields]
            if key in known:
                try:
                    text_format.Merge(f"{key}: {_literal(param, key, value)}", param)
                except text_format.ParseError:
                    raise Error(f"--data {key}={value}: not a value for {key} of layer '{layer.name}' "
                                f"({layer.type})") from None
                taken = True
        if not taken:
            raise UnknownName(f"no data layer takes '{key}'{nearest(key, known)}; "
                              f"known: {', '.join(sorted(set(known)))}")


class Settings:
    """KEY=VALUE settings for all nets of a solver: ``settings(net)`` sets them in one.

    A folder (``voc_dir``, ``sbdd_dir``) is set only in layers that have it: training and test net name different ones.
    """

    def __init__(self, values):
        self.values = values
        self.unused = {key for key in values if key.endswith("_dir")}
        self.known = set()

    def __call__(self, net):
        folders = {key for layer in find(net) if layer.type == "Python" for key in param_dict(layer)
                   if key.endswith("_dir")}
        self.known |= folders
        self.unused -= folders
        set_params(net, {key: value for key, value in self.values.items()
                         if not key.endswith("_dir") or key in folders})

    def refuse_unused(self):
        """Refuse folders that no layer of any net has."""
        for key in sorted(self.unused):
            raise UnknownName(f"no data layer takes '{key}'{nearest(key, self.known)}; "
                              f"folders: {', '.join(sorted(self.known)) or 'none'}")


def _literal(param, key, value):
    field = param.DESCRIPTOR.fields_by_name[key]
    param.ClearField(key)
    if field.type == field.TYPE_STRING:
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def use_sample(net):
    """Let the data layers of `net` read the embedded sample data set; it is drawn when it is not there."""
    folder = sample.ensure()
    layers = [layer for layer in find(net) if layer.type == "Python"]
    if not layers:
        raise Error(f"net '{net.name}' has no data layer that --sample could serve")
    others = {key: kind.title for kind in dataset_kinds().values() if kind.cure != SAMPLE_CURE
              for key in kind.folders if key != "voc_dir"}
    for layer in layers:
        for key in param_dict(layer):
            if key in others:
                raise Error(f"layer '{layer.name}' reads {others[key]} ('{key}'), and the embedded sample data set is in PASCAL "
                            "VOC's layout; run it without --sample on the real set, or train another model on the sample")
        layer.python_param.param_str = sample.redirect(layer.python_param.param_str, folder)


def dataset_of(net):
    """Return what the data layer of a running net reads (it has a length and ids), or None."""
    for layer in net.layers:
        for owner in (layer, getattr(layer, "instance", None)):
            dataset = getattr(owner, "dataset", None)
            if dataset is not None:
                return dataset
    return None


def mean_beside(path):
    """Return (mean, file) that a data layer in the folder of `path` subtracts, or (None, None).

    A deploy net does not say how its pictures were prepared, the nets that it was trained with do.
    """
    folder = os.path.dirname(os.path.abspath(path))
    for other in (path, *(os.path.join(folder, f"{split}.prototxt") for split in ("val", "test", "train", "trainval"))):
        try:
            layers = find(text.read_net(other, dropped=[])) if os.path.isfile(other) else ()
            for layer in layers:
                mean = _python_mean(layer) if layer.type == "Python" else layer.transform_param.mean_value
                if mean and len(mean) == 3:
                    return tuple(float(value) for value in mean), other
        except (Error, TypeError, ValueError):
            continue  # only a guess: a broken neighbour does not matter here
    return None, None


def _python_mean(layer):
    # The mean in the param_str, or that which the data layer's class has for its first picture.
    params = param_dict(layer)
    mean, tops = params.get("mean"), params.get("tops", layer.top)
    if mean is None and tops and tops[0] in ("data", "color"):
        name = layer.python_param.module.removesuffix("_layers")
        with contextlib.suppress(ImportError):
            mean = getattr(getattr(importlib.import_module(f"data.{name}"), layer.python_param.layer, None), "default_mean", None)
    return mean
