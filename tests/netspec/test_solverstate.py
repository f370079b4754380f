"""Solver states of both formats: Caffe's own, protobuf's and ours."""

import random

import h5py
import numpy as np
import pytest

from netspec import caffe_pb2
from netspec.errors import Error
from netspec.weights import read_solverstate, write_solverstate
from tests.support import GOLDENS, shared

HISTORY = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32([1.5]), np.array(2.5, np.float32)]
STATES = sorted((GOLDENS / "solvers").glob("*.solverstate"))


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_caffes_two_formats_hold_the_same(path):
    with read_solverstate(path) as binary, read_solverstate(f"{path}.h5") as other:
        assert (binary.iter, binary.current_step) == (other.iter, other.current_step)
        assert binary.iter == 3
        assert (binary.learned_net, other.learned_net) == (f"{path.stem}.caffemodel", f"{path.stem}.caffemodel.h5")
        assert binary.extra is None and other.extra is None
        assert len(binary.history) == len(other.history) >= 5
        for one, two in zip(binary.history, other.history):
            np.testing.assert_array_equal(one, two, strict=True)


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_binary_is_written_byte_by_byte_as_caffe_does(path, tmp_path):
    with read_solverstate(path) as state:
        write_solverstate(tmp_path / "s.solverstate", state.iter, state.learned_net, state.current_step, state.blobs)
    assert (tmp_path / "s.solverstate").read_bytes() == path.read_bytes()


def test_hdf5_is_built_as_caffe_does(tmp_path):
    golden = GOLDENS / "solvers" / "adam_iter_3.solverstate.h5"
    with read_solverstate(golden) as state:
        write_solverstate(tmp_path / "s.h5", state.iter, state.learned_net, state.current_step, state.blobs)
    with h5py.File(golden) as theirs, h5py.File(tmp_path / "s.h5") as ours:
        assert describe(theirs) == describe(ours)


def describe(file):
    """Everything that a C program sees of each dataset."""
    rows = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            kind, plan = item.id.get_type(), item.id.get_create_plist()
            rows[name] = (item.shape, item.dtype, kind.get_size(), kind.get_class(), plan.get_layout(),
                          kind.get_strpad() if kind.get_class() == h5py.h5t.STRING else kind.get_order(),
                          item.id.get_space().get_simple_extent_type(), np.asarray(item[()]).tolist())
        else:
            rows[name] = "group"

    file.visititems(visit)
    return rows


def test_real_snapshot():
    with read_solverstate(shared("real/hdf5_snapshots/cifar10_quick_iter_5000.solverstate.h5")) as state:
        assert (state.iter, state.current_step) == (5000, 0)
        assert state.learned_net == "examples/cifar10/cifar10_quick_iter_5000.caffemodel.h5"
        assert [array.shape for array in state.history][:2] == [(32, 3, 5, 5), (32,)]
        assert len(state.history) == 10 and all(np.isfinite(array).all() for array in state.history)


@pytest.mark.parametrize("name", ["s.solverstate", "s.solverstate.h5"])
@pytest.mark.parametrize("learned_net", ["", "net", "pfad/größe_iter_9.caffemodel"])
@pytest.mark.parametrize("extra", [None, b"", b'{"order": [3, 1]}\0\xff'])
def test_round_trip(tmp_path, name, learned_net, extra):
    history = HISTORY + [np.full((1,), i, np.float32) for i in range(12)]  # ten and more: "10" sorts before "2"
    write_solverstate(tmp_path / name, 2**31 - 1, learned_net, 7, history, extra)
    with read_solverstate(tmp_path / name) as state:
        assert (state.iter, state.learned_net, state.current_step) == (2**31 - 1, learned_net, 7)
        assert state.extra == extra and type(state.extra) is type(extra)
        for one, two in zip(state.history, history, strict=True):
            np.testing.assert_array_equal(one, two, strict=True)


def test_protobuf_reads_ours_and_steps_over_the_extra(tmp_path):
    write_solverstate(tmp_path / "s.solverstate", 5, "w.caffemodel", 1, HISTORY, b"more")
    message = caffe_pb2.SolverState.FromString((tmp_path / "s.solverstate").read_bytes())
    assert (message.iter, message.learned_net, message.current_step) == (5, "w.caffemodel", 1)
    assert [list(blob.shape.dim) for blob in message.history] == [[2, 3], [1], []]
    assert list(message.history[0].data) == list(range(6))


def test_state_of_2014_with_4d_bias(tmp_path):
    message = caffe_pb2.SolverState(iter=9)
    message.history.add(num=1, channels=1, height=1, width=3, data=[1, 2, 3])
    (tmp_path / "s.solverstate").write_bytes(message.SerializeToString())
    with read_solverstate(tmp_path / "s.solverstate") as state:
        assert state.history[0].shape == (1, 1, 1, 3) and state.learned_net == ""
        bias = np.zeros(3, np.float32)
        state.blobs[0].read_into(bias)
        assert bias.tolist() == [1, 2, 3]


def test_other_files_are_refused(tmp_path):
    solvers = GOLDENS / "solvers"
    with pytest.raises(Error, match="is it a caffemodel"):
        read_solverstate(solvers / "adam_iter_3.caffemodel")
    with pytest.raises(Error, match="no 'iter' or no 'history'; its members are: data"):
        read_solverstate(solvers / "adam_iter_3.caffemodel.h5")
    with pytest.raises(Error, match="this is a text"):
        read_solverstate(solvers / "adam.prototxt")


def test_holes_in_the_history_are_refused(tmp_path):
    write_solverstate(tmp_path / "s.h5", 5, history=HISTORY)
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file["history/1"]
    with pytest.raises(Error, match=r"the history has numbers \[0, 2\]"):
        read_solverstate(tmp_path / "s.h5")


@pytest.mark.parametrize("suffix", ["solverstate", "solverstate.h5"])
def test_damaged_files_are_read_or_refused(tmp_path, suffix):
    whole = (GOLDENS / "solvers" / f"adam_iter_3.{suffix}").read_bytes()
    outcomes = set()
    for seed in range(300):
        generator = random.Random(seed)
        data = bytearray(whole)
        for _ in range(3):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path = tmp_path / f"{seed}.{suffix}"
        path.write_bytes(data[:generator.choice([len(data), generator.randrange(len(data))])])
        try:
            with read_solverstate(path) as state:
                assert isinstance(state.history, list)
            outcomes.add("read")
        except Error as error:
            assert str(path) in str(error) and "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
