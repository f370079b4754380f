"""Weights files: Caffe's own of several ages, protobuf's, h5py's and ours; damaged ones; OpenCV as a reader."""

import itertools
import pathlib
import random
import re
import resource
import subprocess
import sys

import h5py
import numpy as np
import pytest
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from netspec import caffe_pb2, files, forks, wire
from netspec.errors import Error
from netspec.weights import ParamBlob, read_weights, write_caffemodel, write_hdf5
from tests.support import GOLDENS, ROOT, shared

SOLVERS = GOLDENS / "solvers"
MODELS = sorted(SOLVERS.glob("*.caffemodel"))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small_net():
    net = caffe_pb2.NetParameter(name="small")
    net.layer.add(name="data", type="Input", top=["data"])
    net.layer.add(name="a/b", type="Convolution", bottom=["data"], top=["a"], phase=caffe_pb2.TEST)
    net.layer[1].param.add(lr_mult=2)
    net.layer[1].convolution_param.num_output = 4
    net.layer.add(name="scale", type="Scale")
    arrays = {"a/b": [(numbers(4, 3, 2, 2), numbers(4, 3, 2, 2, seed=1)), (numbers(4), None)],
              "scale": [(np.float32(3.5), None)]}
    return net, arrays


def save(tmp_path, net, name="net.caffemodel"):
    (tmp_path / name).write_bytes(net.SerializeToString())
    return tmp_path / name


# --- caffemodel, Caffe's own ---

@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_caffemodel_is_written_byte_by_byte_as_caffe_does(path, tmp_path):
    with read_weights(path) as weights:
        write_caffemodel(tmp_path / "copy.caffemodel", weights.net, weights.layers)
    assert (tmp_path / "copy.caffemodel").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", [path for path in MODELS if path.stem != "init"], ids=lambda path: path.stem)
def test_caffes_two_formats_hold_the_same(path):
    with read_weights(path) as binary, read_weights(f"{path}.h5") as other:
        assert set(binary.layers) == set(other.layers) and binary.layers["relu1"] == []
        assert {layer.name for layer in other.net.layer} == set(binary.layers)
        for name, blobs in binary.layers.items():
            for one, two in zip(blobs, other.layers[name], strict=True):
                np.testing.assert_array_equal(one.data, two.data, strict=True)
                assert one.shape == two.shape == one.data.shape and one.diff is None


@pytest.mark.parametrize("name", ["real/lenet_mnist/lenet_iter_10000.caffemodel",
                                  "real/squeezenet_v1.0/squeezenet_v1.0.caffemodel"])
def test_real_weights_equal_protobufs(name):
    path = shared(name)
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    layers = [layer for layer in itertools.chain(net.layer, net.layers) if layer.blobs]
    with read_weights(path) as weights:
        assert weights.net.name == net.name and len(layers) == sum(map(bool, weights.layers.values()))
        for layer in layers:
            for ours, theirs in zip(weights.layers[layer.name], layer.blobs, strict=True):
                legacy = (theirs.num, theirs.channels, theirs.height, theirs.width)
                assert ours.shape == (legacy if theirs.HasField("num") else tuple(theirs.shape.dim))
                np.testing.assert_array_equal(ours.data.ravel(), np.array(theirs.data, np.float32))
                assert ours.has_diff == bool(theirs.diff)


def test_real_hdf5():
    with read_weights(shared("real/hdf5_snapshots/cifar10_quick_iter_5000.caffemodel.h5")) as weights:
        shapes = {name: [blob.shape for blob in blobs] for name, blobs in weights.layers.items() if blobs}
        assert shapes["conv3"] == [(64, 32, 5, 5), (64,)] and shapes["ip2"] == [(10, 64), (10,)]
        assert len(shapes) == 5 and weights.layers["cifar"] == []
        assert 0.01 < weights.layers["conv1"][0].data.std() < 1


# --- caffemodel, with protobuf as the oracle ---

def test_protobuf_reads_what_is_written(tmp_path):
    net, arrays = small_net()
    write_caffemodel(tmp_path / "w.caffemodel", net, arrays)
    read = caffe_pb2.NetParameter.FromString((tmp_path / "w.caffemodel").read_bytes())
    for name, blobs in arrays.items():
        layer = next(layer for layer in net.layer if layer.name == name)
        for data, diff in blobs:
            proto = layer.blobs.add(data=np.ravel(data), diff=() if diff is None else diff.ravel())
            if np.shape(data):
                proto.shape.dim.extend(np.shape(data))
    assert read == net
    assert net.SerializeToString() == (tmp_path / "w.caffemodel").read_bytes()


