"""What the doors that run a net share: which prototxt is meant, its data layers, and a net that needs no data set."""

import ast
import glob
import os
import sys

import numpy as np
import tqdm
from google.protobuf import text_format

from data import sample, voc
from layers.core.net import Net
from netspec import caffe_pb2, files, graph, text, weights
from netspec.errors import Error, UnknownName, nearest

# Layers that bring data from outside the net, and where their parameters are.
DATA_PARAMETERS = {"Data": "data_param", "HDF5Data": "hdf5_data_param", "ImageData": "image_data_param",
                   "WindowData": "window_data_param", "MemoryData": "memory_data_param", "Python": "python_param"}
SIDE = 224  # height and width of stand-ins for pictures: parameters' shapes hardly ever depend on it
JUDGES = ("Accuracy", "Silence", "HDF5Output")  # they and the losses only look at what a net computes


def find(name, splits):
    """Return the path of a prototxt: `name` itself, or ``models/<name>/<split>.prototxt`` of the first such split.

    The published directory names (``voc-fcn8s``) stand for the models' names here.
    """
    name = os.fspath(name)
    if os.path.sep in name or name.endswith((".prototxt", ".pt", ".txt")) or os.path.isfile(name):
        path = files.find(name, what="net")
        if os.path.isdir(path):
            raise Error(f"net '{name}' is a folder; give a prototxt or the name of a model")
        return path
    models = os.path.join(files.ROOT, "models")
    known = sorted(os.path.basename(os.path.dirname(path)) for path in glob.glob(os.path.join(models, "*", "net.py")))
    model = name.replace("-", "_").removeprefix("voc_")
    if model not in known:
        raise UnknownName(f"no file and no model '{name}'{nearest(name, known)}; models: {', '.join(known) or 'none'}")
    places = [os.path.join(models, model, f"{split}.prototxt") for split in splits]
    for place in places:
        if os.path.isfile(place):
            return place
    raise Error(f"model '{model}' has no {' or '.join(map(os.path.basename, places))}; "
                f"write it with: python -m netspec.make {model} --split {splits[0]} > {places[0]}")


def read(path, phase=caffe_pb2.TEST):
    """Return the NetParameter of a prototxt as the phase leaves it: upgraded, include and exclude rules applied."""
    net = text.read_net(path)
    net.state.phase = phase
    net = graph.filter_net(net, net.state)
    if not net.layer:
        raise Error(f"'{path}' has no layers in phase {caffe_pb2.Phase.Name(phase)}")
    return net


def data_layers(net):
    """Return the layers (messages) of `net` that bring data from outside."""
    return [layer for layer in net.layer if brings_data(layer)]


def brings_data(layer):
    """Whether the layer (a message) brings data from outside: without bottoms, and not an Input."""
    return layer.type in DATA_PARAMETERS and not layer.bottom and bool(layer.top)


def heads(net):
    """Return [(score blob, label blob)] of every loss of a net that learns classes, by the names in the prototxt."""
    found = [tuple(layer.bottom[:2]) for layer in net.layer
             if layer.type in ("SoftmaxWithLoss", "InfogainLoss") and len(layer.bottom) >= 2]
    return list(dict.fromkeys(found))


def key_values(pairs):
    """Return {key: value} of ``KEY=VALUE`` options; a value that reads as a Python literal is one, others are text."""
    found = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UnknownName(f"--data takes KEY=VALUE, such as voc_dir=data/VOC2012; got '{pair}'")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found[key] = value
    return found


def set_data(net, values):
    """Set parameters of the data layers of `net` in place: keys of param_str, or fields of data_param etc."""
    layers = data_layers(net)
    if values and not layers:
        raise Error(f"net '{net.name}' has no data layer that could take {', '.join(values)}")
    for key, value in values.items():
        taken, known = False, []
        for layer in layers:
            param = getattr(layer, DATA_PARAMETERS[layer.type])
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


def _literal(param, key, value):
    field = param.DESCRIPTOR.fields_by_name[key]
    param.ClearField(key)
    if field.type == field.TYPE_STRING:
        return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


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


