"""VOC's colours and palette PNGs."""

import numpy as np
import pytest
from PIL import Image

from data import colors
from netspec.errors import Error
from tests.support import shared


def test_palette_is_vocs():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0),
             15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for number, colour in known.items():
        assert tuple(colors.PALETTE[number]) == colour
    assert len({tuple(c) for c in colors.PALETTE.tolist()}) == 256
    assert np.array_equal(colors.palette(21), colors.PALETTE[:21])


def test_palette_equals_that_of_the_real_labels():
    path = next(shared("real/voc/SegmentationClass").glob("*.png"))
    with Image.open(path) as picture:
        real = np.array(picture.getpalette()).reshape(-1, 3)
    assert np.array_equal(colors.PALETTE[:len(real)], real)


def test_colours_and_back():
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = colors.colorize(label)
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8
    back, alien = colors.from_colours(picture)
    assert alien is None and np.array_equal(back, label)
    picture[3, 5] = (1, 2, 3)
    assert colors.from_colours(picture) == (None, (3, 5))


def test_overlay_blends_objects_and_leaves_the_background():
    image = np.full((2, 2, 3), 100, np.uint8)
    label = np.array([[0, 1], [1, 0]])
    out = colors.overlay(image, label, alpha=0.5)
    assert tuple(out[0, 0]) == (100, 100, 100) and tuple(out[0, 1]) == (114, 50, 50)
    assert tuple(colors.overlay(image, label, 0.5, background=None)[0, 0]) == (50, 50, 50)
    with pytest.raises(Error, match="differ in size"):
        colors.overlay(image, np.zeros((3, 2), int))


def test_palette_png_keeps_the_class_numbers(tmp_path):
    label = np.array([[0, 20, 255], [7, 7, 1]])
    path = tmp_path / "new" / "a.png"
    colors.save_palette_png(path, label)
    with Image.open(path) as picture:
        assert picture.mode == "P" and np.array_equal(np.asarray(picture), label)
        assert picture.getpalette()[60:63] == [0, 64, 128]
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_labels_that_no_png_holds_are_refused():
    for bad in (np.array([[256]]), np.array([[-1]]), np.zeros((2, 2)), np.zeros((1, 2, 2), int)):
        with pytest.raises(Error):
            colors.colorize(bad)
