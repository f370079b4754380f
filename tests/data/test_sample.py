"""The embedded data set: same bytes, VOC's layout, all classes, never half drawn, never over somebody's files."""

import ast
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data import metrics, sample
from data.dataset import open_dataset
from data.voc import SBDDSegDataLayer, VOCSegDataLayer
from netspec.errors import Error
from tests.data import folders
from tests.support import ROOT


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("sample") / "sample")
    sample.draw(folder, train=12, val=6, seed=1)
    return folder


def digest(folder):
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            found[os.path.relpath(path, folder)] = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    return found


def test_the_same_seed_draws_the_same_bytes_and_another_does_not(drawn, tmp_path):
    sample.draw(tmp_path / "again", 12, 6, seed=1)
    assert digest(tmp_path / "again") == digest(drawn)
    sample.draw(tmp_path / "more", 14, 6, seed=1)
    more, few = digest(tmp_path / "more"), digest(drawn)
    assert all(more[name] == few[name] for name in few if name.startswith("JPEG"))
    sample.draw(tmp_path / "other", 12, 6, seed=2)
    assert digest(tmp_path / "other")["JPEGImages/train_0001.jpg"] != few["JPEGImages/train_0001.jpg"]


def test_the_layout_is_vocs_and_every_class_is_held_out_too(drawn):
    seen = np.zeros(256, np.int64)
    sizes = set()
    for split, count in (("train", 12), ("val", 6), ("trainval", 18), ("seg11valid", 6)):
        voc = open_dataset("voc", drawn, split)
        assert len(voc) == count and voc.names == sample.CLASSES and voc.classes == 6
        if split in ("train", "val"):
            counts = np.zeros(256, np.int64)
            for _, image, label in voc:
                counts += np.bincount(label.ravel(), minlength=256)
                sizes.add(image.shape[:2])
            assert (counts[:6] > 0).all() and counts[255] > 0 and not counts[6:255].any()
            seen += counts
    assert 0.4 < seen[0] / seen.sum() < 0.75 and 0.03 < seen[255] / seen.sum() < 0.15
    assert len(sizes) > 10 and all(96 <= side <= 160 for size in sizes for side in size)
    assert any(h > w for h, w in sizes) and any(h < w for h, w in sizes)
    with Image.open(os.path.join(drawn, "SegmentationClass", "train_0001.png")) as picture:
        assert picture.mode == "P" and picture.getpalette()[:6] == [0, 0, 0, 128, 0, 0]


def test_a_border_parts_every_object_from_what_it_touches(drawn):
    for _, _, label in open_dataset("voc", drawn, "train"):
        for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            assert not ((a != b) & (a != 255) & (b != 255)).any()


def test_colour_alone_does_not_tell_the_classes(tmp_path):
    # The best answer for each of 4096 colours, learned from the training pictures, on the held-out ones.
    sample.draw(tmp_path / "s", 60, 20)

    def codes(image):
        image = image.astype(np.int64) >> 4
        return image[:, :, 0] << 8 | image[:, :, 1] << 4 | image[:, :, 2]

    votes = np.zeros((4096, 6), np.int64)
    for _, image, label in open_dataset("voc", tmp_path / "s", "train"):
        held = label < 6
        np.add.at(votes, (codes(image)[held], label[held]), 1)
    answer = votes.argmax(axis=1)
    hist = sum(metrics.confusion(label, answer[codes(image)], 6)
               for _, image, label in open_dataset("voc", tmp_path / "s", "val"))
    assert 0.2 < metrics.scores(hist)["mean_iu"] < 0.5


def test_both_published_layers_run_on_it(drawn):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=drawn, split="seg11valid", mean=(1, 2, 3))
    assert folders.step(layer, tops)[0] == "val_0001"
    layer.close()
    text = "{'sbdd_dir': '../data/sbdd/dataset', 'split': 'train', 'seed': 1337, 'mean': (104.0, 117.0, 123.0)}"
    layer = SBDDSegDataLayer()
    layer.param_str = sample.redirect(text, drawn)
    tops = [folders.Blob(), folders.Blob()]
    layer.setup([], tops)
    assert folders.step(layer, tops)[0].startswith("train_")
    layer.close()


def test_redirect_changes_folders_and_unknown_splits_only():
    got = ast.literal_eval(sample.redirect("{'nyud_dir': 'x', 'voc_dir': 'y', 'split': 'test', 'seed': 3}", "/s"))
    assert got == {"nyud_dir": "/s", "voc_dir": "/s", "split": "val", "seed": 3}
    assert ast.literal_eval(sample.redirect("{'a': 1}", "/s")) == {"a": 1}
    with pytest.raises(Error, match="not a dict"):
        sample.redirect("os.getcwd()")


def test_ensure_draws_once_and_redraws_an_older_version(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(sample, "draw", lambda path, *a: calls.append(path))
    path = str(tmp_path / "s")
    assert sample.ensure(path) == path and calls == [path]
    os.makedirs(path)
    with open(os.path.join(path, sample.RECORD), "w") as file:
        json.dump({"drawn by": "data.sample", "version": sample.VERSION}, file)
    sample.ensure(path)
    assert len(calls) == 1
    monkeypatch.setattr(sample, "VERSION", sample.VERSION + 1)
    sample.ensure(path)
    assert len(calls) == 2


def test_drawing_again_replaces_ours_and_spares_others(tmp_path):
    folder = tmp_path / "s"
    sample.draw(folder, 2, 1)
    sample.draw(folder, 1, 1)
    assert len(os.listdir(folder / "JPEGImages")) == 2
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "mine.jpg").write_bytes(b"x")
    with pytest.raises(Error, match="was not drawn by data.sample"):
        sample.draw(foreign, 1, 1)
    assert sorted(os.listdir(tmp_path)) == ["photos", "s"]
    (tmp_path / "empty").mkdir()
    sample.draw(tmp_path / "empty", 1, 1)
    assert (tmp_path / "empty" / "classes.txt").exists()


def test_a_drawing_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(sample, "_write", full)
    with pytest.raises(Error, match="cannot write .*No space left"):
        sample.draw(tmp_path / "s", 1, 1)
    assert os.listdir(tmp_path) == []


def test_the_door_prints_the_folder(tmp_path):
    out = str(tmp_path / "s")
    result = subprocess.run([sys.executable, "-m", "data.sample", "--out", out, "--train", "2", "--val", "1"],
                            cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout == out + "\n"
    result = subprocess.run([sys.executable, "-m", "data.sample", "--out", out, "--train", "0"],
                            cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("error: --train") and result.stderr.count("\n") == 1
    helped = subprocess.run([sys.executable, "-m", "data.sample", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert "example:" in helped.stdout