def test_diffs_can_be_left_out(tmp_path):
    net, arrays = small_net()
    write_caffemodel(tmp_path / "w.caffemodel", net, arrays, diffs=False)
    assert not any(blob.diff for layer in caffe_pb2.NetParameter.FromString(
        (tmp_path / "w.caffemodel").read_bytes()).layer for blob in layer.blobs)


def test_round_trip_of_both_formats(tmp_path):
    net, arrays = small_net()
    write_caffemodel(tmp_path / "w.caffemodel", net, arrays)
    write_hdf5(tmp_path / "w.h5", {"data": [], **arrays})
    for name in ("w.caffemodel", "w.h5"):
        with read_weights(tmp_path / name) as weights:
            assert set(weights.layers) == {"data", "a/b", "scale"}
            for layer, blobs in arrays.items():
                for ours, (data, diff) in zip(weights.layers[layer], blobs, strict=True):
                    np.testing.assert_array_equal(ours.data, data, strict=True)
                    assert (ours.diff is None) == (diff is None)
                    if diff is not None:
                        np.testing.assert_array_equal(ours.diff, diff, strict=True)


def test_weights_are_read_into_memory_that_is_there(tmp_path):
    net, arrays = small_net()
    write_caffemodel(tmp_path / "w.caffemodel", net, arrays)
    write_hdf5(tmp_path / "w.h5", arrays)
    for name in ("w.caffemodel", "w.h5"):
        with read_weights(tmp_path / name) as weights:
            blob = weights.layers["a/b"][0]
            target = np.zeros((4, 3, 2, 2), np.float32)
            blob.read_into(target)
            np.testing.assert_array_equal(target, arrays["a/b"][0][0])
            blob.read_diff_into(target)
            np.testing.assert_array_equal(target, arrays["a/b"][0][1])
            assert not isinstance(blob._data, np.ndarray), "read_into must not keep a second copy"
            scalar = np.zeros((), np.float32)
            weights.layers["scale"][0].read_into(scalar)
            assert scalar == 3.5


def test_the_net_beside_the_weights_has_no_blobs_but_all_else(tmp_path):
    net, arrays = small_net()
    write_caffemodel(tmp_path / "w.caffemodel", net, arrays)
    with read_weights(tmp_path / "w.caffemodel") as weights:
        assert weights.net == net


def test_v0_v1_and_todays_layers_in_one_file(tmp_path):
    net = caffe_pb2.NetParameter()
    new = net.layer.add(name="new").blobs.add(data=[1, 2])
    new.shape.dim.append(2)
    net.layer.add(name="both").blobs.add(data=[1])
    old = net.layers.add(name="old", type=caffe_pb2.V1LayerParameter.CONVOLUTION)
    old.blobs.add(num=1, channels=1, height=1, width=3, data=[1, 2, 3])
    net.layers.add(name="both").blobs.add(data=[2])
    oldest = net.layers.add()
    oldest.layer.name = "oldest"
    oldest.layer.blobs.add(num=2, channels=1, height=1, width=2, data=[1, 2, 3, 4], diff=[5, 6, 7, 8])
    oldest.layer.blobs.add(num=1, channels=1, height=1, width=1, double_data=[0.5])
    with read_weights(save(tmp_path, net)) as weights:
        assert {name: [blob.data.ravel().tolist() for blob in blobs] for name, blobs in weights.layers.items()} == {
            "new": [[1, 2]], "old": [[1, 2, 3]], "both": [[2]], "oldest": [[1, 2, 3, 4], [0.5]]}
        assert weights.layers["oldest"][0].diff.shape == (2, 1, 1, 2)
        assert weights.layers["both"][0].shape == ()


def test_legacy_dimensions_win_over_shape(tmp_path):
    net = caffe_pb2.NetParameter()
    blob = net.layer.add(name="a").blobs.add(width=2, data=[1, 2], num=1, channels=1, height=1)
    blob.shape.dim.extend([2])
    with read_weights(save(tmp_path, net)) as weights:
        assert weights.layers["a"][0].shape == (1, 1, 1, 2)


def test_doubles_win_over_floats(tmp_path):
    net = caffe_pb2.NetParameter()
    blob = net.layer.add(name="a").blobs.add(data=[9], double_data=[1, 2], double_diff=[3, 4])
    blob.shape.dim.extend([2])
    with read_weights(save(tmp_path, net)) as weights:
        (blob,) = weights.layers["a"]
        assert (blob.data.tolist(), blob.diff.tolist(), blob.data.dtype) == ([1, 2], [3, 4], np.float32)


