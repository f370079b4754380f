"""Solver states, Caffe's ``.solverstate`` (SolverState message) and ``.solverstate.h5``: where a training can go on."""

import os

import h5py
import numpy as np

from netspec import blobs, caffe_pb2, files, hdf5, wire
from netspec.errors import Error

_PLAN = {3: blobs.PLAN}  # SolverState.history
_WHAT = "a solverstate"


class SolverState:
    """What a solver needs, beside the weights, to go on.

    Attributes
    ----------
    iter, current_step : int
        Iterations done; steps of the rate done (policies `step` and `multistep`).
    learned_net : str
        The weights file. As written: often relative to the working directory of then, perhaps without extension or "".
    blobs : list of `blobs.ParamBlob`
        The history (momentum), one for each learnable parameter in the net's order; twice or more as many for solvers
        that keep two. Read when asked for.
    extra : bytes or None
        deepjet's own record (random states, data order); None in Caffe's files.
    """

    def __init__(self, iter, learned_net, current_step, blobs, extra, path, file):
        self.iter, self.learned_net, self.current_step = iter, learned_net, current_step
        self.blobs, self.extra, self.path = blobs, extra, path
        self._file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Close the file; history that was not read before cannot be read any more."""
        self._file.close()

    @property
    def history(self):
        """The history as a list of float32 arrays."""
        return [blob.data for blob in self.blobs]


def read_solverstate(path):
    """Read a solver state of either format, told apart by what the file holds; returns `SolverState`."""
    return (_read_hdf5 if hdf5.is_hdf5(path) else _read_binary)(os.fspath(path))


def write_solverstate(path, iter, learned_net="", current_step=0, history=(), extra=None):
    """Write a solver state: HDF5 when `path` ends in .h5 or .hdf5, else binary. Caffe reads both.

    Parameters
    ----------
    history : list of array_like or `blobs.ParamBlob`
    extra : bytes, optional
        Goes into the field `deepjet` (1000), or the dataset "deepjet": Caffe steps over either.
    """
    history = [blobs.as_blob(item, f"history {index}") for index, item in enumerate(history)]
    (_write_hdf5 if hdf5.wants_hdf5(path) else _write_binary)(path, iter, learned_net, current_step, history, extra)


def _read_binary(path):
    source = wire.Source(path, _WHAT)
    try:
        message, found = wire.parse(source, caffe_pb2.SolverState, _PLAN)
        # A caffemodel has a text where the iteration should be, which protobuf only calls an unknown field.
        if not message.HasField("iter") or not isinstance(message.learned_net, str) or message.iter < 0:
            raise source.error(f"not {_WHAT}: it has no iteration; is it a caffemodel? Those are given as weights")
        history = [blobs.from_proto(proto, floats, f"'{path}': history {index}")
                   for index, (proto, floats) in enumerate(zip(message.history, found.get(3, ())))]
    except BaseException:
        source.close()
        raise
    return SolverState(message.iter, message.learned_net, message.current_step, history,
                       message.deepjet if message.HasField("deepjet") else None, path, source)


def _write_binary(path, iter, learned_net, current_step, history, extra):
    try:
        head = caffe_pb2.SolverState(iter=iter, learned_net=learned_net).SerializeToString()
        tail = caffe_pb2.SolverState(current_step=current_step, deepjet=extra).SerializeToString()
    except (ValueError, TypeError) as error:
        raise Error(f"cannot write '{path}': {error}") from None
    sizes = [blobs.proto_size(blob, diffs=False) for blob in history]
    wire.check_size(path, len(head) + sum(sizes) + len(tail))
    with files.atomic(path) as file:
        file.write(head)
        for blob, size in zip(history, sizes):
            file.write(wire.header(3, size))
            blobs.write_proto(file, blob, diffs=False)
        file.write(tail)


def _read_hdf5(path):
    file = hdf5.open_file(path)
    try:
        with hdf5.errors_of(path):
            if not isinstance(file.get("iter"), h5py.Dataset) or not isinstance(file.get("history"), h5py.Group):
                raise Error(f"'{path}': not {_WHAT}: it has no 'iter' or no 'history'; its members are: "
                            f"{', '.join(map(str, file)) or 'none'}")
            learned_net = file.get("learned_net", default=b"")
            if isinstance(learned_net, h5py.Dataset):
                learned_net = _bounded(path, learned_net)[()]
            if not isinstance(learned_net, (bytes, str)):
                raise Error(f"'{path}': 'learned_net' is not a text")
            members = hdf5.numbered(file["history"])
            if list(members) != list(range(len(members))):
                raise Error(f"'{path}': the history has numbers {list(members)}; 0 to {len(members) - 1} are expected")
            history = [hdf5.blob(path, dataset, f"'{path}': history {index}") for index, dataset in members.items()]
            extra = bytes(_bounded(path, file["deepjet"])[()].astype(np.uint8)) if "deepjet" in file else None
            return SolverState(_integer(path, file, "iter"), os.fsdecode(learned_net).rstrip("\0"),
                               _integer(path, file, "current_step"), history, extra, path, file)
    except BaseException:
        file.close()
        raise


def _write_hdf5(path, iter, learned_net, current_step, history, extra):
    with hdf5.write_file(path) as file:
        file.create_dataset("iter", data=np.array([iter], np.int32))
        hdf5.write_text(file, "learned_net", learned_net)
        file.create_dataset("current_step", data=np.array([current_step], np.int32))
        group = file.create_group("history")
        for index, blob in enumerate(history):
            group.create_dataset(str(index), data=blob.read())
        if extra is not None:
            file.create_dataset("deepjet", data=np.frombuffer(extra, np.uint8))


def _integer(path, file, name):
    if name not in file:
        return 0
    value = hdf5.blob(path, file[name], f"'{path}': {name}")
    if value.count != 1:
        raise Error(f"'{path}': '{name}' has {value.count} values instead of one")
    return int(np.asarray(file[name][()]).reshape(-1)[0])


def _bounded(path, dataset):
    # A text or a record: its memory is taken only when it can be in the file.
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual or dataset.size is None:
        raise Error(f"'{path}': '{dataset.name}' is not data in this file")
    if dataset.nbytes > hdf5.DENSEST * max(dataset.id.get_storage_size(), 1):
        raise Error(f"'{path}': '{dataset.name}' claims {dataset.nbytes} bytes that the file does not hold")
    return dataset