def use_sample(net):
    """Let the data layers of `net` read the embedded sample data set; it is drawn when it is not there."""
    folder = sample.ensure()
    layers = [layer for layer in data_layers(net) if layer.type == "Python"]
    if not layers:
        raise Error(f"net '{net.name}' has no data layer that --sample could serve")
    for layer in layers:
        layer.python_param.param_str = sample.redirect(layer.python_param.param_str, folder)


def open_net(net, path, phase=caffe_pb2.TEST, weights=None):
    """Return the `Net` of a message that was read from `path`, with weights if any are given.

    Errors name the lines of `path`, and folders of data are looked for beside it. Weights that match no layer are
    refused; layers that they leave zero or at a random start are named on stderr.
    """
    made = Net(net, phase, weights=weights, source=path)
    if weights and made.params:
        report = made.weights_report
        if not report.copied:
            raise Error(f"'{weights}' matches no layer of '{path}': all names differ; give the weights of this net, or "
                        "carry others over with python -m solvers.surgery transplant")
        missing = [name for name in report.untouched if _wants_weights(made, name)]
        if missing:
            print(f"warning: '{weights}' has no weights for: {', '.join(missing)}", file=sys.stderr)
    return made


def _wants_weights(net, name):
    # A layer that never learns and is not zero (a fixed scale, bilinear upsampling) needs none.
    number = net.layer_names.index(name)
    learns = any(net.params_lr[i] for i in net.param_ids[number])
    return learns or not any(np.any(blob.data) for blob in net.params[name])


# --- a net without its data set --------------------------------------------------------------------------------------


def without_data(net, shapes=None):
    """Return a copy of `net` in which Input layers stand for the data layers, so that no data set is needed.

    `shapes` (blob name -> tuple) has the last word on the Inputs' shapes, also of those that are Inputs already. Else
    a label has one channel, MemoryData and crops have their own sizes, and pictures are 3 x 224 x 224.
    """
    shapes = dict(shapes or {})
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    tops = [top for layer in result.layer if brings_data(layer) or layer.type == "Input" for top in layer.top]
    for name in shapes:
        if name not in tops:
            raise UnknownName(f"net '{net.name}' has no input '{name}'{nearest(name, tops)}; "
                              f"inputs: {', '.join(tops) or 'none'}")
    for layer in result.layer:
        if layer.type == "Input":
            given = [tuple(shape.dim) for shape in layer.input_param.shape]
            given = given * len(layer.top) if len(given) == 1 else given
            wanted = [shapes.get(top, own) for top, own in zip(layer.top, given)]
            if len(given) != len(layer.top):
                continue  # the layer itself says what is wrong
        elif not brings_data(layer):
            continue
        else:
            wanted = [shapes.get(top) or _stand_in(result, layer, top) for top in layer.top]
            kept = caffe_pb2.LayerParameter(name=layer.name, type="Input", top=layer.top)
            layer.CopyFrom(kept)
        layer.ClearField("input_param")
        for shape in wanted:
            layer.input_param.shape.add(dim=shape)
    return result


def _stand_in(net, layer, top):
    # The shape of one top of a data layer, guessed from what is said of it.
    number = list(layer.top).index(top)
    height = width = SIDE
    batch, channels = 1, 3
    if layer.type == "MemoryData":
        param = layer.memory_data_param
        batch, channels, height, width = param.batch_size, param.channels, param.height, param.width
    elif layer.type == "HDF5Data":
        raise Error(f"layer '{layer.name}' (HDF5Data): the shape of '{top}' is known to its files only; "
                    f"give it: --input {top}=1,3,{SIDE},{SIDE}")
    elif layer.type != "Python":
        crop = layer.transform_param.crop_size or getattr(getattr(layer, DATA_PARAMETERS[layer.type]), "crop_size", 0)
        height = width = crop or SIDE
    if _is_label(net, top) or (number and layer.type != "Python"):
        return (batch, 1, height, width) if layer.type == "Python" else (batch,)
    if layer.type == "Python":
        tops = param_dict(layer).get("tops", list(layer.top))
        kind = tops[number] if isinstance(tops, (list, tuple)) and number < len(tops) else top
        channels = 1 if kind == "depth" else 3
    return batch, channels, height, width


def _is_label(net, top):
    return any(top in layer.bottom[1:] and (layer.type.endswith("Loss") or layer.type in JUDGES) for layer in net.layer)


