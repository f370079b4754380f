"""The published door: what is found, scored, held against the published figures, and what is missing."""

import json
import re

import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2, recipes
from solvers import compare, published, score
from solvers.dumps import write_dump
from tests.data import folders
from tests.solvers.doors import refused, run, write
from tests.solvers.test_score import MEAN, NET

FILE = published.FILES["fcn8s"].file
DEPLOY = """
name: "tiny"
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 11 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 21 kernel_size: 1 } }
"""


@pytest.fixture
def place(tmp_path):
    """A folder of nets, one of weights and one of data, as the door takes them; fcn8s is a tiny net."""
    data = tmp_path / "data"
    folders.voc(data / "pascal" / "VOC2011")
    net = write(tmp_path / "nets" / "fcn8s" / "val.prototxt",
                NET.format(folder="data/pascal/VOC2011", split="seg11valid", mean=MEAN))
    write(tmp_path / "nets" / "fcn8s" / "deploy.prototxt", DEPLOY)
    (tmp_path / "weights").mkdir()
    text = net.read_text().replace("data/pascal", str(data / "pascal"))
    made = Net(write(tmp_path / "direct.prototxt", text), caffe_pb2.TEST, seed=3)
    made.save(tmp_path / "weights" / FILE)
    made.close()
    return tmp_path


def arguments(place, *more):
    return (place / "weights", place / "data", "--nets", place / "nets", *more)


def test_table_is_of_recipes_that_are_here_with_files_of_their_own():
    assert set(published.FILES) <= set(recipes.names())
    assert len({one.file for one in published.FILES.values()}) == len(published.FILES) == 14
    for name, one in published.FILES.items():
        assert recipes.find(one.folder) == name


def test_scores_what_is_there_as_the_score_door_does_and_prints_the_difference(place, capsys):
    code, out, err = run(capsys, published.main, *arguments(place, "--json", place / "found.json"))
    assert code == 0, err
    code, _, err = run(capsys, score.main, place / "direct.prototxt", place / "weights" / FILE, "--json", place / "own.json")
    assert code == 0, err
    (report,) = json.loads((place / "found.json").read_text())
    own = json.loads((place / "own.json").read_text())["heads"][0]
    assert report["heads"][0]["hist"] == own["hist"]
    assert report["differences"]["score"] == pytest.approx([
        100 * own["pixel_accuracy"] - 91.2212, 100 * own["mean_accuracy"] - 77.6146, 100 * own["mean_iu"] - 65.5126,
        100 * own["frequency_weighted_iu"] - 84.5445])
    assert "seg11valid, 7 of 7 images" in out
    assert re.search(r"published +91\.2212 +77\.6146 +65\.5126 +84\.5445 ", out)
    assert re.search(rf"difference +[+-]\d+\.\d{{4}} .*{report['differences']['score'][2]:+.4f}", out)
    assert "NOT the known c449ea74" in out  # these are not the published weights, and it says so
    assert out.count("http://dl.caffe.berkeleyvision.org/") == 13 and f"/{FILE}" not in out.split("where they come from")[1]


def test_weights_may_lie_in_the_published_folders(place, capsys):
    (place / "weights" / "voc-fcn8s").mkdir()
    (place / "weights" / FILE).rename(place / "weights" / "voc-fcn8s" / FILE)
    code, out, err = run(capsys, published.main, *arguments(place, "--iterations", "2", "--models", "voc-fcn8s,fcn32s"))
    assert code == 0, err
    assert "2 of 7 images" in out and "only a part of the split" in out
    assert "fcn32s-heavy-pascal.caffemodel" in out and "nyud" not in out


def test_data_folder_may_be_the_data_set_itself(tmp_path):
    (tmp_path / "VOCdevkit" / "VOC2011").mkdir(parents=True)
    (tmp_path / "nyud").mkdir()
    assert published.find_data(str(tmp_path), "data/pascal/VOC2011") == str(tmp_path / "VOCdevkit" / "VOC2011")
    assert published.find_data(str(tmp_path), "data/nyud") == str(tmp_path / "nyud")
    assert published.find_data(str(tmp_path), "data/sift-flow") == str(tmp_path)


