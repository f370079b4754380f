"""MATLAB 5 files: what SciPy writes and what it reads, and no damage gets past an `Error`."""

import contextlib

import h5py
import numpy as np
import pytest
import scipy.io

from data.mat import read_mat, read_matrix
from netspec.errors import Error, PathError
from tests.data import folders


@pytest.mark.parametrize("compress", [False, True])
def test_everything_scipy_writes_is_read_the_same(tmp_path, compress):
    path = str(tmp_path / "a.mat")
    rng = np.random.default_rng(0)
    content = {f"x_{kind}": (rng.random((3, 5)) * 100).astype(kind)
               for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")}
    content |= {"cube": rng.random((2, 3, 4)), "one": 7.5, "empty": np.zeros((0, 3)), "text": "disc and tent",
                "cell": np.array(["a", np.arange(3)], object), "plain": {"a": 1, "deep": {"b": np.eye(2)}}}
    scipy.io.savemat(path, content, do_compression=compress)
    got, theirs = read_mat(path), scipy.io.loadmat(path)
    for name, value in theirs.items():
        if name.startswith("x_") or name in ("cube", "one", "empty"):
            assert got[name].dtype == value.dtype and np.array_equal(got[name], value), name
    assert got["text"] == "disc and tent"
    assert got["cell"][0] == "a" and got["cell"][1].tolist() == [[0, 1, 2]]
    assert got["plain"]["a"] == 1 and np.array_equal(got["plain"]["deep"]["b"], np.eye(2))
    assert list(read_mat(path, names=["one"])) == ["one"]


def test_arrays_of_structs_are_lists(tmp_path):
    path = str(tmp_path / "a.mat")
    scipy.io.savemat(path, {"s": np.array([[(1, "a"), (2, "b")]], dtype=[("n", object), ("t", object)])})
    assert [(int(one["n"][0, 0]), one["t"]) for one in read_mat(path)["s"]] == [(1, "a"), (2, "b")]


def test_big_endian_files_are_read(tmp_path):
    # By hand: an uncompressed 1x2 uint16 array "v" written by a big-endian machine.
    def element(kind, body):
        return kind.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body + bytes(-len(body) % 8)

    def words(*values):
        return b"".join(v.to_bytes(4, "big") for v in values)
    array = element(14, element(6, words(11, 0)) + element(5, words(1, 2)) + element(1, b"v")
                    + element(4, b"\x01\x02\x00\x07"))
    path = tmp_path / "big.mat"
    path.write_bytes(b"x" * 124 + b"\x01\x00MI" + array)
    got = read_mat(str(path))["v"]
    assert got.dtype == np.uint16 and got.tolist() == [[258, 7]]


def test_what_is_not_read_is_left_out_or_said(tmp_path):
    path = str(tmp_path / "a.mat")
    scipy.io.savemat(path, {"z": np.array([[1j]]), "k": 3})
    assert list(read_mat(path)) == ["k"]
    with pytest.raises(Error, match="'z' is of a class"):
        read_mat(path, names=["z"])


@pytest.mark.parametrize("compress", [False, True])
def test_flipped_bits_and_cuts_are_errors_or_nothing(tmp_path, compress):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"GTcls": {"Segmentation": folders.pair(0)[1], "n": 3.0}}, do_compression=compress)
    good = path.read_bytes()
    # All bits of the first tags, where sizes and types stand, and a seeded tenth of the others.
    bits = np.arange(124 * 8, 8 * len(good))
    chosen = np.random.default_rng(1).choice(bits[320:], bits[320:].size // 10, replace=False)
    for bit in [*bits[:320].tolist(), *chosen.tolist()]:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(bad)
        try:
            read_mat(str(path))
        except Error as error:
            assert "a.mat" in str(error) and "\n" not in str(error)
    for length in range(len(good)):
        path.write_bytes(good[:length])
        if length == 128:
            assert read_mat(str(path)) == {}
        else:
            with pytest.raises(Error, match="a.mat"):
                read_mat(str(path))


def test_a_bomb_a_missing_file_and_hdf5_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"x": np.zeros((100, 1000))}, do_compression=True)
    monkeypatch.setattr("data.mat.MAX_BYTES", 1000)
    with pytest.raises(Error, match="more than 1000 bytes"):
        read_mat(str(path))
    with pytest.raises(PathError, match="b.mat"):
        read_mat(str(tmp_path / "b.mat"))
    head = bytearray(path.read_bytes())
    head[124:126] = b"\0\2"
    path.write_bytes(head)
    with pytest.raises(Error, match="MATLAB 7.3.*damaged"):
        read_mat(str(path))


def write_73(path, content):
    """Write a MATLAB 7.3 file: HDF5 behind 512 bytes of MATLAB's, axes reversed, a class beside each array."""
    def put(group, name, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                put(group.require_group(name), key, inner)
        elif isinstance(value, str):
            node = group.create_dataset(name, data=np.array([[ord(one)] for one in value], np.uint16))
            node.attrs["MATLAB_class"] = np.bytes_("char")
        elif value is None:
            group.create_dataset(name, data=np.zeros(2, np.uint64)).attrs["MATLAB_empty"] = 1
        else:
            group.create_dataset(name, data=value.T).attrs["MATLAB_class"] = np.bytes_("double")
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            put(file, name, value)
        file.create_dataset("cell", data=np.array([[file.ref]], h5py.ref_dtype))
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def test_version_73_files_are_read(tmp_path):
    path = str(tmp_path / "a.mat")
    label = np.arange(12, dtype=np.uint16).reshape(3, 4)
    write_73(path, {"segmentation": label, "s": {"a": label[:1], "t": "tent"}, "none": None})
    got = read_mat(path)
    assert sorted(got) == ["none", "s", "segmentation"] and np.array_equal(read_matrix(path, "segmentation"), label)
    assert got["s"]["t"] == "tent" and got["s"]["a"].tolist() == [[0, 1, 2, 3]] and got["none"].size == 0
    with pytest.raises(Error, match="'cell' is of a class"):
        read_mat(path, names=["cell"])
    with pytest.raises(Error, match="holds no matrix 'label'"):
        read_matrix(path, "label")
    good = (tmp_path / "a.mat").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        flipped = bytearray(good)
        flipped[rng.integers(512, len(good))] ^= 1 << rng.integers(8)
        (tmp_path / "b.mat").write_bytes(flipped)
        with contextlib.suppress(Error):
            read_mat(str(tmp_path / "b.mat"))
    for cut in (200, 600, len(good) // 2, len(good) - 1):
        (tmp_path / "b.mat").write_bytes(good[:cut])
        with pytest.raises(Error, match="b.mat"):
            read_mat(str(tmp_path / "b.mat"))
