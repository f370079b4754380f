"""The walk over protobuf's wire format, held against protobuf itself."""

import random
import struct
import tracemalloc

import numpy as np
import pytest

from netspec import blobs, caffe_pb2, wire
from netspec.errors import Error


def source_of(tmp_path, data, what="a test file"):
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    return wire.Source(path, what)


def values(floats):
    flat = np.empty(floats.count, np.float32)
    floats.read_into(flat)
    return flat


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**63 + 5])
def test_varint_is_read_as_written(tmp_path, number):
    data = wire.varint(number)
    assert source_of(tmp_path, data).varint(0, len(data)) == (number, len(data))


def test_varint_as_protobuf_writes_it():
    assert caffe_pb2.SolverState(iter=300).SerializeToString() == b"\x08" + wire.varint(300)


def test_scan_leaves_all_but_the_floats(tmp_path):
    message = caffe_pb2.BlobProto(num=2, channels=3, height=1, width=-1, data=range(6), diff=[0.5] * 6)
    message.shape.dim.extend([2, 3])
    skeleton, found = wire.scan(source_of(tmp_path, message.SerializeToString()), blobs.PLAN)
    np.testing.assert_array_equal(values(found[5]), np.arange(6))
    np.testing.assert_array_equal(values(found[6]), [0.5] * 6)
    message.ClearField("data")
    message.ClearField("diff")
    assert caffe_pb2.BlobProto.FromString(skeleton) == message


def test_a_field_in_several_parts_is_one(tmp_path):
    parts = [caffe_pb2.BlobProto(data=range(a, b)).SerializeToString() for a, b in [(0, 3), (3, 3), (3, 10)]]
    unpacked = b"".join(b"\x2d" + struct.pack("<f", value) for value in (10, 11))
    _, found = wire.scan(source_of(tmp_path, b"".join(parts) + unpacked), blobs.PLAN)
    np.testing.assert_array_equal(values(found[5]), np.arange(12))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000, 700_001])
def test_unpacked_floats_end_where_the_next_field_begins(tmp_path, count):
    wanted = np.arange(count, dtype=np.float32)
    rows = np.empty((count, 5), np.uint8)
    rows[:, 0] = 0x2D  # field 5, four bytes
    rows[:, 1:] = wanted.view(np.uint8).reshape(count, 4)
    data = rows.tobytes() + b"\x08\x07" + caffe_pb2.BlobProto(diff=[1, 2]).SerializeToString()
    skeleton, found = wire.scan(source_of(tmp_path, data), blobs.PLAN)
    np.testing.assert_array_equal(values(found[5]), wanted)
    np.testing.assert_array_equal(values(found[6]), [1, 2])
    assert caffe_pb2.BlobProto.FromString(skeleton).num == 7


def test_doubles_are_cast_as_in_c(tmp_path):
    message = caffe_pb2.BlobProto(double_data=[0.1, 1e300, -1e300, 1e-300, float("nan")])
    _, found = wire.scan(source_of(tmp_path, message.SerializeToString()), blobs.PLAN)
    np.testing.assert_array_equal(values(found[8]), np.float32([0.1, np.inf, -np.inf, 0, np.nan]))


def test_many_doubles_are_read_piece_by_piece(tmp_path):
    wanted = np.arange(1_000_000, dtype=np.float64)
    data = wire.header(8, wanted.nbytes) + wanted.tobytes()
    _, found = wire.scan(source_of(tmp_path, data), blobs.PLAN)
    flat = np.empty(wanted.size, np.float32)
    tracemalloc.start()
    found[8].read_into(flat)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(flat, wanted)
    assert peak < 4 * wire.CHUNK


def test_unknown_fields_and_groups_are_kept(tmp_path):
    inner = b"\x0a\x03abc" + b"\x13\x08\x01\x14"  # bytes, then a group in the group
    data = b"\xa3\x06" + inner + b"\xa4\x06" + b"\x08\x05" + b"\xf9\x7f" + b"8 bytes." + b"\xfd\x7f" + b"four"
    skeleton, _ = wire.scan(source_of(tmp_path, data), blobs.PLAN)
    assert skeleton == data
    assert caffe_pb2.BlobProto.FromString(skeleton).num == 5


