"""NYUDv2: every top from a small folder in the published layout, as plain NumPy says; what is refused."""

import os

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data.dataset import open_dataset
from data.nyud import CLASSES, NYUDSegDataLayer
from netspec.errors import Error, PathError, UnknownName
from tests.data import folders

ALL = ["color", "depth", "hha", "label"]


def test_all_four_tops_are_as_the_published_layer_makes_them(tmp_path):
    folder = folders.nyud(tmp_path)
    layer, tops = folders.layer(NYUDSegDataLayer, 4, nyud_dir=folder, split="test", tops=ALL, seed=1337)
    name, color, depth, hha, label = folders.step(layer, tops)
    assert name == "5004"
    read = {part: np.asarray(Image.open(f"{folder}/data/{part}/img_{name}.png")) for part in ("images", "depth", "hha")}
    expected = read["images"].astype(np.float32)[:, :, ::-1] - np.float32((116.190, 97.203, 92.318))
    assert np.array_equal(color[0], expected.transpose(2, 0, 1))
    expected = np.log(read["depth"].astype(np.float32)) - np.float32(7.844)
    assert depth.shape == (1, 1, *expected.shape) and np.array_equal(depth[0, 0], expected)
    expected = read["hha"].astype(np.float32) - np.float32((132.431, 94.076, 118.477))  # not turned to BGR
    assert np.array_equal(hha[0], expected.transpose(2, 0, 1))
    numbers = scipy.io.loadmat(f"{folder}/segmentation/img_{name}.mat")["segmentation"]
    assert np.array_equal(label[0, 0], (numbers.astype(np.uint8) - np.uint8(1)).astype(float)) and label.max() == 255
    layer.close()


@pytest.mark.parametrize("tops", [["color", "label"], ["hha", "label"], ["label", "depth"], ["color"]])
def test_only_the_named_tops_are_read(tmp_path, tops):
    folder = folders.nyud(tmp_path, parts=["images"] * ("color" in tops) + ["depth"] * ("depth" in tops)
                          + ["hha"] * ("hha" in tops))
    layer, blobs = folders.layer(NYUDSegDataLayer, len(tops), nyud_dir=folder, split="train", tops=tops, seed=1)
    shapes = [blob.shape[1] for blob in folders.step(layer, blobs)[1:]]
    assert shapes == [{"color": 3, "hha": 3, "depth": 1, "label": 1}[top] for top in tops]
    if "depth" not in tops:  # what a page of scores shows
        assert layer.dataset.pair(0)[0].shape[2] == 3
    layer.close()


def test_trainval_is_train_and_val_where_no_list_says_otherwise(tmp_path):
    folder = folders.nyud(tmp_path)
    assert open_dataset("nyud", folder, "trainval").ids == ["5001", "5002", "5003"]
    folders.write(f"{folder}/trainval.txt", "5003\n")
    assert open_dataset("nyud", folder, "trainval").ids == ["5003"]
    os.unlink(f"{folder}/trainval.txt")
    os.unlink(f"{folder}/val.txt")
    with pytest.raises(PathError, match="split 'trainval' has no list '.*val.txt'.*published FCN repository"):
        open_dataset("nyud", folder, "trainval")


def test_forty_classes_whose_remarks_are_not_read_as_names(tmp_path):
    folder = folders.nyud(tmp_path)
    folders.write(f"{folder}/classes.txt", "wall\nfloor\n\nand 0 is void\n")
    nyud = open_dataset("nyud", folder, "test")
    assert nyud.names == CLASSES and nyud.classes == len(CLASSES) == 40 and CLASSES[23] == "refridgerator"
    assert nyud.pair(0)[0].shape[:2] == nyud.pair(0)[1].shape


