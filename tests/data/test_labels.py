"""Labels in files: palettes, colours, ranges."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from data import labels
from data.dataset import open_dataset
from data.voc import VOCSegDataLayer
from netspec.errors import Error
from tests.data import folders

MEAN = (104.0, 117.0, 123.0)


def test_a_label_outside_the_classes_is_said_with_file_pixel_and_range(tmp_path):
    folder = folders.voc(tmp_path, 1)
    _, label = folders.pair(0)
    label[4, 7] = 21
    Image.fromarray(label).save(folders.label_file(folder))
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, split="train", mean=MEAN)
    with pytest.raises(Error, match=r"label 21 at row 4, column 7 of '.*2007_000000.png' is outside the 21 classes "
                                    r"\(0 to 20, or 255"):
        layer.reshape([], tops)
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, split="train", mean=MEAN, classes=22)
    assert folders.step(layer, tops)[2][0, 0, 4, 7] == 21
    layer.close()


def test_colour_labels_of_the_palette_are_read_and_others_refused(tmp_path, caplog):
    folder = folders.voc(tmp_path, 2)
    _, label = folders.pair(0)
    voc = open_dataset("voc", folder, "train")
    with Image.open(folders.label_file(folder)) as picture:
        rgb = picture.convert("RGB")
    rgb.save(folders.label_file(folder))
    assert np.array_equal(voc.label(0), label)
    assert "is a colour picture" in caplog.text and "2007_000000.png" in caplog.text
    rgb.convert("RGBA").save(folders.label_file(folder))
    assert np.array_equal(voc.label(0), label)
    assert caplog.text.count("colour picture") == 1
    rgb.putpixel((6, 3), (9, 9, 9))
    rgb.save(folders.label_file(folder))
    with pytest.raises(Error, match=r"mode RGB.*\(9, 9, 9\) at row 3, column 6 is not in VOC's palette; save"):
        voc.label(0)


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_grey_labels_hold_class_numbers(tmp_path, mode):
    folder = folders.voc(tmp_path, 1)
    _, label = folders.pair(0)
    Image.fromarray(label.astype(np.uint8 if mode == "L" else np.uint16)).save(folders.label_file(folder))
    got = open_dataset("voc", folder, "train").label(0)
    assert got.dtype == np.uint8 and np.array_equal(got, label)
    if mode != "L":
        label = label.astype(np.uint16)
        label[2, 2] = 300
        Image.fromarray(label).save(folders.label_file(folder))
        with pytest.raises(Error, match="label 300 at row 2, column 2"):
            open_dataset("voc", folder, "train").label(0)


def test_bit_flips_never_escape_as_other_errors(tmp_path):
    folder = folders.voc(tmp_path, 1)
    good = pathlib.Path(folders.label_file(folder)).read_bytes()
    path = tmp_path / "flipped.png"
    for bit in range(0, 8 * len(good), 5):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        try:
            labels.read_label_png(str(path))
        except Error as error:
            assert "flipped.png" in str(error)
