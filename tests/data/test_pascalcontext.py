"""PASCAL-Context: the task's classes are found in the annotation by name; what is refused."""

import os

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data.dataset import open_dataset
from data.pascalcontext import PASCALContext, PASCALContextSegDataLayer
from netspec.errors import Error, PathError
from tests.data import folders
from tests.data.folders import CONTEXT_NAMES as NAMES
from tests.data.folders import CONTEXT_TASK as TASK


def test_labels_are_translated_as_the_published_layer_does(tmp_path):
    voc, context = folders.context(tmp_path)
    layer, tops = folders.layer(PASCALContextSegDataLayer, voc_dir=voc, context_dir=context, split="val", seed=1337)
    full = [name.replace(" ", "") for name in NAMES]
    task = list(TASK)
    for ours, theirs in (("table", "diningtable"), ("bedclothes", "bedcloth"), ("cloth", "clothes")):
        task[task.index(theirs)] = ours
    for _ in range(3):
        name, data, label = folders.step(layer, tops)
        image = np.asarray(Image.open(f"{voc}/VOC2010/JPEGImages/{name}.jpg"))
        expected = image.astype(np.float32)[:, :, ::-1] - np.float32((104.007, 116.669, 122.679))
        assert np.array_equal(data[0], expected.transpose(2, 0, 1))
        raw = scipy.io.loadmat(f"{context}/trainval/{name}.mat")["LabelMap"]
        for y in range(raw.shape[0]):
            for x in range(raw.shape[1]):
                known = raw[y, x] > 0 and full[raw[y, x] - 1] in task
                assert label[0, 0, y, x] == (task.index(full[raw[y, x] - 1]) + 1 if known else 0)
    assert layer.dataset.names == ["background", *TASK]  # by their names in the task
    layer.close()


def test_the_folders_are_found_as_published_and_one_level_off(tmp_path):
    voc, context = folders.context(tmp_path)
    assert len(open_dataset("pascalcontext", voc, "train")) == 3  # pascal-context beside pascal
    assert len(PASCALContext(os.path.join(voc, "VOC2010"), "train", context=context)) == 3
    os.rename(voc, tmp_path / "VOCdevkit")
    with pytest.raises(PathError, match="holds no VOC2010/ImageSets/.*did you mean '.*VOCdevkit'"):
        PASCALContext(str(tmp_path), "train", context=context)
    with pytest.raises(PathError, match="pascal-context"):
        PASCALContext(str(tmp_path / "VOCdevkit"), "train", context=str(tmp_path / "absent"))


@pytest.mark.parametrize("file, text, message", [
    ("labels.txt", "1: accordion\ntable\n", r"labels.txt:2: expected 'number: name', got 'table'"),
    ("labels.txt", "1: dog\n1: cat\n", "labels.txt:2: '1: cat' is there a second time"),
    ("59_labels.txt", "1: dgo\n", "class 'dgo' of '.*59_labels.txt' is not in labels.txt; did you mean 'dog'"),
    ("59_labels.txt", "\n", "names 0 classes"),
    ("59_labels.txt", None, "59_labels.txt' is missing; get it from"),
])
def test_lists_of_names_that_do_not_fit_are_refused(tmp_path, file, text, message):
    voc, context = folders.context(tmp_path)
    path = os.path.join(context, file)
    os.unlink(path) if text is None else folders.write(path, text)
    with pytest.raises(Error, match=message):
        open_dataset("pascalcontext", voc, "val")


def test_a_background_that_is_listed_counts_once(tmp_path):
    voc, context = folders.context(tmp_path)
    before = open_dataset("pascalcontext", voc, "val").label(0)
    folders.write(f"{context}/59_labels.txt", "".join(f"{n}: {name}\n" for n, name in enumerate(["background", *TASK])))
    assert np.array_equal(open_dataset("pascalcontext", voc, "val").label(0), before)


@pytest.mark.parametrize("value, message", [
    (len(NAMES) + 1, rf"label {len(NAMES) + 1} at row 1, column 2 of '.*000000.mat' is outside the {len(NAMES)} classes of l"),
    (-1, "label -1 at row 1"), (2.5, "label 2.5 at row 1"), (np.nan, "label nan at row 1")])
def test_a_label_outside_the_list_is_an_error_with_its_place(tmp_path, value, message):
    voc, context = folders.context(tmp_path)
    path = f"{context}/trainval/2008_000000.mat"
    label = scipy.io.loadmat(path)["LabelMap"].astype(float)
    label[1, 2] = value
    scipy.io.savemat(path, {"LabelMap": label})
    with pytest.raises(Error, match=message):
        open_dataset("pascalcontext", voc, "val").label(0)
    scipy.io.savemat(path, {"Label": label})
    with pytest.raises(Error, match="holds no matrix 'LabelMap'"):
        open_dataset("pascalcontext", voc, "val").label(0)


def test_the_second_folder_must_be_given(tmp_path):
    voc, _ = folders.context(tmp_path)
    with pytest.raises(Error, match="'context_dir' in param_str must be the folder of the annotation, got None"):
        folders.layer(PASCALContextSegDataLayer, voc_dir=voc, split="val")