def test_of_layers_of_one_name_the_last_with_blobs_counts(tmp_path):
    net = caffe_pb2.NetParameter()
    for values in ([1], [2], []):
        layer = net.layer.add(name="twice")
        if values:
            layer.blobs.add(data=values)
    with read_weights(save(tmp_path, net)) as weights:
        assert weights.layers["twice"][0].data == 2


def test_fields_of_forks_do_no_harm(tmp_path):
    # A submessage under a number that is a varint here, a field that no schema knows, and one that has another meaning.
    layer = caffe_pb2.LayerParameter(name="fork", type="Some").SerializeToString()
    layer += wire.header(10, 2) + b"\x08\x02" + wire.header(47, 3) + b"abc" + wire.header(45, 3) + b"abc"
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(wire.header(100, len(layer)) + layer)
    with read_weights(path) as weights:
        assert weights.layers == {"fork": []}
        assert weights.remarks == ["layer 'fork' (Some): field 45, bn_param here, holds something else and is not read"]
    assert forks.parse(path.read_bytes())[1] == weights.remarks
    path.write_bytes(wire.header(100, 5) + b"\x0a\x03abc\x12\x05a")
    with pytest.raises(DecodeError):
        forks.parse(path.read_bytes())


# --- writing: refusals ---

def test_unknown_layers_and_old_nets_are_not_written(tmp_path):
    net, arrays = small_net()
    with pytest.raises(Error, match="the net 'small' has no layer 'scales'; did you mean 'scale'"):
        write_caffemodel(tmp_path / "w.caffemodel", net, {"scales": arrays["scale"]})
    net.layers.add(name="old")
    with pytest.raises(Error, match="V1"):
        write_caffemodel(tmp_path / "w.caffemodel", net, arrays)
    assert not list(tmp_path.iterdir())


def test_a_caffemodel_beyond_2_gib_is_refused(tmp_path):
    class Numbers:
        count = 2**29

        def read_into(self, flat):
            raise AssertionError("read though it cannot be written")

    net, _ = small_net()
    with pytest.raises(Error, match="protobuf reads at most 2147483647; write HDF5"):
        write_caffemodel(tmp_path / "w.caffemodel", net, {"scale": [ParamBlob(Numbers(), shape=(2**29,))]})


@pytest.mark.parametrize("name", ["", "/a", "a//b", "a/../b", ".", "a/"])
def test_names_that_hdf5_cannot_hold_are_refused(tmp_path, name):
    with pytest.raises(Error, match="HDF5 cannot hold a layer named"):
        write_hdf5(tmp_path / "w.h5", {name: [numbers(2)]})
    assert not list(tmp_path.iterdir())


def test_layer_names_that_collide_in_hdf5(tmp_path):
    with pytest.raises(Error, match=r"cannot write '.*w.h5'"):
        write_hdf5(tmp_path / "w.h5", {"a": [numbers(2)], "a/0": [numbers(2)]})
    assert not list(tmp_path.iterdir())


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    net, arrays = small_net()
    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"old")
    real = files.os.fsync

    def full(handle):
        real(handle)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(Error, match=r"cannot write '.*w.caffemodel': .*No space left"):
        write_caffemodel(path, net, arrays)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


