"""Find a layer type's class by name: `layers/softmax_with_loss.py` holds SoftmaxWithLoss."""

import ast
import functools
import importlib
import pathlib

from netspec.errors import Error, UnknownName, nearest

# All of Caffe 1.0's types, so that one which is not here yet is told from a misspelt one.
CAFFE = """AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution Crop Data
Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss Im2col
ImageData InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData MultinomialLogisticLoss PReLU Parameter Pooling
Power Python RNN ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss
Split Swish TanH Threshold Tile WindowData"""
FOLDER = pathlib.Path(__file__).resolve().parent.parent


@functools.cache
def _files():
    """Return {type name in lower case: module stem}; two files for one type are an error that names both."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem == "__init__":
            continue
        key = path.stem.replace("_", "")
        if key in found:
            raise Error(f"layers/{found[key]}.py and layers/{path.name} both claim the layer type '{key}'; remove one")
        found[key] = path.stem
    return found


@functools.cache
def types():
    """Return the names of all layer types, sorted, without importing their files."""
    names = []
    for key, stem in _files().items():
        tree = ast.parse((FOLDER / f"{stem}.py").read_text())
        names += [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name.lower() == key]
    return sorted(names)


@functools.cache
def find(type_name):
    """Return the class of the layer type `type_name` (Caffe's spelling); an unknown one is an `UnknownName`."""
    stem = _files().get(type_name.lower())
    layer = getattr(importlib.import_module(f"layers.{stem}"), type_name, None) if stem else None
    if layer is None:
        if type_name in CAFFE.split():
            raise UnknownName(f"layer type '{type_name}' of Caffe is not built here yet; known: {', '.join(types())}")
        raise UnknownName(f"unknown layer type '{type_name}'{nearest(type_name, types())}; "
                          f"known: {', '.join(types())}")
    return layer