@pytest.mark.parametrize("data, words", [
    (b"\x08", "truncated: the field at byte 0|truncated: the field at byte 1"),
    (b"\x08\x80", "truncated: the field at byte 1 goes on to byte 3 at least, the file has 2 bytes"),
    (b"\x08\x01\x2a\x28" + bytes(20), "truncated: the field at byte 2 goes on to byte 44 at least, the file has 24"),
    (b"\x08" + b"\xff" * 12, "corrupt at byte 1: a number of more than 10 bytes"),
    (b"\x00\x01", "corrupt at byte 0: field number 0"),
    (b"\x0e\x01", "wire type 6"),
    (b"\x0c", "corrupt at byte 0: a group ends"),
    (b"\x13\x1c", "a group ends that was not open"),
    (b"\x2a\x03abc", "corrupt at byte 2: 3 bytes of numbers of 4 bytes each"),
    (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7fabc", "truncated"),
])
def test_damage_is_named_with_its_place(tmp_path, data, words):
    with pytest.raises(Error, match=words):
        wire.scan(source_of(tmp_path, data), blobs.PLAN)


def test_a_field_longer_than_its_message_is_corrupt(tmp_path):
    data = wire.header(1, 4) + b"\x2a\x08ab" + bytes(20)
    with pytest.raises(Error, match=r"corrupt: the field at byte 2 goes on to byte 12, its message ends at byte 6"):
        wire.scan(source_of(tmp_path, data), {1: blobs.PLAN})


def test_a_file_of_tiny_fields_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "MOST_FIELDS", 1000)
    with pytest.raises(Error, match="more than 1000 fields"):
        wire.scan(source_of(tmp_path, b"\x08\x01" * 2000), blobs.PLAN)


def test_a_large_unknown_field_is_not_read(tmp_path):
    path = tmp_path / "sparse.bin"
    with open(path, "wb") as file:
        file.write(wire.header(77, wire.MOST_SKELETON + 1))
        file.truncate(wire.MOST_SKELETON + 100)
    with pytest.raises(Error, match="no numbers of a blob"):
        wire.scan(wire.Source(path, "a caffemodel"), blobs.PLAN)


def test_a_file_that_shrank_since_is_an_error(tmp_path):
    data = caffe_pb2.BlobProto(data=range(100)).SerializeToString()
    source = source_of(tmp_path, data)
    _, found = wire.scan(source, blobs.PLAN)
    with open(source.path, "r+b") as file:
        file.truncate(50)
    with pytest.raises(Error, match="the file ended at byte 50"):
        values(found[5])


def test_any_bytes_are_read_or_refused(tmp_path):
    # Both ways: what protobuf refuses we may not read as floats, what it reads we do.
    generator = random.Random(5)
    message = caffe_pb2.BlobProto(num=3, data=range(9), double_diff=range(4))
    message.shape.dim.extend([3, 3])
    whole = message.SerializeToString()
    outcomes = set()
    for _ in range(500):
        data = bytearray(whole)
        data[generator.randrange(12)] = generator.randrange(256)
        try:
            theirs = caffe_pb2.BlobProto.FromString(bytes(data))
        except Exception:
            theirs = None
        try:
            skeleton, found = wire.scan(source_of(tmp_path, bytes(data)), blobs.PLAN)
        except Error:
            outcomes.add("refused")
            assert theirs is None
            continue
        if theirs is not None:
            outcomes.add("read")
            ours = values(found[5]) if 5 in found else []
            np.testing.assert_array_equal(ours, np.array(theirs.data, np.float32))
            assert caffe_pb2.BlobProto.FromString(skeleton).shape == theirs.shape
    assert outcomes == {"refused", "read"}


@pytest.mark.parametrize("head, name", [
    (b"\x89PNG\r\n\x1a\n", "a PNG image"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"PK\x03\x04", "zip"),
    (b'name: "LeNet"\nlayer {\n', "a text"), (b"<!DOCTYPE html>\n<html>", "a web page"), (b"", "the file is empty"),
])
def test_alien_files_are_called_by_their_name(tmp_path, head, name):
    with pytest.raises(Error, match=name) as caught:
        source_of(tmp_path, head, "a caffemodel").refuse_alien()
    assert "a caffemodel" in str(caught.value) and "file.bin" in str(caught.value)


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(Error, match="Is a directory"):
        wire.Source(tmp_path, "a caffemodel")
    with pytest.raises(FileNotFoundError, match="not found; tried"):
        wire.Source(tmp_path / "none", "a caffemodel")
