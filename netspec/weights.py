"""Weights of nets: ``.caffemodel`` (NetParameter message of any age) and HDF5 <-> arrays.

Opening a file of any size takes milliseconds: only the names, shapes and places of the arrays are read. The arrays go
from the file into their memory once, when somebody asks.

>>> weights = read_weights("fcn8s.caffemodel")
>>> weights.layers["conv1_1"][0].shape
(64, 3, 3, 3)
>>> weights.layers["conv1_1"][0].read_into(blob.data)     # straight into a net's memory
"""

import os

import h5py

from netspec import blobs, caffe_pb2, files, forks, hdf5, wire
from netspec.binaryproto import read_mean, write_mean
from netspec.blobs import ParamBlob, shapes_agree
from netspec.errors import Error, nearest
from netspec.solverstate import SolverState, read_solverstate, write_solverstate

__all__ = ["ParamBlob", "SolverState", "Weights", "read_mean", "read_solverstate", "read_weights", "shapes_agree",
           "write_caffemodel", "write_hdf5", "write_mean", "write_solverstate"]

# Where NetParameter has blobs: layer.blobs (today), layers.blobs (V1), layers.layer.blobs (V0).
_PLAN = {100: {7: blobs.PLAN}, 2: {6: blobs.PLAN, 1: {50: blobs.PLAN}}}
_WHAT = "a caffemodel"


