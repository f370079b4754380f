"""What all data sets share: lists, files, classes."""

import os

import numpy as np
import pytest
from PIL import Image

from data.dataset import open_dataset
from netspec.errors import Error, PathError, UnknownName
from tests.data import folders


def test_sizes_of_picture_and_label_must_agree(tmp_path):
    folder = folders.voc(tmp_path, 1)
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(folders.label_file(folder))
    with pytest.raises(Error, match=r"000000.jpg' is 8x9 \(height x width\) but its label '.*000000.png' is 5x6"):
        open_dataset("voc", folder, "train").pair(0)


def test_missing_files_are_said_at_once(tmp_path):
    folder = folders.voc(tmp_path)
    os.unlink(os.path.join(folder, "JPEGImages", "2007_000003.jpg"))
    os.unlink(folders.label_file(folder))
    with pytest.raises(PathError, match="2 of the 14 files of split 'train' are missing.*000000.png.*--sample"):
        open_dataset("voc", folder, "train")


def test_a_dataset_is_read_without_a_net(tmp_path):
    folder = folders.voc(tmp_path, 3)
    voc = open_dataset("voc", folder, "seg11valid")
    assert len(voc) == 3 and voc.ids[1] == "2007_000001" and voc.names[15] == "person" and voc.classes == 21
    assert np.array_equal(voc.label(1), folders.pair(1)[1]) and np.array_equal(voc.label("2007_000001"), voc.label(1))
    assert voc.image(2).shape == voc.label(2).shape + (3,)
    assert [name for name, image, label in voc] == voc.ids
    with pytest.raises(UnknownName, match="unknown data set 'vok'; did you mean 'voc'"):
        open_dataset("vok", folder, "train")


def test_classes_txt_names_and_counts_the_classes(tmp_path):
    folder = folders.voc(tmp_path, 1)
    folders.write(os.path.join(folder, "classes.txt"), "background\ncat\n")
    voc = open_dataset("voc", folder, "train")
    assert voc.classes == 2 and voc.names == ["background", "cat"]
    with pytest.raises(Error, match="outside the 2 classes"):
        voc.label(0)
    assert open_dataset("voc", folder, "train", classes=3).names[2] == "class 2"
