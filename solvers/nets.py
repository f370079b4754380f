"""What the doors that run a net share: which prototxt is meant, opening it with its weights, saving, its classes."""

import sys

import numpy as np
import tqdm

from data import voc
from layers.core.net import Net
from netspec import caffe_pb2, graph, hdf5, recipes, text, weights
from netspec.errors import Error
from netspec.options import say_dropped

find = recipes.find_net


def read(path, phase=caffe_pb2.TEST, allow_unknown=False):
    """Return the NetParameter of a prototxt as the phase leaves it: upgraded, include and exclude rules applied.

    With `allow_unknown` unknown fields are dropped and listed on stderr.
    """
    dropped = [] if allow_unknown else None
    net = text.read_net(path, dropped)
    say_dropped(dropped)
    net.state.phase = phase
    net = graph.filter_net(net, net.state)
    if not net.layer:
        raise Error(f"'{path}' has no layers in phase {caffe_pb2.Phase.Name(phase)}")
    return net


def open_net(net, path, phase=caffe_pb2.TEST, weights=None, **how):
    """Return the `Net` of a message that was read from `path`, with weights if any are given.

    Errors name the lines of `path`, and folders of data are looked for beside it. Weights that match no layer are
    refused; layers that they leave zero or at a random start are named on stderr. `how` goes to `Net` (see `engine.use`).
    """
    made = Net(net, phase, weights=weights, source=path, **how)
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


def save(path, net, params):
    """Write `params` (layer name -> blobs) as weights of the message `net`; HDF5 when `path` ends in .h5."""
    layers = {name: [(blob.data, None) for blob in blobs] for name, blobs in params.items()}
    if hdf5.wants_hdf5(path):
        weights.write_hdf5(path, layers)
    else:
        weights.write_caffemodel(path, graph.insert_splits(net), layers)


def heads(net):
    """Return [(score blob, label blob)] of every loss of a net that learns classes, by the names in the prototxt."""
    found = [tuple(layer.bottom[:2]) for layer in net.layer
             if layer.type in ("SoftmaxWithLoss", "InfogainLoss") and len(layer.bottom) >= 2]
    return list(dict.fromkeys(found))


def class_names(count, dataset=None, label=None):
    """Return `count` names of classes: the data set's for the top `label`, PASCAL VOC's for 21 of them, else numbers."""
    if label in getattr(dataset, "label_parts", ()):
        names = dataset.classes_of(label)
    else:
        names = getattr(dataset, "names", None)
    if names and len(names) == count:
        return list(names)
    return list(voc.CLASSES) if count == len(voc.CLASSES) else [f"class {i}" for i in range(count)]


def progress(items, what, unit):
    """Return `items` to loop over, with a bar on stderr when that is a terminal."""
    return tqdm.tqdm(items, desc=what, unit=unit, disable=not sys.stderr.isatty(), file=sys.stderr)