class Weights:
    """An open weights file.

    Attributes
    ----------
    path : str
    net : NetParameter
        The net in the file, without its blobs, neither upgraded nor filtered. HDF5 has names only: layers without type.
    layers : dict
        Layer name -> list of `blobs.ParamBlob`, in the file's order; [] for layers without parameters. None stands
        in the list for a blob that HDF5 leaves out because the layer shares it with another one.
    remarks : list of str
        What was assumed of fields of Caffe's forks, or is not read (see `forks`).

    A name that occurs twice: the last one with blobs counts, since Caffe copies one after the other. A file with both
    V1 and today's layers: V1's win, and Caffe takes V1's only.
    """

    def __init__(self, path, net, layers, file, remarks=()):
        self.path, self.net, self.layers, self.remarks = path, net, layers, list(remarks)
        self._file = file

    def __repr__(self):
        return f"<Weights '{self.path}': {sum(map(bool, self.layers.values()))} layers with blobs>"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Close the file; what was not read before cannot be read any more."""
        self._file.close()


def read_weights(path):
    """Open a weights file of either format, told apart by what it holds and not by its name; returns `Weights`.

    Raises `errors.Error` for a file that is truncated, corrupt or something else. The error of a blob whose shape
    does not fit its numbers comes when the blob's shape is asked for.
    """
    return (_read_hdf5 if hdf5.is_hdf5(path) else _read_caffemodel)(os.fspath(path))


def write_caffemodel(path, net, layers, diffs=None):
    """Write a ``.caffemodel`` as Caffe does, array by array.

    Parameters
    ----------
    net : NetParameter
        The net as Caffe keeps it (today's layers, splits inserted); blobs in it are ignored.
    layers : dict
        Layer name -> list of (data, diff or None), of arrays or of `ParamBlob`. Of layers of one name the first one
        gets them, which is where Caffe's reader puts them.
    diffs : bool, optional
        Whether to write the diffs. By default those that are there.
    """
    if net.layers:
        raise Error(f"cannot write '{path}': the net has V1 layers; upgrade it first (netspec.upgrade)")
    diffs = diffs is not False
    left = {name: _as_blobs(name, items) for name, items in layers.items()}
    parts = []
    total = 0
    for layer in net.layer:
        own = left.pop(layer.name, [])
        before, after = _around(layer, "blobs")
        after = forks.theirs(after, layer.type)
        sizes = [blobs.proto_size(blob, diffs) for blob in own]
        length = len(before) + sum(len(wire.header(7, size)) + size for size in sizes) + len(after)
        parts.append((length, before, own, sizes, after))
        total += len(wire.header(100, length)) + length
    names = [name for name, own in left.items() if own]
    if names:
        raise Error(f"cannot write '{path}': the net '{net.name}' has no layer '{names[0]}'"
                    f"{nearest(names[0], [layer.name for layer in net.layer])}")
    head, tail = _around(net, "layer")
    wire.check_size(path, len(head) + total + len(tail))
    with files.atomic(path) as file:
        file.write(head)
        for length, before, own, sizes, after in parts:
            file.write(wire.header(100, length) + before)
            for blob, size in zip(own, sizes):
                file.write(wire.header(7, size))
                blobs.write_proto(file, blob, diffs)
            file.write(after)
        file.write(tail)


def write_hdf5(path, layers, diffs=None):
    """Write weights as Caffe's HDF5: dataset ``/data/<layer>/<index>``, and ``/diff/...`` likewise.

    Parameters
    ----------
    layers : dict
        As for `write_caffemodel`; layers without parameters become empty groups, None is left out. A name with
        slashes becomes groups in groups.
    diffs : bool, optional
        Whether to write the diffs. By default when there are any.
    """
    layers = {name: _as_blobs(name, items) for name, items in layers.items()}
    any_diff = any(blob is not None and blob.has_diff for own in layers.values() for blob in own)
    kinds = ["data", "diff"] if any_diff and diffs is not False else ["data"]
    for name in layers:
        if not all(part.strip(".") for part in name.split("/")) or "\0" in name:
            raise Error(f"cannot write '{path}': HDF5 cannot hold a layer named '{name}'; rename it or write a "
                        ".caffemodel")
    with hdf5.write_file(path) as file:
        for kind in kinds:
            top = file.create_group(kind)
            for name, own in layers.items():
                group = top.require_group(name)
                for index, blob in enumerate(own):
                    if blob is None or (kind == "diff" and not blob.has_diff):
                        continue
                    array = blob.read() if kind == "data" else blob.read_diff()
                    group.create_dataset(str(index), data=array)


def _read_caffemodel(path):
    source = wire.Source(path, _WHAT)
    try:
        remarks = []
        net, found = wire.parse(source, caffe_pb2.NetParameter, _PLAN, lambda data: forks.without_strangers(data, remarks))
        if not net.layer and not net.layers:
            raise source.error(f"not {_WHAT}: it has no layers")
        remarks += forks.mend(net)
        layers = {}
        for name, protos, floats in _entries(net, found):
            if protos or name not in layers:
                layers[name] = [blobs.from_proto(proto, places, f"'{path}': layer '{name}', blob {index}")
                                for index, (proto, places) in enumerate(zip(protos, floats))]
            del protos[:]
        return Weights(path, net, layers, source, remarks)
    except BaseException:
        source.close()
        raise


def _entries(net, found):
    # (layer name, its BlobProtos, where the floats of each are), V1 after today's so that it wins.
    for layer, below in zip(net.layer, found.get(100, ())):
        yield _text(layer.name), layer.blobs, below.get(7, [])
    for layer, below in zip(net.layers, found.get(2, ())):
        if layer.HasField("layer"):  # V0: the layer proper is inside
            yield _text(layer.layer.name), layer.layer.blobs, [one for part in below[1] for one in part.get(50, [])]
        else:
            yield _text(layer.name), layer.blobs, below.get(6, [])


def _text(name):
    # A damaged name comes out of protobuf as bytes, out of h5py with surrogates.
    return (name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name).decode("utf-8", "replace")


def _read_hdf5(path):
    file = hdf5.open_file(path)
    try:
        with hdf5.errors_of(path):
            data, diff = file.get("data"), file.get("diff")
            if not isinstance(data, h5py.Group):
                raise Error(f"'{path}': not weights: it has no group 'data'; its members are: "
                            f"{', '.join(map(str, file)) or 'none'}")
            # A layer's name may have slashes, so groups stand in groups: the ones with numbered datasets or with
            # nothing at all in them are layers.
            groups = []
            data.visititems(lambda name, item: groups.append((name, item)) if isinstance(item, h5py.Group) else None)
            layers = {}
            for name, group in groups:
                arrays = {index: item for index, item in hdf5.numbered(group).items() if isinstance(item, h5py.Dataset)}
                if arrays or not len(group):
                    name = _text(name)
                    where = f"'{path}': layer '{name}', blob "
                    layers[name] = [None] * _length(path, name, arrays)
                    for index, dataset in arrays.items():
                        gradient = diff.get(f"{name}/{index}") if isinstance(diff, h5py.Group) else None
                        layers[name][index] = hdf5.blob(path, dataset, f"{where}{index}", gradient)
        if not layers:
            raise Error(f"'{path}': not weights: its group 'data' has no layers")
        net = caffe_pb2.NetParameter()
        for name in layers:
            net.layer.add(name=name)
        return Weights(path, net, layers, file)
    except BaseException:
        file.close()
        raise


def _length(path, name, arrays):
    # Blobs that are shared with another layer are not in the file; a number out of all measure is damage.
    length = max(arrays, default=-1) + 1
    if length > len(arrays) + 64:
        raise Error(f"'{path}': layer '{name}' has {len(arrays)} blobs, and one has the number {length - 1}")
    return length


def _as_blobs(name, items):
    return [None if item is None else blobs.as_blob(item, f"layer '{name}', blob {index}")
            for index, item in enumerate(items)]


def _around(message, field_name):
    # The bytes of the fields that come before and after `field_name` in number, as protobuf orders them.
    place = message.DESCRIPTOR.fields_by_name[field_name].number
    before, after = type(message)(), type(message)()
    after.CopyFrom(message)
    after.ClearField(field_name)
    before.CopyFrom(after)
    for field, _ in message.ListFields():
        if field.number < place:
            after.ClearField(field.name)
        else:
            before.ClearField(field.name)
    before.DiscardUnknownFields()
    return before.SerializePartialToString(), after.SerializePartialToString()
