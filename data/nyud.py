"""NYUDv2 with the 40 classes of Gupta et al., under the layer names of the published prototxts (module ``nyud_layers``).

The published nets train on 795 pictures (``trainval``: 381 of ``train``, 414 of ``val``) and are scored on 654 (``test``).

``<nyud_dir>``: <split>.txt (numbers), data/images/img_N.png (colour), data/depth/img_N.png (16 bits, millimetres, filled),
data/hha/img_N.png (see hha.py), segmentation/img_N.mat (matrix ``segmentation``: 0 is void, 1 to 40 the classes).
The published lists are of ``train``, ``val`` and ``test``: where ``trainval.txt`` is missing it is the first two, one after
the other.
"""

import functools
import os

import numpy as np

from data import labels, pictures, transform
from data.dataset import Dataset
from data.mat import read_matrix
from data.segmentation import SegmentationDataLayer
from netspec.errors import Error, PathError, UnknownName, nearest

CLASSES = ["wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture", "counter",
           "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books",
           "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
           "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop"]
TOPS = ("color", "depth", "hha", "label")
FOLDERS = {"color": ("data", "images"), "depth": ("data", "depth"), "hha": ("data", "hha"), "label": ("segmentation",)}
COLOR_MEAN = (116.190, 97.203, 92.318)  # BGR
HHA_MEAN = (132.431, 94.076, 118.477)  # in the file's order: disparity, height, angle
LOG_DEPTH_MEAN = 7.844  # of the natural logarithm of millimetres


class NYUD(Dataset):
    """NYUDv2: `folder` is the folder `nyud` that the published archive holds; `tops` are the parts that will be read."""

    title = "NYUDv2"
    source = "http://dl.caffe.berkeleyvision.org/nyud.tar.gz (or, by Gupta et al., people.eecs.berkeley.edu/~sgupta/cvpr13)"
    cure = "name another folder with --data nyud_dir=FOLDER"
    folders = {"nyud_dir": "data/nyud"}
    splits = {"train": (381,), "val": (414,), "trainval": (795,), "test": (654,)}
    needed = ("trainval", "test")
    default_classes = 40
    default_names = CLASSES
    names_in_folder = False  # the published classes.txt ends in remarks
    parts = TOPS
    part_cures = {"hha": "make them from the depth images: python -m data.hha NYUD/data/depth -o NYUD/data/hha --camera nyud"}

    def __init__(self, folder, split, classes=None, beside=None, complete=True, tops=("color", "label")):
        self.tops = tops
        super().__init__(folder, split, classes, beside, complete)

    @classmethod
    def find_folder(cls, folder, beside=None):
        """Return the folder that holds segmentation/ and data/."""
        found = super().find_folder(folder, beside)
        if not os.path.isdir(os.path.join(found, "segmentation")):
            below = os.path.join(found, "nyud")
            hint = f"; did you mean '{below}'?" if os.path.isdir(os.path.join(below, "segmentation")) else \
                f"; get it from {cls.source}"
            raise PathError(f"'{found}' is not a {cls.title} folder: it holds no segmentation/{hint}")
        return found

    @classmethod
    def open_for_check(cls, folders, split):
        """Open a split with all parts."""
        return cls(folders["nyud_dir"], split, complete=False, tops=TOPS)

    def list_path(self):
        """Return <split>.txt."""
        return os.path.join(self.folder, f"{self.split}.txt")

    def _read_list(self, path):
        if self.split == "trainval" and not os.path.exists(path):
            train, val = (os.path.join(self.folder, f"{half}.txt") for half in ("train", "val"))
            return super()._read_list(train) + super()._read_list(val)
        return super()._read_list(path)

    def list_hint(self):
        """Say where the lists are."""
        return "; the lists are in the published FCN repository (data/nyud)"

    def path(self, part, name):
        """Return data/images/img_<name>.png and its like."""
        return os.path.join(self.folder, *FOLDERS[part], f"img_{name}.{'mat' if part == 'label' else 'png'}")

    def image_path(self, name):
        """Return the colour picture's path."""
        return self.path("color", name)

    def label_path(self, name):
        """Return the label's path."""
        return self.path("label", name)

    def used_parts(self):
        """Return the tops."""
        return self.tops

    def read(self, part, which):
        """Return a part of a sample: colour and HHA (H, W, 3) uint8, depth (H, W) float32 millimetres, label (H, W) uint8."""
        path = self.path(part, self.name(which))
        if part == "label":
            return labels.from_one(read_matrix(path, "segmentation"), self.classes, path)
        return read_depth(path) if part == "depth" else pictures.read_image(path)

    def image(self, which):
        """Return the picture to look at: the colours, or HHA where they are not there and a net does not need them."""
        there = [part for part in ("color", "hha") if os.path.isfile(self.path(part, self.name(which)))]
        return self.read(there[0] if there else "color", which)

    def label(self, which):
        """Return the label map."""
        return self.read("label", which)

    def pair(self, which):
        """Return (picture, label map)."""
        return self.image(which), self.label(which)