FULL = """
import resource, signal, sys
import numpy as np
from netspec import caffe_pb2
from netspec.errors import Error
from netspec.weights import write_caffemodel, write_hdf5, write_solverstate

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
array = np.ones((1000, 100), np.float32)
net = caffe_pb2.NetParameter()
net.layer.add(name="fc")
folder = sys.argv[1]
for write in (lambda: write_caffemodel(folder + "/w.caffemodel", net, {"fc": [array, array]}),
              lambda: write_hdf5(folder + "/w.h5", {"fc": [array, array]}),
              lambda: write_solverstate(folder + "/s.solverstate", 1, history=[array]),
              lambda: write_solverstate(folder + "/s.h5", 1, history=[array])):
    try:
        write()
    except Error as error:
        print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert len(lines) == 4 and all(line.startswith(f"cannot write '{tmp_path}") for line in lines), done.stdout
    assert not list(tmp_path.iterdir())


# --- HDF5 ---

def test_names_with_slashes_are_groups_in_groups(tmp_path):
    layers = {"fire2/conv1x1_1": [numbers(3, 2), numbers(3)], "fire2": [numbers(1)], "fire2/relu": [], "z": []}
    write_hdf5(tmp_path / "w.h5", layers)
    with h5py.File(tmp_path / "w.h5") as file:
        assert file["data/fire2/conv1x1_1/0"].shape == (3, 2) and "diff" not in file
    with read_weights(tmp_path / "w.h5") as weights:
        assert {name: len(blobs) for name, blobs in weights.layers.items()} == {
            "fire2": 1, "fire2/conv1x1_1": 2, "fire2/relu": 0, "z": 0}


def test_a_group_that_only_holds_groups_is_no_layer(tmp_path):
    write_hdf5(tmp_path / "w.h5", {"fire2/conv": [numbers(1)]})
    with read_weights(tmp_path / "w.h5") as weights:
        assert set(weights.layers) == {"fire2/conv"}


def test_shared_blobs_that_hdf5_leaves_out(tmp_path):
    write_hdf5(tmp_path / "w.h5", {"owner": [numbers(2), numbers(1)], "user": [None, numbers(1)]})
    with read_weights(tmp_path / "w.h5") as weights:
        first, second = weights.layers["user"]
        assert first is None and second.shape == (1,)


def test_many_blobs_keep_their_numbers(tmp_path):
    write_hdf5(tmp_path / "w.h5", {"lstm": [np.float32([i]) for i in range(12)]})
    with read_weights(tmp_path / "w.h5") as weights:
        assert [int(blob.data[0]) for blob in weights.layers["lstm"]] == list(range(12))


def test_doubles_chunks_and_compression_in_hdf5(tmp_path):
    array = np.arange(600, dtype=np.float64).reshape(20, 30) / 7
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("data/fc/0", data=array, chunks=(7, 7), compression="gzip")
        file.create_dataset("data/fc/1", data=np.zeros(100_000, np.float32), compression="gzip")
        file.create_dataset("data/empty/0", shape=(0, 3), dtype=np.float32)
    with read_weights(tmp_path / "w.h5") as weights:
        np.testing.assert_array_equal(weights.layers["fc"][0].data, array.astype(np.float32), strict=True)
        assert weights.layers["fc"][1].data.shape == (100_000,)
        assert weights.layers["empty"][0].data.shape == (0, 3)


def test_an_hdf5_file_that_claims_more_than_it_holds(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("data/fc/0", shape=(40_000, 40_000), dtype=np.float32, chunks=(100, 100))
    with pytest.raises(Error, match=r"layer 'fc', blob 0: .* wants 6400000000 bytes, the file holds 0"):
        read_weights(tmp_path / "w.h5")


def test_hdf5_may_not_lead_to_other_files(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(400))
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("data/fc/0", shape=(100,), dtype=np.float32,
                            external=[(str(tmp_path / "secret"), 0, 400)])
    with pytest.raises(Error, match="its numbers lie in other files"):
        read_weights(tmp_path / "w.h5")
    write_hdf5(tmp_path / "other.h5", {"fc": [numbers(2)]})
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("data/fc")["0"] = h5py.ExternalLink("other.h5", "/data/fc/0")
        file.create_group("data/ok")
    with read_weights(tmp_path / "w.h5") as weights:
        assert not any(weights.layers.values())


def test_hdf5_that_is_no_weights(tmp_path):
    with pytest.raises(Error, match="no group 'data'; its members are: current_step, history, iter, learned_net"):
        read_weights(SOLVERS / "adam_iter_3.solverstate.h5")
    with pytest.raises(Error, match="no group 'data'"):
        read_weights(SOLVERS / "data.h5")  # there "data" is an array
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["data/fc/0"] = "text"
    with pytest.raises(Error, match="layer 'fc', blob 0: expected numbers"):
        read_weights(tmp_path / "w.h5")


def test_the_content_and_not_the_name_tells_the_format(tmp_path):
    for source, name in (("adam_iter_3.caffemodel.h5", "w.caffemodel"), ("adam_iter_3.caffemodel", "w.h5")):
        (tmp_path / name).write_bytes((SOLVERS / source).read_bytes())
        with read_weights(tmp_path / name) as weights:
            assert weights.layers["conv1"][0].shape == (6, 3, 3, 3)


# --- damage ---

def test_a_truncated_file_is_refused_when_it_is_opened(tmp_path):
    whole = (SOLVERS / "adam_iter_3.caffemodel").read_bytes()
    path = tmp_path / "cut.caffemodel"
    refused = 0
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            with read_weights(path) as weights:  # cut right after a layer: nothing shows it
                assert len(weights.layers) < 9
        except Error as error:
            refused += 1
            wanted = (rf"truncated: the field at byte \d+ goes on to byte \d+ at least, the file has {length} bytes"
                      "|it has no layers|this is a text")
            assert re.search(wanted, str(error))
    assert refused > 200


def test_a_bad_blob_matters_only_when_it_is_wanted(tmp_path):
    net = caffe_pb2.NetParameter()
    net.layer.add(name="odd").blobs.add(data=[1, 2, 3]).shape.dim.append(4)
    net.layer.add(name="negative").blobs.add(num=-1, channels=-3, height=1, width=1, data=[1, 2, 3])
    net.layer.add(name="huge").blobs.add(data=[1]).shape.dim.extend([2**62, 2**62])
    net.layer.add(name="good").blobs.add(data=[1])
    with read_weights(save(tmp_path, net)) as weights:
        assert weights.layers["good"][0].data == 1
        for name, words in (("odd", r"layer 'odd', blob 0: shape 4 \(4\) has 4 values, but its data in the file has 3"),
                            ("negative", "negative size"), ("huge", "more than 2147483647 values")):
            with pytest.raises(Error, match=words):
                _ = weights.layers[name][0].data


def test_alien_files_are_refused(tmp_path):
    with pytest.raises(Error, match=r"this is a text \(a prototxt\?\), not a caffemodel"):
        read_weights(SOLVERS / "net.prototxt")
    path = tmp_path / "image.caffemodel"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(Error, match="this is a PNG image"):
        read_weights(path)
    path.write_bytes(b"")
    with pytest.raises(Error, match="empty"):
        read_weights(path)
    with pytest.raises(Error):
        read_weights(SOLVERS / "adam_iter_3.solverstate")
    with pytest.raises(FileNotFoundError, match="tried"):
        read_weights(tmp_path / "none.caffemodel")
    with pytest.raises(Error, match="Is a directory"):
        read_weights(tmp_path)


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_damaged_files_are_read_or_refused(tmp_path, suffix):
    whole = (SOLVERS / f"adam_iter_3.{suffix}").read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = set()
    for seed in range(400):
        generator = random.Random(seed)
        data = bytearray(whole)
        for _ in range(generator.choice([1, 3, 20])):
            data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path = tmp_path / f"{seed}.{suffix}"
        path.write_bytes(data)
        try:
            with read_weights(path) as weights:
                for blobs in weights.layers.values():
                    for blob in blobs:
                        assert blob is None or blob.data.nbytes < len(whole)
            outcomes.add("read")
        except Error as error:
            assert str(path) in str(error) and "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # kB


def test_opening_and_reading_takes_no_second_copy(tmp_path):
    # 40 MB in a process of its own, whose memory is measured.
    net = caffe_pb2.NetParameter()
    net.layer.add(name="fc")
    write_caffemodel(tmp_path / "w.caffemodel", net, {"fc": [numbers(10_000, 1000)]})
    script = """