def without_judges(net):
    """Return a copy of `net` without losses, Accuracy and Silence, and without inputs that nothing else reads."""
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    del result.layer[:]
    result.layer.extend(layer for layer in net.layer if not layer.type.endswith("Loss") and layer.type not in JUDGES)
    read_before = {bottom for layer in net.layer for bottom in layer.bottom}
    read_now = {bottom for layer in result.layer for bottom in layer.bottom}
    idle = read_before - read_now
    for layer in list(result.layer):
        if layer.type == "Input" and any(top in idle for top in layer.top):
            keep = [i for i, top in enumerate(layer.top) if top not in idle]
            shapes = list(layer.input_param.shape)
            dims = [list((shapes[0] if len(shapes) == 1 else shapes[i]).dim) for i in keep] if shapes else []
            tops = [layer.top[i] for i in keep]
            if not keep:
                result.layer.remove(layer)
                continue
            del layer.top[:]
            layer.top.extend(tops)
            del layer.input_param.shape[:]
            for dim in dims:
                layer.input_param.shape.add(dim=dim)
    return result


def save(path, net, params):
    """Write `params` (layer name -> blobs) as weights of the message `net`; HDF5 when `path` ends in .h5."""
    layers = {name: [(blob.data, None) for blob in blobs] for name, blobs in params.items()}
    if os.fspath(path).lower().endswith((".h5", ".hdf5")):
        weights.write_hdf5(path, layers)
    else:
        weights.write_caffemodel(path, graph.insert_splits(net), layers)


# --- classes and means ----------------------------------------------------------------------------------------------


def dataset_of(net):
    """Return what the data layer of a running net reads (it has a length and ids), or None."""
    for layer in net.layers:
        for owner in (layer, getattr(layer, "instance", None)):
            dataset = getattr(owner, "dataset", None)
            if dataset is not None:
                return dataset
    return None


def class_names(count, dataset=None):
    """Return `count` names of classes: the data set's, PASCAL VOC's for 21 of them, else numbers."""
    names = getattr(dataset, "names", None)
    if names and len(names) == count:
        return list(names)
    return list(voc.CLASSES) if count == len(voc.CLASSES) else [f"class {i}" for i in range(count)]


def mean_beside(path):
    """Return (mean, file) that a data layer in the folder of `path` subtracts, or (None, None).

    A deploy net does not say how its pictures were prepared, the nets that it was trained with do.
    """
    folder = os.path.dirname(os.path.abspath(path))
    for other in (path, *(os.path.join(folder, f"{split}.prototxt") for split in ("val", "test", "train", "trainval"))):
        try:
            layers = data_layers(text.read_net(other)) if os.path.isfile(other) else ()
            for layer in layers:
                mean = param_dict(layer).get("mean") if layer.type == "Python" else layer.transform_param.mean_value
                if mean and len(mean) == 3:
                    return tuple(float(value) for value in mean), other
        except (Error, TypeError, ValueError):
            continue  # only a guess: a broken neighbour does not matter here
    return None, None


def three_numbers(option):
    """Return the mean of ``--mean B,G,R``."""
    try:
        mean = tuple(float(value) for value in option.split(","))
    except ValueError:
        mean = ()
    if len(mean) != 3 or not np.isfinite(mean).all():
        raise UnknownName(f"--mean takes three numbers, blue,green,red, such as 104.007,116.669,122.679; "
                          f"got '{option}'")
    return mean


def input_shapes(options):
    """Return {blob name: shape} of ``--input NAME=1,3,224,224`` options."""
    found = {}
    for option in options or ():
        name, _, dims = option.partition("=")
        try:
            found[name] = tuple(int(dim) for dim in dims.split(","))
        except ValueError:
            found[name] = ()
        if not name or not found[name] or min(found[name]) < 1:
            raise UnknownName(f"--input takes NAME=SHAPE, such as data=1,3,224,224; got '{option}'")
    return found


def progress(items, what, unit):
    """Return `items` to loop over, with a bar on stderr when that is a terminal."""
    return tqdm.tqdm(items, desc=what, unit=unit, disable=not sys.stderr.isatty(), file=sys.stderr)