def read_depth(path):
    """Read a depth image; (H, W) float32, as in the file. A pixel without depth is an error: it has no logarithm."""
    with pictures.opened(path, "depth image") as picture:
        if not picture.mode.startswith("I"):
            raise Error(f"depth image '{path}' is of mode {picture.mode}; it must have one channel of 16 bits, in millimetres")
        depth = np.asarray(picture).astype(np.float32)
    if depth.min() <= 0:
        row, column = (int(i) for i in np.argwhere(depth <= 0)[0])
        raise Error(f"depth image '{path}' has no depth at row {row}, column {column}; the nets read its logarithm, so use "
                    "the depth whose holes were filled")
    return depth


def prepare_hha(hha):
    """(H, W, 3) uint8 -> (3, H, W) float32 minus mean; the channels stay as they are in the file."""
    return np.ascontiguousarray((hha.astype(np.float32) - np.float32(HHA_MEAN)).transpose(2, 0, 1))


def prepare_depth(depth):
    """(H, W) float32 millimetres -> (1, H, W) float32, the logarithm minus its mean."""
    return (np.log(depth) - np.float32(LOG_DEPTH_MEAN))[None]


class NYUDSegDataLayer(SegmentationDataLayer):
    """NYUDv2's samples; keys nyud_dir, split, tops (a list of color, depth, hha, label), randomize, seed.

    Tops, as many as named: color (1, 3, H, W) BGR minus mean, depth (1, 1, H, W) the logarithm of millimetres minus mean,
    hha (1, 3, H, W) minus mean, label (1, 1, H, W) 0 to 39, void 255. See `SegmentationDataLayer` for the other keys.
    """

    dataset_class = NYUD
    folder_key = "nyud_dir"
    default_mean = COLOR_MEAN
    has_background = False

    def keys(self):
        """Return the keys of param_str."""
        return [*super().keys(), "tops"]

    def check_params(self, params):
        """Check the tops, too."""
        super().check_params(params)
        tops = params.get("tops")
        if not isinstance(tops, list | tuple) or not tops:
            raise Error(f"{self.where()}: 'tops' in param_str must be a list of {', '.join(TOPS)}; got {tops!r}")
        for number, top in enumerate(tops):
            if top not in TOPS:
                raise UnknownName(f"{self.where()}: unknown top {top!r} in param_str{nearest(str(top), TOPS)}; "
                                  f"tops: {', '.join(TOPS)}")
            if top in tops[:number]:
                raise Error(f"{self.where()}: 'tops' in param_str names '{top}' twice")

    def names_of_tops(self):
        """Return the tops of param_str."""
        return tuple(self.params["tops"])

    def open(self, folder, split, classes):
        """Return the data set; only the files of the tops must be there."""
        return NYUD(folder, split, classes, self.prototxt_path, tops=self.names_of_tops())

    def prepare(self):
        """Return how the pictures are prepared. The published layer subtracts float32 means."""
        mean = np.float32(self.params["mean"])
        return {"color": functools.partial(transform.preprocess, mean=mean), "depth": prepare_depth, "hha": prepare_hha}


DATASETS = {"nyud": NYUD}