@pytest.mark.parametrize("change, kind, message", [
    ({"tops": ["colour", "label"]}, UnknownName, "unknown top 'colour' in param_str; did you mean 'color'"),
    ({"tops": ["label", "label"]}, Error, "names 'label' twice"),
    ({"tops": "label"}, Error, "'tops' in param_str must be a list of color, depth, hha, label; got 'label'"),
    ({"tops": ["color"]}, Error, r"needs 1 tops \(color\), got 2"),
    ({"mask": "both"}, Error, "'mask' in param_str needs a background"),
    ({"nyud_dri": "x"}, Error, "did you mean 'nyud_dir'"),
])
def test_a_wrong_parameter_is_said(tmp_path, change, kind, message):
    params = {"nyud_dir": folders.nyud(tmp_path), "split": "train", "tops": ["color", "label"], **change}
    with pytest.raises(kind, match=message):
        folders.layer(NYUDSegDataLayer, 2, **params)
    params.pop("tops")
    with pytest.raises(Error, match="tops|nyud_dir|mask"):
        folders.layer(NYUDSegDataLayer, 2, **params)


def test_a_label_outside_the_list_and_holes_in_the_depth_are_errors_with_their_place(tmp_path):
    folder = folders.nyud(tmp_path)
    path = f"{folder}/segmentation/img_5004.mat"
    numbers = scipy.io.loadmat(path)["segmentation"]
    numbers[3, 5] = 41
    scipy.io.savemat(path, {"segmentation": numbers})
    nyud = open_dataset("nyud", folder, "test")
    with pytest.raises(Error, match=r"label 41 at row 3, column 5 of '.*img_5004.mat' is outside the list \(1 to 40, void"):
        nyud.label(0)
    scipy.io.savemat(path, {"labels": numbers})
    with pytest.raises(Error, match="img_5004.mat' holds no matrix 'segmentation'"):
        nyud.label(0)
    folders.cut(path, -20)
    with pytest.raises(Error, match="img_5004.mat"):
        nyud.label(0)
    depth = folders.depth_of(3, (10, 8))
    depth[2, 1] = 0
    Image.fromarray(depth).save(f"{folder}/data/depth/img_5004.png")
    with pytest.raises(Error, match="img_5004.png' has no depth at row 2, column 1"):
        nyud.read("depth", 0)
    Image.fromarray(depth.astype(np.uint8)).save(f"{folder}/data/depth/img_5004.png")
    with pytest.raises(Error, match="of mode L; it must have one channel of 16 bits"):
        nyud.read("depth", 0)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(f"{folder}/data/hha/img_5004.png")
    with pytest.raises(Error, match="part 'color' .* is 10x8 .* its part 'hha' .* is 4x4"):
        nyud.sample(0, ("color", "hha"))


def test_what_is_missing_is_said_with_its_source(tmp_path):
    folder = folders.nyud(tmp_path / "nyud", parts=("images", "depth"))
    with pytest.raises(PathError, match="3 of the 6 files of split 'trainval' are missing.*python -m data.hha"):
        folders.layer(NYUDSegDataLayer, 2, nyud_dir=folder, split="trainval", tops=["hha", "label"])
    with pytest.raises(PathError, match="did you mean '.*nyud'"):
        open_dataset("nyud", str(tmp_path), "test")
    os.makedirs(tmp_path / "empty")
    with pytest.raises(PathError, match="holds no segmentation/; get it from .*nyud.tar.gz"):
        open_dataset("nyud", str(tmp_path / "empty"), "test")
    with pytest.raises(PathError, match="not found.*nyud.tar.gz") as caught:
        open_dataset("nyud", str(tmp_path / "absent"), "test")
    assert "--sample" not in str(caught.value)  # the embedded set has none of its tops


def test_mirroring_turns_every_top(tmp_path):
    keys = {"nyud_dir": folders.nyud(tmp_path), "split": "test", "tops": ALL, "seed": 1}
    plain, tops = folders.layer(NYUDSegDataLayer, 4, **keys)
    turned, others = folders.layer(NYUDSegDataLayer, 4, **keys, mirror=True)
    seen = set()
    for _ in range(12):
        before, after = folders.step(plain, tops)[1:], folders.step(turned, others)[1:]
        flip = not np.array_equal(before[3], after[3])
        seen.add(flip)
        assert all(np.array_equal(a, b[..., ::-1] if flip else b) for a, b in zip(after, before))
    assert seen == {True, False}
    plain.close()
    turned.close()
