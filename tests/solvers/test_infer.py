"""The infer door: pictures of every kind in, palette PNG and overlay out, broken ones named."""

import numpy as np
import pytest
from PIL import Image

from data import colors, pictures, transform
from data.voc import CLASSES
from layers.core import net as core_net
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from solvers import infer
from tests.data.folders import photo
from tests.solvers.doors import refused, run, write

DEPLOY = """
name: "tiny"
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 5 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 21 kernel_size: 1 weight_filler { type: "gaussian" std: 0.01 } } }
"""


@pytest.fixture
def tiny(tmp_path):
    """(prototxt, caffemodel) of a net of one 1x1 convolution to 21 classes."""
    path = write(tmp_path / "tiny" / "deploy.prototxt", DEPLOY)
    Net(path, caffe_pb2.TEST, seed=5).save(tmp_path / "tiny.caffemodel")
    return path, tmp_path / "tiny.caffemodel"


def expected(tiny, pixels, mean=transform.VOC_MEAN):
    """Classes by plain NumPy."""
    weight, bias = (blob.data for blob in Net(tiny[0], caffe_pb2.TEST, weights=tiny[1]).params["score"])
    data = pixels[:, :, ::-1].astype(np.float64) - mean
    return (data @ weight.reshape(21, 3).T.astype(np.float64) + bias).argmax(2)


def test_writes_palette_and_overlay_of_each_size(tiny, tmp_path, capsys):
    one, two = photo(tmp_path / "one.png"), photo(tmp_path / "two.png", 35, 15)
    out = tmp_path / "out"
    code, text, err = run(capsys, infer.main, *tiny, tmp_path / "one.png", tmp_path / "two.png", "--out", out, "--npy")
    assert code == 0, err
    for name, pixels in (("one", one), ("two", two)):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.mode == "P"
            assert picture.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
            label = np.asarray(picture)
        assert np.array_equal(label, expected(tiny, pixels))
        with Image.open(out / f"{name}_overlay.png") as picture:
            assert np.array_equal(np.asarray(picture), colors.overlay(pixels, label))
        scores = np.load(out / f"{name}.npy")
        assert scores.dtype == np.float32 and np.array_equal(scores.argmax(0), label)
    lines = text.splitlines()
    assert len(lines) == 2 and "30x20" in lines[0] and "15x35" in lines[1]
    share = max((expected(tiny, one) == k).mean() for k in range(21))
    assert f"{100 * share:.1f}%" in lines[0]
    assert any(name in lines[0] for name in CLASSES)


def test_a_folder_and_no_overlay(tiny, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("b.png", "a.jpg", "c.JPEG"):
        photo(tmp_path / "in" / name)
    write(tmp_path / "in" / "notes.txt", "no picture")
    code, text, err = run(capsys, infer.main, *tiny, tmp_path / "in", "--out", tmp_path / "out", "--no-overlay")
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "c.png"]
    assert [line.split()[0].rsplit("/")[-1] for line in text.splitlines()] == ["a.jpg", "b.png", "c.JPEG"]


