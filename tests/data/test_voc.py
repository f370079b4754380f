"""PASCAL VOC and SBD, in small folders drawn here and in the real one."""

import os

import numpy as np
import pytest

from data import transform
from data.dataset import open_dataset
from data.voc import CLASSES, SBDDSegDataLayer, VOCSegDataLayer, read_label_mat
from netspec.errors import Error, PathError
from tests.data import folders
from tests.support import shared

MEAN = (104.00699, 116.66877, 122.67892)


def test_voc_layer_delivers_bgr_minus_mean_and_the_label(tmp_path):
    folder = folders.voc(tmp_path)
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, split="seg11valid", mean=MEAN, seed=1337)
    for number in range(9):
        name, data, label = folders.step(layer, tops)
        number %= 7
        assert name == f"2007_{number:06d}"
        image = layer.dataset.image(number)
        expected = (image[:, :, ::-1].astype(np.float32) - np.array(MEAN)).astype(np.float32).transpose(2, 0, 1)
        assert data.shape == (1, *expected.shape) and np.array_equal(data[0], expected)
        assert label.shape == (1, 1, *image.shape[:2]) and np.array_equal(label[0, 0], folders.pair(number)[1])
    layer.backward(tops, [False, False], [])
    layer.close()


def test_sbd_layer_reads_mat_labels(tmp_path):
    folder = folders.sbd(tmp_path)
    layer, tops = folders.layer(SBDDSegDataLayer, sbdd_dir=folder, split="val", mean=MEAN)
    for number in range(5):
        name, data, label = folders.step(layer, tops)
        assert name == f"2008_{number:06d}"
        assert np.array_equal(label[0, 0], folders.pair(number)[1])
        assert np.array_equal(data[0], transform.preprocess(layer.dataset.image(number), MEAN))
    layer.close()
    assert len(open_dataset("sbdd", folder, "train")) == 5


def test_an_sbd_folder_in_vocs_layout_is_read_as_that(tmp_path):
    folder = folders.voc(tmp_path, 2)
    layer, tops = folders.layer(SBDDSegDataLayer, sbdd_dir=folder, split="train", mean=MEAN, randomize=False)
    assert np.array_equal(folders.step(layer, tops)[2][0, 0], folders.pair(0)[1])
    layer.close()


def test_mat_labels_of_any_number_type_are_read_and_others_explained(tmp_path):
    label = np.array([[0, 20], [255, 3]])
    for dtype in (np.uint8, np.float64, np.int16):
        folders.save_mat(tmp_path / "a.mat", label.astype(dtype))
        assert np.array_equal(read_label_mat(str(tmp_path / "a.mat")), label)
    folders.save_mat(tmp_path / "b.mat", label, name="GTinst")
    with pytest.raises(Error, match="b.mat' holds no GTcls.Segmentation"):
        read_label_mat(str(tmp_path / "b.mat"))
    good = (tmp_path / "a.mat").read_bytes()
    for cut in (0, 60, 130, len(good) - 9):
        (tmp_path / "c.mat").write_bytes(good[:cut])
        with pytest.raises(Error, match="c.mat"):
            read_label_mat(str(tmp_path / "c.mat"))
    with pytest.raises(PathError, match="d.mat"):
        read_label_mat(str(tmp_path / "d.mat"))


def test_a_missing_data_set_lists_the_places_the_source_and_the_cure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer = VOCSegDataLayer()
    layer.prototxt_path = str(tmp_path / "models" / "net" / "train.prototxt")
    layer.param_str = str({"voc_dir": "../absent/VOC2011", "split": "train", "mean": MEAN})
    with pytest.raises(PathError) as caught:
        layer.setup([], [folders.Blob()] * 2)
    text = str(caught.value)
    for part in (str(tmp_path.parent / "absent" / "VOC2011"), str(tmp_path / "models" / "absent" / "VOC2011"),
                 "host.robots.ox.ac.uk/pascal/VOC", "--sample"):
        assert part in text
    with pytest.raises(PathError, match="Berkeley.*--sample"):
        open_dataset("sbdd", "absent/sbdd", "train")


def test_the_folder_is_found_beside_the_prototxt(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    folders.voc(tmp_path / "data" / "VOC2011", 1)
    layer = VOCSegDataLayer()
    layer.prototxt_path = str(tmp_path / "net" / "train.prototxt")
    layer.param_str = str({"voc_dir": "../data/VOC2011", "split": "train", "mean": MEAN})
    layer.setup([], [folders.Blob()] * 2)
    assert len(layer.dataset) == 1


def test_one_folder_too_high_is_hinted(tmp_path):
    folders.voc(tmp_path / "VOCdevkit" / "VOC2012", 1)
    with pytest.raises(PathError, match="did you mean '.*VOCdevkit/VOC2012'"):
        open_dataset("voc", str(tmp_path), "train")
    folders.sbd(tmp_path / "sbd" / "dataset", 1)
    with pytest.raises(PathError, match="did you mean '.*sbd/dataset'"):
        open_dataset("sbdd", str(tmp_path / "sbd"), "train")


def test_a_missing_list_shows_the_lists_there_are(tmp_path):
    folder = folders.voc(tmp_path / "voc", 1, splits=("train", "val"))
    with pytest.raises(PathError, match=r"split 'trian' has no list .*did you mean 'train'.*lists there: train, val"):
        open_dataset("voc", folder, "trian")
    with pytest.raises(PathError, match="seg11valid.txt is not part of VOC.*python -m data.seg11valid"):
        open_dataset("voc", folder, "seg11valid")
    folders.write(os.path.join(folder, "ImageSets", "Segmentation", "none.txt"), "\n\n")
    with pytest.raises(Error, match="is empty"):
        open_dataset("voc", folder, "none")
    with pytest.raises(PathError, match="lists there: train, val"):
        open_dataset("sbdd", folders.sbd(tmp_path / "sbd", 1), "seg11valid")


def test_voc_has_twenty_classes_and_the_background():
    assert len(CLASSES) == 21 and CLASSES[0] == "background" and CLASSES[20] == "tvmonitor"


def test_the_real_pairs_are_read():
    folder = str(shared("real/voc"))
    train, valid = open_dataset("voc", folder, "train"), open_dataset("voc", folder, "seg11valid")
    assert (len(train), len(valid)) == (520, 228)
    for voc in (train, valid):
        for which in range(0, len(voc), 37):
            image, label = voc.pair(which)
            assert image.shape == (*label.shape, 3) and image.dtype == np.uint8
            values = np.unique(label)
            assert all(v < 21 or v == 255 for v in values) and len(values) > 1


def test_the_published_layer_runs_over_the_real_pairs():
    folder = str(shared("real/voc"))
    layer, tops = folders.layer(VOCSegDataLayer, mean=MEAN, seed=1337, split="seg11valid", voc_dir=folder)
    for _ in range(6):
        name, data, label = folders.step(layer, tops)
        assert data.shape[2:] == label.shape[2:] and -124 < data.min() < data.max() < 152
        assert np.array_equal(transform.deprocess(data, MEAN), layer.dataset.image(name))
    layer.close()
