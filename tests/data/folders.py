"""Small data sets in VOC's and SBD's format, drawn for the tests, and blobs to feed."""

import os

import numpy as np
import scipy.io
from PIL import Image

from data import colors


class Blob:
    """What a data layer sees of a top: `reshape` and `data`."""

    def __init__(self):
        self.data = np.zeros(())

    def reshape(self, *shape):
        if self.data.shape != shape:
            self.data = np.full(shape, np.nan, np.float32)


def pair(number, classes=21):
    """Return the picture and label of element `number`: sizes differ, the label holds every class and 255."""
    rng = np.random.default_rng(number)
    height, width = 8 + number % 3, 9 + number % 4
    image = np.repeat(np.repeat(rng.integers(0, 256, (2, 3, 3), np.uint8), 8, 0), 8, 1)[:height, :width]
    label = rng.integers(0, classes, (height, width)).astype(np.uint8)
    label[0, 0] = 255
    return image, label


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def voc(folder, count=7, splits=("train", "seg11valid")):
    """Write `count` pairs in VOC's layout; return the folder as str."""
    folder = str(folder)
    for sub in ("JPEGImages", "SegmentationClass"):
        os.makedirs(os.path.join(folder, sub), exist_ok=True)
    ids = [f"2007_{number:06d}" for number in range(count)]
    for number, name in enumerate(ids):
        image, label = pair(number)
        Image.fromarray(image).save(os.path.join(folder, "JPEGImages", f"{name}.jpg"), quality=95)
        colors.save_palette_png(os.path.join(folder, "SegmentationClass", f"{name}.png"), label)
    for split in splits:
        write(os.path.join(folder, "ImageSets", "Segmentation", f"{split}.txt"), "\n".join(ids) + "\n")
    return folder


def label_file(folder):
    """Return the path of the first label of a folder that `voc` wrote."""
    return os.path.join(folder, "SegmentationClass", "2007_000000.png")


def save_mat(path, label, name="GTcls"):
    """Write `label` as SBD does: a 1x1 struct with Boundaries, Segmentation, CategoriesPresent."""
    struct = {"Boundaries": np.zeros((20, 1)), "Segmentation": label, "CategoriesPresent": np.unique(label)[:, None]}
    scipy.io.savemat(path, {name: struct}, do_compression=True)


def sbd(folder, count=5, splits=("train", "val")):
    """Write `count` pairs in SBD's layout; return the folder as str."""
    folder = str(folder)
    for sub in ("img", "cls"):
        os.makedirs(os.path.join(folder, sub), exist_ok=True)
    ids = [f"2008_{number:06d}" for number in range(count)]
    for number, name in enumerate(ids):
        image, label = pair(number)
        Image.fromarray(image).save(os.path.join(folder, "img", f"{name}.jpg"), quality=95)
        save_mat(os.path.join(folder, "cls", f"{name}.mat"), label)
    for split in splits:
        write(os.path.join(folder, f"{split}.txt"), "\n".join(ids) + "\n")
    return folder


def photo(path, height=20, width=30, mode="RGB", **options):
    """Save a picture of coloured squares; return its (height, width, 3) pixels before any loss."""
    rng = np.random.default_rng(height * width)
    image = Image.fromarray(rng.integers(0, 256, (height // 5, width // 5, 3), np.uint8).repeat(5, 0).repeat(5, 1))
    image.convert(mode).save(path, **options)
    return np.asarray(image)


def layer(kind, **params):
    """Return (layer, tops) of a data layer, set up."""
    made = kind()
    made.param_str = str(params)
    tops = [Blob(), Blob()]
    made.setup([], tops)
    return made, tops


def step(made, tops):
    """Run the layer once as a net does; return (id, picture, label), copies."""
    made.reshape([], tops)
    made.forward([], tops)
    return made.current, tops[0].data.copy(), tops[1].data.copy()