def test_a_broken_picture_is_named_and_the_others_are_done(tiny, tmp_path, capsys):
    photo(tmp_path / "good.png")
    photo(tmp_path / "last.png")
    data = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:len(data) // 2])
    write(tmp_path / "text.jpg", "no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    names = ["good.png", "cut.png", "text.jpg", "empty.png", "last.png"]
    code, text, err = run(capsys, infer.main, *tiny, *(tmp_path / name for name in names), "--out", tmp_path / "out")
    assert code == 1
    assert len(text.splitlines()) == 2
    for name in ("cut.png", "text.jpg", "empty.png"):
        assert len([line for line in err.splitlines() if line.startswith("error: ") and name in line]) == 1
    assert "3 of 5 pictures failed" in err
    assert (tmp_path / "out" / "last.png").exists() and not (tmp_path / "out" / "cut.png").exists()


def test_the_mean_is_that_of_the_nets_beside(tiny, tmp_path, capsys):
    pixels = photo(tmp_path / "one.png")
    write(tiny[0].parent / "train.prototxt", """layer { name: "data" type: "Python" top: "data" top: "label"
      python_param { module: "x" layer: "Y" param_str: "{'mean': (1.5, 200, 30)}" } }""")
    code, _, err = run(capsys, infer.main, *tiny, tmp_path / "one.png", "--out", tmp_path / "out")
    assert code == 0 and "1.5, 200, 30" in err and "train.prototxt" in err
    with Image.open(tmp_path / "out" / "one.png") as picture:
        assert np.array_equal(np.asarray(picture), expected(tiny, pixels, (1.5, 200, 30)))
    code, _, err = run(capsys, infer.main, *tiny, tmp_path / "one.png", "--out", tmp_path / "out", "--mean", "0,0,0")
    assert code == 0
    with Image.open(tmp_path / "out" / "one.png") as picture:
        assert np.array_equal(np.asarray(picture), expected(tiny, pixels, (0, 0, 0)))


def test_a_huge_picture_is_refused_before_it_is_decoded(tiny, tmp_path, capsys, monkeypatch):
    photo(tmp_path / "one.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 599)
    code, _, err = run(capsys, infer.main, *tiny, tmp_path / "one.png", "--out", tmp_path / "out")
    assert code == 1 and "30x20 pixels" in err


def test_a_picture_beyond_the_memory_is_refused(tiny, tmp_path, capsys, monkeypatch):
    photo(tmp_path / "one.png")
    monkeypatch.setattr(core_net, "free_memory", lambda: 1000)
    code, _, err = run(capsys, infer.main, *tiny, tmp_path / "one.png", "--out", tmp_path / "out")
    assert code == 1 and "GiB" in err


def test_pictures_of_one_name_do_not_overwrite_each_other(tiny, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        photo(tmp_path / folder / "x.png")
    photo(tmp_path / "a" / "x.jpg")
    code, _, err = run(capsys, infer.main, *tiny, tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out",
                       "--no-overlay")
    assert code == 0, err
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert "overwrite" in refused(capsys, infer.main, *tiny, tmp_path / "b" / "x.png", "--out", tmp_path / "b")


def test_a_training_net_serves_too(tiny, tmp_path, capsys):
    text = """layer { name: "data" type: "Python" top: "data" top: "label"
        python_param { module: "gone" layer: "Gone" param_str: "{'mean': [1, 2, 3]}" } }
        """ + DEPLOY.split("\n", 3)[3]
    text += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }'
    path = write(tmp_path / "train.prototxt", text)
    pixels = photo(tmp_path / "one.png")
    code, _, err = run(capsys, infer.main, path, tiny[1], tmp_path / "one.png", "--out", tmp_path / "out")
    assert code == 0, err
    with Image.open(tmp_path / "out" / "one.png") as picture:
        assert np.array_equal(np.asarray(picture), expected(tiny, pixels, (1, 2, 3)))


def test_a_classifier_is_refused(tmp_path, capsys):
    path = write(tmp_path / "classifier.prototxt", DEPLOY.replace("kernel_size: 1", "kernel_size: 5"))
    Net(path, caffe_pb2.TEST, seed=1).save(tmp_path / "c.caffemodel")
    photo(tmp_path / "one.png")
    code, _, err = run(capsys, infer.main, path, tmp_path / "c.caffemodel", tmp_path / "one.png", "--out",
                       tmp_path / "out")
    assert code == 1 and "a score for every pixel" in err


@pytest.mark.parametrize("change, code, words", [
    (["{n}", "{w}", "gone.png"], 1, "gone.png"),
    (["{n}", "gone.caffemodel", "{i}"], 1, "gone.caffemodel"),
    (["gone.prototxt", "{w}", "{i}"], 1, "gone.prototxt"),
    (["fcn8", "{w}", "{i}"], 2, "did you mean 'fcn8s'"),
    (["{n}", "{w}", "{i}", "--score", "sorce"], 2, "did you mean 'score'"),
    (["{n}", "{w}", "{i}", "--mean", "1,2"], 2, "--mean"),
    (["{w}", "{w}", "{i}"], 1, "tiny.caffemodel"),
])
def test_refusals_are_one_line(tiny, tmp_path, capsys, change, code, words):
    photo(tmp_path / "one.png")
    names = {"n": tiny[0], "w": tiny[1], "i": tmp_path / "one.png"}
    assert words in refused(capsys, infer.main, *(one.format(**names) for one in change), code=code)


def test_a_folder_without_pictures_is_refused(tiny, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert "holds no picture" in refused(capsys, infer.main, *tiny, tmp_path / "in")


def test_nets_with_other_inputs_are_refused(tmp_path):
    path = write(tmp_path / "grey.prototxt", DEPLOY.replace("dim: 3", "dim: 1"))
    with pytest.raises(Error, match="3 x H x W"):
        infer.Segmenter(Net(path, caffe_pb2.TEST))


def test_help_has_an_example(capsys):
    code, out, _ = run(capsys, infer.main, "--help")
    assert code == 0 and "example:" in out
