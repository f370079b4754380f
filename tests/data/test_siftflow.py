"""SIFT Flow: two label maps a picture, void as 255, classes that the truth does not hold left out of scores."""

import os

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data.dataset import open_dataset
from data.siftflow import GEOMETRIC, SEMANTIC, SIFTFlowSegDataLayer
from netspec.errors import Error, PathError
from solvers import score_report
from tests.data import folders


def mat(folder, sub, name="coast_natu975"):
    return os.path.join(folder, sub, folders.BELOW, f"{name}.mat")


def test_three_tops_are_as_the_published_layer_makes_them(tmp_path):
    folder = folders.siftflow(tmp_path)
    layer, tops = folders.layer(SIFTFlowSegDataLayer, 3, siftflow_dir=folder, split="test", seed=1337)
    for number in range(4):
        name, data, sem, geo = folders.step(layer, tops)
        assert name == f"coast_natu{975 + number % 3}"
        image = np.asarray(Image.open(os.path.join(folder, "Images", folders.BELOW, f"{name}.jpg")))
        expected = image.astype(np.float32)[:, :, ::-1] - np.float32((114.578, 115.294, 108.353))
        assert np.array_equal(data[0], expected.transpose(2, 0, 1))
        for label, sub in ((sem, "SemanticLabels"), (geo, "GeoLabels")):
            numbers = scipy.io.loadmat(mat(folder, sub, name))["S"].copy()
            numbers[numbers == -1] = 0
            assert np.array_equal(label[0, 0], numbers.astype(np.uint8) - np.uint8(1)) and label.max() == 255
    layer.close()


def test_thirty_three_and_three_classes():
    assert len(SEMANTIC) == 33 and SEMANTIC[8] == "cow" and SEMANTIC[10] == "desert" and SEMANTIC[15] == "moon"
    assert GEOMETRIC == ["sky", "horizontal", "vertical"]


@pytest.mark.parametrize("sub, value, message", [
    ("SemanticLabels", 34, r"label 34 at row 2, column 3 of '.*975.mat' is outside the list \(1 to 33, void is 0\)"),
    ("SemanticLabels", -1, "label -1 at row 2"),
    ("GeoLabels", 4, r"label 4 at row 2, column 3 .*\(1 to 3, void is -1 or 0\)"),
    ("GeoLabels", 1.5, "label 1.5 at row 2"),
])
def test_a_label_outside_the_list_is_an_error_with_its_place(tmp_path, sub, value, message):
    folder = folders.siftflow(tmp_path)
    numbers = scipy.io.loadmat(mat(folder, sub))["S"].astype(float)
    numbers[2, 3] = value
    scipy.io.savemat(mat(folder, sub), {"S": numbers})
    layer, tops = folders.layer(SIFTFlowSegDataLayer, 3, siftflow_dir=folder, split="test")
    with pytest.raises(Error, match=message):
        folders.step(layer, tops)
    layer.close()


def test_what_is_missing_or_cut_is_said(tmp_path):
    folder = folders.siftflow(tmp_path / "SiftFlowDataset")
    with pytest.raises(PathError, match="did you mean '.*SiftFlowDataset'"):
        open_dataset("siftflow", str(tmp_path), "test")
    with pytest.raises(PathError, match="split 'val' has no list.*lists there: test, trainval; the lists are not in the archive"):
        open_dataset("siftflow", folder, "val")
    folders.cut(mat(folder, "GeoLabels"), 150)
    with pytest.raises(Error, match="GeoLabels.*975.mat"):
        open_dataset("siftflow", folder, "test").sample(0)
    os.unlink(mat(folder, "GeoLabels"))
    with pytest.raises(PathError, match="1 of the 9 files .* are missing, the first is '.*GeoLabels.*SiftFlowDataset.zip"):
        open_dataset("siftflow", folder, "test")


def test_sampling_drops_the_same_cells_of_both_labels(tmp_path):
    folder = folders.siftflow(tmp_path)
    layer, tops = folders.layer(SIFTFlowSegDataLayer, 3, siftflow_dir=folder, split="test", sampling=0.5, cell=4, seed=2)
    plain, others = folders.layer(SIFTFlowSegDataLayer, 3, siftflow_dir=folder, split="test")
    _, _, sem, geo = folders.step(layer, tops)
    _, _, whole_sem, whole_geo = folders.step(plain, others)
    dropped = [(a != b) for a, b in ((sem, whole_sem), (geo, whole_geo))]
    known = (whole_sem != 255) & (whole_geo != 255)
    assert np.array_equal(dropped[0] & known, dropped[1] & known) and 0 < dropped[0].mean() < 1
    layer.close()
    plain.close()


def test_reports_leave_out_what_the_truth_does_not_hold(tmp_path, capsys):
    siftflow = open_dataset("siftflow", folders.siftflow(tmp_path), "test")
    sem = np.diag(np.full(33, 10))
    for absent in ("cow", "desert", "moon"):
        sem[SEMANTIC.index(absent)] = 0
    sem[0, SEMANTIC.index("moon")] = 10  # predicted, though nowhere true
    heads = [("score_sem", "sem"), ("score_geo", "geo")]
    report = score_report.make_report([sem, np.diag([4, 0, 6])], heads, siftflow)
    first, second = report["heads"]
    assert [SEMANTIC[i] for i in first["excluded"]] == ["cow", "desert", "moon"] and second["excluded"] == [1]
    assert first["mean_iu"] == pytest.approx(29.5 / 30) and first["names"] == SEMANTIC and second["names"] == GEOMETRIC
    assert score_report.make_report([sem, np.eye(3)], heads, siftflow, "none")["heads"][0]["mean_iu"] == pytest.approx(29.5 / 31)
    score_report.print_report({**report, "net": "n", "weights": "w", "data": None, "iterations": 3, "loss": 1.0,
                               "loss_per_pixel": {}})
    assert "3 classes excluded from the two class means: cow, desert, moon" in capsys.readouterr().out