def test_two_heads_have_figures_of_their_own(place, monkeypatch):
    # A net with 33 semantic and 21 geometric scores over one label, whose data set leaves absent classes out as SIFT Flow does.
    monkeypatch.setattr("data.voc.VOC.score_exclude", "absent")
    heads = "".join(f"""
layer {{ name: "score_{head}" type: "Convolution" bottom: "data" top: "score_{head}"
  convolution_param {{ num_output: {count} kernel_size: 1 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "loss_{head}" type: "SoftmaxWithLoss" bottom: "score_{head}" bottom: "label" top: "loss_{head}"
  loss_param {{ ignore_label: 255 }} }}""" for head, count in (("sem", 33), ("geo", 21)))
    text = (place / "nets" / "fcn8s" / "val.prototxt").read_text()
    text = text[:text.index('layer { name: "score"')] + heads
    path = write(place / "nets" / "siftflow_fcn8s" / "val.prototxt", text)
    made = Net(write(place / "two.prototxt", text.replace("data/pascal", str(place / "data" / "pascal"))), caffe_pb2.TEST, seed=3)
    weights = place / "weights" / published.FILES["siftflow_fcn8s"].file
    made.save(weights)
    made.close()
    report = published.score_published("siftflow_fcn8s", str(weights), str(place / "nets"), str(place / "data"))
    semantic, geometric = report["heads"]
    assert path.exists() and semantic["excluded"] == list(range(21, 33)) and not geometric["excluded"]
    assert report["differences"]["score_geo"] == [100 * geometric["pixel_accuracy"] - 94.6, None, None, None]


def test_blobs_are_held_against_a_dump_beside_the_weights(place, capsys):
    weights = place / "weights" / FILE
    net = Net(place / "nets" / "fcn8s" / "deploy.prototxt", caffe_pb2.TEST, weights=weights)
    compare.feed(net, seed=5)
    net.forward_from_to(0, len(net.layers) - 1)
    blobs = {name: net.blobs[name].data.copy() for name in ("data", "score")}
    net.close()
    dump = str(weights).replace(".caffemodel", ".npz")
    write_dump(dump, blobs)
    code, out, err = run(capsys, published.main, *arguments(place))
    assert code == 0, err
    assert "2 compared" in out and "0 depart" in out
    blobs["score"] = np.where(np.arange(21).reshape(1, 21, 1, 1) == 4, blobs["score"] + 1, blobs["score"])
    write_dump(dump, blobs)
    code, out, _ = run(capsys, published.main, *arguments(place))
    assert code == 1
    assert "1 depart, the first is 'score'" in out


def test_bad_input_is_one_line_and_the_others_go_on(place, capsys):
    (place / "weights" / published.FILES["fcn16s"].file).write_bytes((place / "weights" / FILE).read_bytes()[:40])
    write(place / "nets" / "fcn16s" / "val.prototxt", (place / "nets" / "fcn8s" / "val.prototxt").read_text())
    code, out, err = run(capsys, published.main, *arguments(place))
    assert code == 1
    assert "error: fcn16s: " in err and FILE.replace("8s", "16s") in err
    assert "published" in out and "7 of 7 images" in out

    (place / "empty").mkdir()
    write(place / "empty" / "mine.caffemodel", "")
    line = refused(capsys, published.main, place / "empty")
    assert "none of the 14 published files" in line and "mine.caffemodel" in line
    assert "not found; tried" in refused(capsys, published.main, place / "nowhere")
    assert "is a file" in refused(capsys, published.main, place / "weights" / FILE)
    assert "did you mean 'fcn8s'" in refused(capsys, published.main, place / "weights", "--models", "fcn8", code=2)
    assert "no weights of 'fcn_sample'" in refused(capsys, published.main, place / "weights", "--models", "fcn_sample", code=2)
    assert "--iterations" in refused(capsys, published.main, place / "weights", "--iterations", "0", code=2)


def test_missing_data_names_the_model_and_the_folder(place, capsys):
    (place / "bare").mkdir()
    code, _, err = run(capsys, published.main, place / "weights", place / "bare", "--nets", place / "nets")
    assert code == 1
    assert "error: fcn8s: " in err and str(place / "bare") in err
