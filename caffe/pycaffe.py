"""pycaffe's Net, solvers and Python-layer base class, over the engine's own."""

import collections
import os

import numpy as np

from caffe import mode
from layers.core import catalogue, net
from layers.core.blob import Blob
from netspec import hdf5
from netspec.caffe_pb2 import TEST
from netspec.errors import Error, nearest
from solvers import solver

__all__ = ["AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Blob", "Layer", "NesterovSolver", "Net", "RMSPropSolver",
           "SGDSolver", "get_solver", "layer_type_list"]


class Net(net.Net):
    """`Net(prototxt, phase, weights=..., level=..., stages=...)`, or the older `Net(prototxt, weights, phase)`."""

    def __init__(self, network_file, *args, phase=TEST, level=0, stages=None, weights=None, **options):
        # A path among the arguments is the weights: the first of them in old scripts, the last in newer ones.
        paths = [one for one in args if isinstance(one, (str, bytes, os.PathLike))]
        given = [one for one in args if not isinstance(one, (str, bytes, os.PathLike))]
        if paths:
            weights = os.fsdecode(paths.pop(0))
        given += paths
        if given:
            phase = given.pop(0)
        if given:
            level = given.pop(0)
        if given:
            stages = given.pop(0)
        if given:
            raise TypeError(f"Net takes a prototxt, weights, a phase, a level and stages; {given} is left over")
        if isinstance(network_file, bytes):
            network_file = os.fsdecode(network_file)
        options.setdefault("device", mode.device())
        super().__init__(network_file, phase, level, stages or (), weights, **options)

    @property
    def _layer_names(self):
        return list(self.layer_names)

    @property
    def _blob_names(self):
        return list(self.blobs)

    @property
    def _inputs(self):
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self):
        return [self._blob_names.index(name) for name in self.outputs]

    @property
    def blob_loss_weights(self):
        """Loss weight by blob name."""
        weights = dict.fromkeys(self.blobs, 0.0)
        for layer, names in zip(self.layers, self.top_names.values()):
            weights.update({n: w for n, w in zip(names, layer.loss_weights) if w})
        return collections.OrderedDict(weights)

    def forward(self, blobs=None, start=None, end=None, **inputs):
        """Run the net (or the layers `start` to `end`); keyword arrays go into inputs; return {blob name: array}.

        The result holds the net's outputs (or the tops of `end`) and the extra `blobs` asked for.
        """
        if inputs:
            if set(inputs) != set(self.inputs):
                raise Error(f"inputs {sorted(inputs)} given, the net takes {self.inputs}")
            for name, values in inputs.items():
                self._fill(name, self.blobs[name].data, values)
        super().forward(start, end)
        names = self.top_names[end] if end is not None else self.outputs
        return {name: self._blob(name).data for name in [*names, *(blobs or [])]}

    def backward(self, diffs=None, start=None, end=None, **outputs):
        """Run backward; keyword arrays go into the outputs' diffs; return {blob name: gradient}.

        The result holds the gradients of the net's inputs (or the bottoms of `end`) and of the extra `diffs`.
        """
        for name, values in outputs.items():
            if name not in self.outputs:
                raise Error(f"'{name}' is not an output of the net{nearest(name, self.outputs)}")
            self._fill(name, self.blobs[name].diff, values)
        super().backward(start, end)
        names = self.bottom_names[end] if end is not None else self.inputs
        return {name: self._blob(name).diff for name in [*names, *(diffs or [])]}

    def forward_all(self, blobs=None, **inputs):
        """Run forward over more samples than one batch holds; return {blob name: array} over all of them."""
        collected = collections.defaultdict(list)
        for batch, real in self._batches(inputs):
            for name, values in self.forward(blobs=blobs, **batch).items():
                collected[name].append(values[:real].copy())
        return {name: np.concatenate(parts) for name, parts in collected.items()}

    def forward_backward_all(self, blobs=None, diffs=None, **arrays):
        """Run forward and backward in batches; return ({blob name: array}, {blob name: gradient})."""
        outputs, gradients = collections.defaultdict(list), collections.defaultdict(list)
        forward = {n: a for n, a in arrays.items() if n in self.inputs}
        backward = {n: a for n, a in arrays.items() if n in self.outputs}
        for (batch, real), (top_diffs, _) in zip(self._batches(forward), self._batches(backward or forward)):
            for name, values in self.forward(blobs=blobs, **batch).items():
                outputs[name].append(values[:real].copy())
            for name, values in self.backward(diffs=diffs, **(top_diffs if backward else {})).items():
                gradients[name].append(values[:real].copy())
        return ({n: np.concatenate(p) for n, p in outputs.items()},
                {n: np.concatenate(p) for n, p in gradients.items()})

    def set_input_arrays(self, data, labels):
        """Let a MemoryData layer, the net's first, deliver these arrays: (n, channels, height, width) and n labels, float32."""
        first = self.layers[0] if self.layers else None
        if first is None or first.type != "MemoryData":
            raise Error("set_input_arrays is for nets whose first layer is a MemoryData; here it is "
                        + (f"'{first.name}' ({first.type})" if first else 'missing'))
        first.reset(data, labels)

    def save_hdf5(self, path, write_diff=False):
        """Write the parameters as HDF5."""
        path = str(path)
        self.save(path if hdf5.wants_hdf5(path) else f"{path}.h5", write_diff)

    def load_hdf5(self, path):
        """Copy parameters from HDF5."""
        self.copy_from(path)

    def _blob(self, name):
        if name not in self.blobs:
            raise Error(f"no blob '{name}' in net '{self.name}'{nearest(name, self.blobs)}")
        return self.blobs[name]

    @staticmethod
    def _fill(name, target, values):
        # NumPy repeats what is too small where it can, as in pycaffe; but not one sample over a batch.
        if np.shape(values)[:1] != target.shape[:1]:
            raise Error(f"'{name}' holds {target.shape[0] if target.ndim else 0} samples, its values are of shape "
                        f"{list(np.shape(values))}; reshape the blob or use forward_all")
        try:
            target[...] = values
        except (TypeError, ValueError) as error:
            raise Error(f"'{name}' {list(target.shape)} cannot take values of shape {list(np.shape(values))}: {error}; "
                        "reshape the blob to their shape first") from None

    def _batches(self, arrays):
        """Yield ({name: one batch, the last filled up with zeros}, number of real samples)."""
        total = {len(a) for a in arrays.values()}
        if len(total) != 1:
            raise Error(f"inputs of different lengths: {sorted(total)}")
        total = total.pop()
        size = self.blobs[next(iter(arrays))].shape[0]
        for first in range(0, total, size):
            real = min(size, total - first)
            yield {n: np.concatenate([np.asarray(a[first:first + real], np.float32),
                                      np.zeros((size - real, *np.shape(a)[1:]), np.float32)])
                   for n, a in arrays.items()}, real


class Layer:
    """Base class of layers written in Python: override `setup`, `reshape`, `forward` and `backward`.

    The engine sets `param_str`, `phase` and `blobs` before `setup` is called.
    """

    type = "Python"

    def __init__(self, param=None):
        self.param_str = ""
        self.blobs = []

    def setup(self, bottom, top):
        """Read `param_str`, check the number of bottoms and tops."""

    def reshape(self, bottom, top):
        """Give the tops their shapes."""

    def forward(self, bottom, top):
        """Compute the tops' data."""

    def backward(self, top, propagate_down, bottom):
        """Compute the bottoms' diffs."""


def get_solver(path):
    """Return the solver that a solver prototxt asks for, with pycaffe's nets."""
    return solver.make(path, net_class=Net)


# pycaffe has a class for each type; the file says the type here too.
SGDSolver = NesterovSolver = AdaGradSolver = RMSPropSolver = AdaDeltaSolver = AdamSolver = get_solver


def layer_type_list():
    """Return the names of all layer types."""
    return catalogue.types()
