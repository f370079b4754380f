"""The compare door: dumps of every form, which blob departs first, OpenCV as the other engine."""

import builtins

import h5py
import numpy as np
import pytest
from PIL import Image

from data import transform
from layers.core.net import Net
from netspec import caffe_pb2
from solvers import compare, dumps, opencv
from tests.solvers.doors import refused, run, write

NET = """
name: "tiny"
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 11 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "score" type: "Convolution" bottom: "pool" top: "score"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "up" type: "Deconvolution" bottom: "score" top: "up"
  convolution_param { num_output: 4 kernel_size: 4 stride: 2 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "skip" type: "Convolution" bottom: "pool" top: "skip/in"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "skip/in" top: "crop" crop_param { axis: 2 offset: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "crop" bottom: "skip/in" top: "sum" }
layer { name: "prob" type: "Softmax" bottom: "sum" top: "prob" }
"""
BLOBS = ["data", "conv", "pool", "score", "up", "skip/in", "crop", "sum", "prob"]


@pytest.fixture
def tiny(tmp_path):
    """(prototxt, caffemodel)."""
    path = write(tmp_path / "tiny.prototxt", NET)
    Net(path, caffe_pb2.TEST, seed=11).save(tmp_path / "tiny.caffemodel")
    return path, tmp_path / "tiny.caffemodel"


@pytest.fixture
def blobs(tiny):
    """What the net computes of some input, by name."""
    net = Net(tiny[0], caffe_pb2.TEST, weights=tiny[1])
    net.blobs["data"].data[...] = np.random.default_rng(4).standard_normal((1, 3, 9, 11)) * 20
    net.forward()
    return {name: net.blobs[name].data.copy() for name in net.blobs}


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_what_is_dumped_agrees(tiny, tmp_path, capsys, suffix):
    dump = tmp_path / f"ours.{suffix}"
    code, out, err = run(capsys, compare.main, *tiny, "--dump", dump)
    assert code == 0, err
    assert "random numbers of seed 1337" in out
    code, out, err = run(capsys, compare.main, *tiny, "--against", dump)
    assert code == 0, err
    rows = [line.split() for line in out.splitlines() if line.split()[:1] and line.split()[0] in BLOBS]
    assert [row[0] for row in rows if len(row) == 5] == [name for name in BLOBS if name in [row[0] for row in rows]]
    assert {"conv", "pool", "skip/in", "prob"} <= {row[0] for row in rows}
    assert all(float(row[3]) == 0 for row in rows)
    assert "0 depart" in out


def test_dumps_are_plain_arrays_by_name(tiny, tmp_path, capsys, blobs):
    np.savez(tmp_path / "in.npz", data=blobs["data"])
    for suffix in ("npz", "h5"):
        code, _, err = run(capsys, compare.main, *tiny, "--input", tmp_path / "in.npz", "--dump", tmp_path / f"x.{suffix}")
        assert code == 0, err
    with np.load(tmp_path / "x.npz") as npz, h5py.File(tmp_path / "x.h5") as h5:
        for name in BLOBS:
            assert np.array_equal(npz[name], blobs[name]), name
            assert np.array_equal(h5[name][()], blobs[name]), name


@pytest.mark.parametrize("prefix", ["", "blob/", "full/", "full/blob/"])
def test_every_form_of_a_name_is_read(tiny, tmp_path, capsys, blobs, prefix):
    np.savez(tmp_path / "ref.npz", **{prefix + name: array for name, array in blobs.items()})
    code, out, err = run(capsys, compare.main, *tiny, "--against", tmp_path / "ref.npz")
    assert code == 0, err
    assert f"{len(blobs)} blobs compared, 0 depart" in out


def test_the_first_blob_that_departs_is_named(tiny, tmp_path, capsys, blobs):
    wrong = dict(blobs)
    for name in ("score", "up", "prob"):
        wrong[name] = blobs[name] + np.float32(0.25)
    np.savez(tmp_path / "ref.npz", **wrong)
    code, out, _ = run(capsys, compare.main, *tiny, "--against", tmp_path / "ref.npz")
    assert code == 1
    assert "3 depart" in out
    assert "first to depart: blob 'score', written by 'score' (Convolution)" in out
    row = next(line.split() for line in out.splitlines() if line.startswith("score "))
    assert float(row[3]) == pytest.approx(0.25, rel=1e-2)
    assert float(row[4]) == pytest.approx(0.25 / np.abs(wrong["score"]).max(), rel=1e-2)
    assert run(capsys, compare.main, *tiny, "--against", tmp_path / "ref.npz", "--tolerance", 10)[0] == 0
    code, out, _ = run(capsys, compare.main, *tiny, "--against", tmp_path / "ref.npz", "--end", "pool")
    assert code == 0 and "score" not in out.split("blob", 1)[1].split("only in")[0]


def test_a_blob_changed_in_place_names_all_its_writers(tiny, tmp_path, capsys, blobs):
    np.savez(tmp_path / "ref.npz", **{**blobs, "conv": blobs["conv"] - 1})
    out = run(capsys, compare.main, *tiny, "--against", tmp_path / "ref.npz")[1]
    assert "blob 'conv', written by 'conv' (Convolution), 'relu' (ReLU)" in out


