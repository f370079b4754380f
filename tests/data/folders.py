"""Small data sets in the true format of each set, drawn for the tests, and blobs to feed."""

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


def numbers(number, classes, shape, void=0):
    """Return a label map that counts from 1 to `classes`, with some `void`; every class is there when there is room."""
    rng = np.random.default_rng(100 + number)
    label = rng.permutation(np.arange(shape[0] * shape[1]) % classes).reshape(shape) + 1
    label[rng.random(shape) < 0.1] = void
    return label


def depth_of(number, shape):
    """Return the depth image of element `number`, (H, W) uint16 millimetres."""
    rows = np.arange(shape[0])[:, None] * np.ones(shape[1], int)
    return (4000 - 10 * rows + 7 * number).astype(np.uint16)


def nyud(folder, count=4, parts=("images", "depth", "hha"), lists=None):
    """Write `count` samples in the layout of the published NYUDv2 archive; return the folder as str.

    `lists`: {split: positions}, by default train, val and test.
    """
    folder, ids = str(folder), [str(5001 + number) for number in range(count)]
    for sub in (*(os.path.join("data", part) for part in parts), "segmentation"):
        os.makedirs(os.path.join(folder, sub), exist_ok=True)
    for number, name in enumerate(ids):
        rng = np.random.default_rng(number)
        shape = (9 + number % 2, 8 + number % 3)
        pictures = {"images": rng.integers(0, 256, (*shape, 3), np.uint8), "depth": depth_of(number, shape),
                    "hha": rng.integers(0, 256, (*shape, 3), np.uint8)}
        for part in parts:
            Image.fromarray(pictures[part]).save(os.path.join(folder, "data", part, f"img_{name}.png"))
        scipy.io.savemat(os.path.join(folder, "segmentation", f"img_{name}.mat"),
                         {"segmentation": numbers(number, 40, shape).astype(np.uint8)}, do_compression=True)
    for split, positions in (lists or {"train": [0, 1], "val": [2], "test": [3]}).items():
        write(os.path.join(folder, f"{split}.txt"), "".join(f"{ids[i]}\n" for i in positions))
    return folder


BELOW = "spatial_envelope_256x256_static_8outdoorcategories"


def siftflow(folder, count=3, shape=(16, 15), semantic=33):
    """Write `count` samples in SIFT Flow's layout; return the folder as str."""
    folder, ids = str(folder), [f"coast_natu{975 + number}" for number in range(count)]
    for sub in ("Images", "SemanticLabels", "GeoLabels"):
        os.makedirs(os.path.join(folder, sub, BELOW), exist_ok=True)
    for number, name in enumerate(ids):
        picture = np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(picture).save(os.path.join(folder, "Images", BELOW, f"{name}.jpg"))
        for sub, label in (("SemanticLabels", numbers(number, semantic, shape).astype(np.uint8)),
                           ("GeoLabels", numbers(number + 50, 3, shape, -1).astype(np.int16))):
            scipy.io.savemat(os.path.join(folder, sub, BELOW, f"{name}.mat"), {"S": label, "names": np.array([["a"]], object)})
    for split in ("trainval", "test"):
        write(os.path.join(folder, f"{split}.txt"), "".join(f"{name}\n" for name in ids))
    return folder


# Of the 459 names of the annotation, in its order of letters; enough for every rule of the mapping.
CONTEXT_NAMES = ["accordion", "aeroplane", "air conditioner", "bag", "bedclothes", "cloth", "clothes tree", "dog", "sky", "table",
                 "unknown", "wood"]
CONTEXT_TASK = ["aeroplane", "diningtable", "dog", "bag", "clothes", "sky", "bedcloth", "wood"]


def context(folder, count=3):
    """Write `count` samples of PASCAL-Context: pascal/VOC2010 and pascal-context; return both folders."""
    voc_folder, annotation = os.path.join(str(folder), "pascal"), os.path.join(str(folder), "pascal-context")
    ids = [f"2008_{number:06d}" for number in range(count)]
    os.makedirs(os.path.join(voc_folder, "VOC2010", "JPEGImages"))
    os.makedirs(os.path.join(annotation, "trainval"))
    for number, name in enumerate(ids):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (7, 6 + number, 3), np.uint8)).save(
            os.path.join(voc_folder, "VOC2010", "JPEGImages", f"{name}.jpg"))
        label = rng.permutation(np.arange(7 * (6 + number)) % (len(CONTEXT_NAMES) + 1)).reshape(7, 6 + number)
        scipy.io.savemat(os.path.join(annotation, "trainval", f"{name}.mat"), {"LabelMap": label.astype(np.uint16)})
    for split in ("train", "val"):
        write(os.path.join(voc_folder, "VOC2010", "ImageSets", "Main", f"{split}.txt"), "".join(f"{name}\n" for name in ids))
    for file, names in (("labels.txt", CONTEXT_NAMES), ("59_labels.txt", CONTEXT_TASK)):
        write(os.path.join(annotation, file), "".join(f"{number}: {name}\n" for number, name in enumerate(names, 1)))
    return voc_folder, annotation


def cut(path, length):
    """Keep the first `length` bytes of a file (negative: all but the last)."""
    with open(path, "r+b") as file:
        file.truncate(length if length >= 0 else os.path.getsize(path) + length)


def photo(path, height=20, width=30, mode="RGB", **options):
    """Save a picture of coloured squares; return its (height, width, 3) pixels before any loss."""
    rng = np.random.default_rng(height * width)
    image = Image.fromarray(rng.integers(0, 256, (height // 5, width // 5, 3), np.uint8).repeat(5, 0).repeat(5, 1))
    image.convert(mode).save(path, **options)
    return np.asarray(image)


def layer(kind, count=2, **params):
    """Return (layer, tops) of a data layer, set up with `count` tops."""
    made = kind()
    made.param_str = str(params)
    tops = [Blob() for _ in range(count)]
    made.setup([], tops)
    return made, tops


def step(made, tops):
    """Run the layer once as a net does; return (id, picture, label) or what the tops are, copies."""
    made.reshape([], tops)
    made.forward([], tops)
    return made.current, *(top.data.copy() for top in tops)
