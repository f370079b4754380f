"""PASCAL VOC and the Semantic Boundaries Dataset (SBD), under the layer names of the published prototxts.

The published nets train on SBD's 8,498 pictures (``SBDDSegDataLayer``, split ``train``) and are scored on the 736
pictures of VOC 2011's validation set that SBD does not train on (``VOCSegDataLayer``, split ``seg11valid``). Their
prototxts call the module ``voc_layers``; the Python layer looks here for it.

``<voc_dir>``: ImageSets/Segmentation/<split>.txt, JPEGImages/ID.jpg, SegmentationClass/ID.png (palette PNG).
``<sbdd_dir>``: <split>.txt, img/ID.jpg, cls/ID.mat (struct GTcls, field Segmentation). An ``sbdd_dir`` in VOC's layout,
such as the embedded sample, is read as that.
"""

import os

import numpy as np

from data.dataset import Dataset
from data.mat import read_mat
from data.segmentation import SegmentationDataLayer
from netspec.errors import Error, PathError

CLASSES = ["background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
           "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"]


class VOC(Dataset):
    """PASCAL VOC: `folder` is that of one year, such as VOCdevkit/VOC2012."""

    title = "PASCAL VOC"
    source = "host.robots.ox.ac.uk/pascal/VOC (VOC2011 or VOC2012, train/val data)"
    folders = {"voc_dir": "data/pascal/VOC2011"}
    splits = {"train": (1112, 1464), "val": (1111, 1449), "trainval": (2223, 2913), "seg11valid": (736,)}  # 2011, 2012
    needed = ("seg11valid",)
    default_classes = 21
    default_names = CLASSES

    @classmethod
    def find_folder(cls, folder, beside=None):
        """Return the year's folder; one level too high is an error that names the right one."""
        found = super().find_folder(folder, beside)
        if not os.path.isdir(os.path.join(found, "ImageSets")):
            below = sorted(os.path.join(base, name) for base in (found, os.path.join(found, "VOCdevkit"))
                           if os.path.isdir(base) for name in os.listdir(base)
                           if os.path.isdir(os.path.join(base, name, "ImageSets")))
            hint = f"; did you mean '{below[-1]}'?" if below else f"; get it from {cls.source}"
            raise PathError(f"'{found}' is not a {cls.title} folder: it holds no ImageSets/{hint}")
        return found

    def list_path(self):
        """Return ImageSets/Segmentation/<split>.txt."""
        return os.path.join(self.folder, "ImageSets", "Segmentation", f"{self.split}.txt")

    def image_path(self, name):
        """Return JPEGImages/<name>.jpg."""
        return os.path.join(self.folder, "JPEGImages", f"{name}.jpg")

    def label_path(self, name):
        """Return SegmentationClass/<name>.png."""
        return os.path.join(self.folder, "SegmentationClass", f"{name}.png")

    def list_hint(self):
        """Say that the paper's list is not part of VOC."""
        if self.split == "seg11valid":
            return ("; seg11valid.txt is not part of VOC: it is VOC 2011's val without what SBD trains on, and "
                    "'python -m data.seg11valid VOC_FOLDER SBD_FOLDER' writes it")
        return ""


class SBD(VOC):
    """The Semantic Boundaries Dataset: `folder` is the `dataset` folder of its archive."""

    title = "Semantic Boundaries Dataset"
    source = ("Berkeley's Semantic Boundaries Dataset page, www.cs.berkeley.edu/~bharath2/codes/SBD/download.html "
              "(benchmark.tgz, folder benchmark_RELEASE/dataset)")
    folders = {"sbdd_dir": "data/sbdd/dataset"}
    splits = {"train": (8498,), "val": (2857,)}
    needed = ("train",)

    @classmethod
    def find_folder(cls, folder, beside=None):
        """Return the folder that holds img/ and cls/, or a folder in VOC's layout."""
        found = Dataset.find_folder.__func__(cls, folder, beside)
        if not os.path.isdir(os.path.join(found, "img")) and not cls._is_voc(found):
            below = [os.path.join(found, *parts) for parts in (("dataset",), ("benchmark_RELEASE", "dataset"))]
            below = [path for path in below if os.path.isdir(os.path.join(path, "img"))]
            hint = f"; did you mean '{below[0]}'?" if below else f"; get it from {cls.source}"
            raise PathError(f"'{found}' is not a {cls.title} folder: it holds no img/{hint}")
        return found

    @staticmethod
    def _is_voc(folder):
        return not os.path.isdir(os.path.join(folder, "img")) and os.path.isdir(os.path.join(folder, "ImageSets"))

    def list_path(self):
        """Return <split>.txt."""
        return super().list_path() if self._voc else os.path.join(self.folder, f"{self.split}.txt")

    def image_path(self, name):
        """Return img/<name>.jpg."""
        return super().image_path(name) if self._voc else os.path.join(self.folder, "img", f"{name}.jpg")

    def label_path(self, name):
        """Return cls/<name>.mat."""
        return super().label_path(name) if self._voc else os.path.join(self.folder, "cls", f"{name}.mat")

    @property
    def _voc(self):
        # Asked for every picture: looked up once.
        if "_layout" not in self.__dict__:
            self._layout = self._is_voc(self.folder)
        return self._layout

    def read_label(self, path):
        """Read GTcls.Segmentation of a .mat file (or a palette PNG in VOC's layout)."""
        return read_label_mat(path) if path.endswith(".mat") else super().read_label(path)

    def list_hint(self):
        """SBD brings its own lists."""
        return ""


def read_label_mat(path):
    """Read the class map of one SBD file: field Segmentation of the 1x1 struct GTcls, (H, W) integers."""
    content = read_mat(path, names=["GTcls"])
    label = content["GTcls"].get("Segmentation") if isinstance(content.get("GTcls"), dict) else None
    if not isinstance(label, np.ndarray):
        raise Error(f"label '{path}' holds no GTcls.Segmentation; is it of SBD's cls/ folder (not inst/)?")
    if label.dtype.kind == "f" and np.array_equal(label, np.rint(label)) and np.abs(label).max(initial=0) < 2**31:
        label = label.astype(np.int64)  # MATLAB's numbers are doubles unless said otherwise
    return label


class VOCSegDataLayer(SegmentationDataLayer):
    """PASCAL VOC's (picture, label) pairs; keys voc_dir, split, mean, randomize, seed (see `SegmentationDataLayer`)."""

    dataset_class = VOC
    folder_key = "voc_dir"


class SBDDSegDataLayer(SegmentationDataLayer):
    """SBD's (picture, label) pairs; keys sbdd_dir, split, mean, randomize, seed (see `SegmentationDataLayer`)."""

    dataset_class = SBD
    folder_key = "sbdd_dir"


DATASETS = {"voc": VOC, "sbdd": SBD}