def sampled(blobs, change=None):
    rng = np.random.default_rng(0)
    arrays = {"full/blob/data": blobs["data"]}
    for name, array in blobs.items():
        if name != "data":
            index = rng.choice(array.size, array.size // 2, replace=False).astype(np.int32)
            arrays[f"index/blob/{name}"] = index
            arrays[f"sample/blob/{name}"] = array.reshape(-1)[index]
            arrays[f"moments/blob/{name}"] = np.array([array.mean(dtype="f8"), array.std(dtype="f8")])
    arrays["moments/blob_diff/conv"] = np.zeros(2)
    arrays["moments/param_diff/conv/0"] = np.zeros(2)
    arrays.update(change or {})
    return arrays


def test_sampled_blobs_and_their_moments(tiny, tmp_path, capsys, blobs):
    np.savez(tmp_path / "ref.npz", **sampled(blobs))
    code, out, err = run(capsys, compare.main, *tiny, "--against", tmp_path / "ref.npz")
    assert code == 0, err
    assert "values, mean and spread" in out and "blob_diff" not in out
    np.savez(tmp_path / "off.npz", **sampled(blobs, {"moments/blob/pool": np.array([blobs["pool"].mean() + 1, 1.0])}))
    code, out, _ = run(capsys, compare.main, *tiny, "--against", tmp_path / "off.npz")
    assert code == 1 and "first to depart: blob 'pool'" in out
    np.savez(tmp_path / "far.npz", **sampled(blobs, {"index/blob/pool": np.array([10**6]),
                                                     "sample/blob/pool": np.zeros(1)}))
    code, out, _ = run(capsys, compare.main, *tiny, "--against", tmp_path / "far.npz")
    assert code == 1 and "smaller than the dump's" in out


def test_automatic_splits_are_blobs_too(tiny, tmp_path, capsys, blobs):
    assert "pool_pool_0_split_1" in blobs
    np.savez(tmp_path / "ref.npz", data=blobs["data"], pool_pool_0_split_1=blobs["pool"] + 1)
    code, out, _ = run(capsys, compare.main, *tiny, "--against", tmp_path / "ref.npz")
    assert code == 1 and "written by 'pool_pool_0_split' (Split)" in out


@pytest.mark.parametrize("change, absolute", [
    (lambda x: np.where(x == x.max(), np.nan, x), np.inf), (lambda x: np.where(x == x.max(), np.inf, x), np.inf),
    (lambda x: x[:, :, 1:], np.inf), (lambda x: x.reshape(x.shape[0], -1), 0.0)])
def test_nan_and_other_shapes_depart(tiny, blobs, change, absolute):
    net = Net(tiny[0], caffe_pb2.TEST, weights=tiny[1])
    compare.feed(net, dumps.Dump.of(blobs))
    net.forward()
    changed = {"score": change(blobs["score"])}
    one, = compare.compare(net, changed, compare.made_by(net))
    assert one.absolute == absolute and one.departs


def test_a_reference_of_zeros_is_compared_absolutely(tiny, blobs):
    net = Net(tiny[0], caffe_pb2.TEST, weights=tiny[1])
    compare.feed(net, dumps.Dump.of({"data": np.zeros((1, 3, 9, 11))}))
    net.forward()
    net.blobs["data"].data[...] = 1e-6
    one, = compare.compare(net, {"data": np.zeros((1, 3, 9, 11))}, compare.made_by(net))
    assert not one.departs and one.relative == pytest.approx(1e-6)


def test_the_input_takes_the_dumps_shape(tiny, tmp_path, capsys):
    net = Net(tiny[0], caffe_pb2.TEST, weights=tiny[1])
    net.blobs["data"].reshape(2, 3, 13, 15)
    net.blobs["data"].data[...] = np.random.default_rng(1).standard_normal((2, 3, 13, 15))
    net.forward()
    np.savez(tmp_path / "ref.npz", **{name: blob.data for name, blob in net.blobs.items()})
    code, out, err = run(capsys, compare.main, *tiny, "--against", tmp_path / "ref.npz")
    assert code == 0, err
    assert "data 2x3x13x15" in out


def test_a_picture_is_fed_less_its_mean(tiny, tmp_path, capsys):
    pixels = np.random.default_rng(1).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    code, out, err = run(capsys, compare.main, *tiny, "--input", tmp_path / "x.png", "--mean", "1,2,3", "--dump",
                         tmp_path / "x.npz")
    assert code == 0, err
    with np.load(tmp_path / "x.npz") as dump:
        assert np.array_equal(dump["data"][0], transform.preprocess(pixels, (1, 2, 3)))


def test_a_training_net_runs_on_a_dump_without_its_data_set(tiny, tmp_path, capsys, blobs):
    text = "".join([
        """layer { name: "data" type: "Python" top: "data" top: "label"
        python_param { module: "gone" layer: "Gone" param_str: "{'mean': [1, 2, 3]}" } }""",
        NET.split("\n", 3)[3],
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" }'])
    path = write(tmp_path / "train.prototxt", text)
    label = np.ones((1, 1, *blobs["sum"].shape[2:]), np.float32)
    loss = -np.log(blobs["prob"][:, 1]).mean()
    np.savez(tmp_path / "ref.npz", **{name: array for name, array in blobs.items() if "split" not in name}, label=label,
             loss=loss)
    code, out, err = run(capsys, compare.main, path, tiny[1], "--against", tmp_path / "ref.npz")
    assert code == 0, err
    assert "loss" in out.split("input", 1)[1]


# --- OpenCV ---


def test_opencv_agrees_blob_by_blob(tiny, capsys):
    cv2 = pytest.importorskip("cv2", reason="OpenCV 4 is an extra of the tests")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("OpenCV 5 has no Caffe importer")
    code, out, err = run(capsys, compare.main, *tiny, "--against", "opencv")
    assert code == 0, out + err
    compared = {line.split()[0] for line in out.splitlines() if line.split()[:1] and line.split()[0] in BLOBS}
    assert compared >= {"conv", "pool", "score", "up", "skip/in", "crop", "sum", "prob"}


def test_a_wrong_weight_shows_against_opencv(tiny, tmp_path, monkeypatch, capsys):
    pytest.importorskip("cv2", reason="OpenCV 4 is an extra of the tests")
    made = opencv.blobs_of

    def other(message, net, layers):
        net.params["score"][0].data[0] += 1
        return made(message, net, layers)

    monkeypatch.setattr(opencv, "blobs_of", other)
    code, out, _ = run(capsys, compare.main, *tiny, "--against", "opencv")
    assert code == 1 and "first to depart: blob 'score'" in out


def test_without_opencv_the_cure_is_named(tiny, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **others):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "opencv-python-headless<5" in refused(capsys, compare.main, *tiny, "--against", "opencv")


def test_opencv_5_is_refused(tiny, capsys, monkeypatch):
    cv2 = pytest.importorskip("cv2", reason="OpenCV 4 is an extra of the tests")
    monkeypatch.setattr(cv2, "__version__", "5.0.0")
    assert "version 5.0.0" in refused(capsys, compare.main, *tiny, "--against", "opencv")


# --- refusals ---


@pytest.mark.parametrize("change, code, words", [
    ([], 2, "--against"),
    (["--against", "gone.npz"], 1, "gone.npz"),
    (["--against", "{n}"], 1, "neither an .npz nor an HDF5"),
    (["--against", "{w}"], 1, "neither an .npz nor an HDF5"),
    (["--dump", "x.txt"], 2, ".npz or .h5"),
    (["--dump", "x.npz", "--end", "pol"], 2, "did you mean 'pool'"),
    (["--dump", "x.npz", "--input", "gone.png"], 1, "gone.png"),
    (["--dump", "x.npz", "--shape", "dta=1,3,4,4"], 2, "did you mean 'data'"),
    (["--dump", "x.npz", "--shape", "data=1,5,9,11"], 1, "conv"),
    (["--dump", "x.npz", "--tolerance", "-1"], 2, "--tolerance"),
])
def test_refusals_are_one_line(tiny, tmp_path, capsys, monkeypatch, change, code, words):
    monkeypatch.chdir(tmp_path)
    arguments = [one.format(n=tiny[0], w=tiny[1]) for one in change]
    if code == 2:  # what is wrong with the options is said before anything is computed
        monkeypatch.setattr(compare, "feed", lambda *arguments: pytest.fail("computed first"))
    assert words in refused(capsys, compare.main, *tiny, *arguments, code=code)
    assert not (tmp_path / "x.npz").exists()


def test_damaged_and_foreign_dumps_are_refused(tiny, tmp_path, capsys, blobs):
    np.savez(tmp_path / "ref.npz", **blobs)
    data = (tmp_path / "ref.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:len(data) // 2])
    assert "cut.npz" in refused(capsys, compare.main, *tiny, "--against", tmp_path / "cut.npz")
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(flipped)
    assert "flipped.npz" in refused(capsys, compare.main, *tiny, "--against", tmp_path / "flipped.npz")
    np.savez(tmp_path / "other.npz", other=np.zeros(3))
    assert "no blob in common" in refused(capsys, compare.main, *tiny, "--against", tmp_path / "other.npz")
    assert "none of the net's inputs" in refused(capsys, compare.main, *tiny, "--input", tmp_path / "other.npz", "--dump",
                                                 tmp_path / "x.npz")
    np.savez(tmp_path / "text.npz", conv=np.array(["a"]))
    assert "not numbers" in refused(capsys, compare.main, *tiny, "--against", tmp_path / "text.npz")
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("conv", (10**6, 10**6), "f4", chunks=(1000, 1000))
    assert "bytes are stored" in refused(capsys, compare.main, *tiny, "--against", tmp_path / "bomb.h5")


def test_help_has_examples(capsys):
    code, out, _ = run(capsys, compare.main, "--help")
    assert code == 0 and "example" in out
