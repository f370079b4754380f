"""Mean files, with protobuf as the oracle."""

import numpy as np
import pytest

from netspec import caffe_pb2
from netspec.errors import Error
from netspec.weights import read_mean, write_mean

MEAN = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7


def test_protobuf_reads_what_is_written(tmp_path):
    write_mean(tmp_path / "mean.binaryproto", MEAN)
    proto = caffe_pb2.BlobProto.FromString((tmp_path / "mean.binaryproto").read_bytes())
    assert (proto.num, proto.channels, proto.height, proto.width) == (1, 2, 3, 4)
    np.testing.assert_array_equal(np.array(proto.data, np.float32), MEAN.ravel())
    np.testing.assert_array_equal(read_mean(tmp_path / "mean.binaryproto"), MEAN[np.newaxis])


def test_reads_what_protobuf_writes(tmp_path):
    path = tmp_path / "mean.binaryproto"
    old = caffe_pb2.BlobProto(num=1, channels=2, height=3, width=4, data=MEAN.ravel())
    new = caffe_pb2.BlobProto(double_data=MEAN.ravel())
    new.shape.dim.extend(MEAN.shape)
    for proto, shape in ((old, (1, 2, 3, 4)), (new, (2, 3, 4))):
        path.write_bytes(proto.SerializeToString())
        mean = read_mean(path)
        assert mean.shape == shape and mean.dtype == np.float32
        np.testing.assert_array_equal(mean.ravel(), MEAN.ravel())


def test_five_axes_and_none(tmp_path):
    for array in (np.ones((1, 2, 3, 1, 2)), np.float32(3)):
        write_mean(tmp_path / "mean.binaryproto", array)
        np.testing.assert_array_equal(read_mean(tmp_path / "mean.binaryproto").ravel(), np.ravel(array))


def test_bad_means(tmp_path):
    path = tmp_path / "mean.binaryproto"
    write_mean(path, MEAN)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Error, match="truncated"):
        read_mean(path)
    path.write_bytes(caffe_pb2.BlobProto(num=1, channels=2, height=3, width=5, data=[0] * 24).SerializeToString())
    with pytest.raises(Error, match="has 30 values, but its data in the file has 24"):
        read_mean(path)
    with pytest.raises(Error, match="no values"):
        write_mean(path, np.zeros((3, 0, 2)))
    with pytest.raises(FileNotFoundError):
        read_mean(tmp_path / "none.binaryproto")