import sys
from netspec.weights import read_weights
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
weights = read_weights(sys.argv[1])
opened = peak()
data = weights.layers["fc"][0].data
print(opened - before, peak() - before)
"""
    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc to measure a process' memory")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "w.caffemodel")], cwd=ROOT, check=True,
                          capture_output=True, text=True, timeout=60)
    opened, read = map(int, done.stdout.split())  # kB
    assert opened < 4_000 and read < 40_000 * 1.1 + 4_000


# --- another reader ---

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 8 } } }
layer { name: "block/conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
"""


def test_opencv_reads_what_is_written(tmp_path):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "dnn") or not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip(f"OpenCV {cv2.__version__} reads no Caffe files; it needs opencv-python-headless<5")
    kernel, bias, image = numbers(4, 3, 3, 3), numbers(4, seed=1), numbers(1, 3, 9, 8, seed=2)
    (tmp_path / "net.prototxt").write_text(NET)
    net = text_format.Parse(NET, caffe_pb2.NetParameter())
    write_caffemodel(tmp_path / "net.caffemodel", net, {"block/conv": [(kernel, np.ones_like(kernel)), bias]})
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    theirs.setInput(image)
    result = theirs.forward()

    padded = np.pad(image[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    conv = np.empty((4, 9, 8))
    for y, x in itertools.product(range(9), range(8)):
        conv[:, y, x] = (kernel * padded[:, y:y + 3, x:x + 3]).sum(axis=(1, 2, 3)) + bias
    relu = np.maximum(conv, 0)
    # Caffe rounds the height up: the last row of windows has one line.
    wanted = np.stack([[relu[:, 2 * y:2 * y + 2, 2 * x:2 * x + 2].max(axis=(1, 2)) for x in range(4)]
                       for y in range(5)]).transpose(2, 0, 1)
    np.testing.assert_allclose(result[0], wanted, atol=1e-5)
