"""A mean image or any one array in a BlobProto file (``.binaryproto``) <-> a NumPy array."""

import numpy as np

from netspec import blobs, caffe_pb2, files, wire
from netspec.errors import Error


def read_mean(path):
    """Return the array of a ``.binaryproto`` file.

    Returns
    -------
    ndarray, float32
        With the shape that the file says: Caffe's ``compute_image_mean`` writes 1 x C x H x W, channels in BGR order.
    """
    source = wire.Source(path, "a mean file (BlobProto)")
    try:
        proto, found = wire.parse(source, caffe_pb2.BlobProto, blobs.PLAN)
        return blobs.from_proto(proto, found, f"'{path}'").read()
    finally:
        source.close()


def write_mean(path, array):
    """Write `array` as a ``.binaryproto`` file that Caffe's ``mean_file`` takes.

    Up to 4 axes are written in the old fields num, channels, height and width (leading sizes 1), as
    ``compute_image_mean`` does: every reader knows them. More axes are written as `shape`.
    """
    array = np.asarray(array, np.float32)
    if not array.size:
        raise Error(f"cannot write '{path}': the array of shape {array.shape} has no values")
    proto = caffe_pb2.BlobProto()
    if array.ndim <= 4:
        proto.num, proto.channels, proto.height, proto.width = (1,) * (4 - array.ndim) + array.shape
    else:
        proto.shape.dim.extend(array.shape)
    with files.atomic(path) as file:
        file.write(proto.SerializeToString())
        file.write(wire.header(5, 4 * array.size))
        blobs.write_floats(file, array)
