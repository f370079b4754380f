"""PASCAL-Context: 59 classes and the background, under the layer names of the published prototxts (``pascalcontext_layers``).

The published nets train on the 4,998 pictures of VOC 2010's ``train`` and are scored on the 5,105 of its ``val``. The
annotation knows 459 classes; the 59 are found in it by name, all others are background (and not ignored).

``<voc_dir>``/VOC2010: ImageSets/Main/<split>.txt, JPEGImages/ID.jpg. ``<context_dir>``: trainval/ID.mat (matrix ``LabelMap``,
1 to 459, 0 nothing), labels.txt (``number: name`` of the 459) and 59_labels.txt (of the 59).
"""

import functools
import os

import numpy as np

from data import transform
from data.dataset import Dataset
from data.mat import read_matrix
from data.segmentation import SegmentationDataLayer
from netspec import files
from netspec.errors import Error, PathError, nearest

# What 59_labels.txt calls otherwise than labels.txt.
RENAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
MEAN = (104.007, 116.669, 122.679)  # BGR
YEAR = "VOC2010"


class PASCALContext(Dataset):
    """PASCAL-Context: `folder` holds VOC2010/, `context` the annotation (default: beside `folder`, as published)."""

    title = "PASCAL-Context"
    source = ("http://www.cs.stanford.edu/~roozbeh/pascal-context (trainval.tar.gz, labels.txt, 59_labels.txt) and "
              "host.robots.ox.ac.uk/pascal/VOC (VOC2010, train/val data)")
    cure = "name other folders with --data voc_dir=FOLDER --data context_dir=FOLDER"
    folders = {"voc_dir": "data/pascal", "context_dir": "data/pascal-context"}
    splits = {"train": (4998,), "val": (5105,), "trainval": (10103,)}
    needed = ("train", "val")
    default_classes = 60
    names_in_folder = False

    def __init__(self, folder, split, classes=None, beside=None, complete=True, context=None):
        voc = self.find_folder(folder, beside)
        self.context = Dataset.find_folder.__func__(type(self), context or os.path.join(voc, "..", "pascal-context"), beside)
        self.default_names, self._table = self._read_names()
        self.default_classes = len(self.default_names)
        super().__init__(folder, split, classes, beside, complete)

    @classmethod
    def find_folder(cls, folder, beside=None):
        """Return the folder that holds VOC2010/; VOC2010 itself is taken, too."""
        found = os.path.normpath(super().find_folder(folder, beside))
        if os.path.basename(found) == YEAR:
            found = os.path.dirname(found)
        if not os.path.isdir(os.path.join(found, YEAR, "ImageSets")):
            below = os.path.join(found, "VOCdevkit")
            hint = f"; did you mean '{below}'?" if os.path.isdir(os.path.join(below, YEAR)) else f"; get it from {cls.source}"
            raise PathError(f"'{found}' holds no {YEAR}/ImageSets/, and {cls.title} labels the pictures of that year{hint}")
        return found

    @classmethod
    def open_for_check(cls, folders, split):
        """Open a split of the two folders."""
        return cls(folders["voc_dir"], split, complete=False, context=folders["context_dir"])

    def places(self):
        """Return both folders."""
        return {"voc_dir": os.path.join(self.folder, YEAR), "context_dir": self.context}

    def list_path(self):
        """Return VOC2010/ImageSets/Main/<split>.txt."""
        return os.path.join(self.folder, YEAR, "ImageSets", "Main", f"{self.split}.txt")

    def image_path(self, name):
        """Return VOC2010/JPEGImages/<name>.jpg."""
        return os.path.join(self.folder, YEAR, "JPEGImages", f"{name}.jpg")

    def label_path(self, name):
        """Return trainval/<name>.mat of the annotation."""
        return os.path.join(self.context, "trainval", f"{name}.mat")

    def label(self, which):
        """Return a label map, (H, W) uint8: 0 the background, 1 to 59; nothing is ignored."""
        path = self.label_path(self.name(which))
        numbers = read_matrix(path, "LabelMap")
        if numbers.ndim != 2 or numbers.dtype.kind not in "uibf":
            raise Error(f"label '{path}' must be (H, W) numbers, got {numbers.shape} {numbers.dtype}")
        bad = ~((numbers >= 0) & (numbers < len(self._table)) & (numbers == np.floor(numbers)))
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise Error(f"label {numbers[row, column]:g} at row {row}, column {column} of '{path}' is outside the "
                        f"{len(self._table) - 1} classes of labels.txt; {int(bad.sum())} such pixels here")
        return self._table[numbers.astype(np.int64)]

    def _read_names(self):
        # (names of the task's classes, table number of the annotation -> class)
        every, task = (_numbered(os.path.join(self.context, name), self.source) for name in ("labels.txt", "59_labels.txt"))
        task = [name for name in task.values() if name != "background"]  # numbered by their order; some copies list it, too
        if not 1 <= len(task) <= 255:
            raise Error(f"'{os.path.join(self.context, '59_labels.txt')}' names {len(task)} classes; 1 to 255 are accepted")
        numbers = {name: number for number, name in every.items()}
        table = np.zeros(max(every, default=0) + 1, np.uint8)
        for number, name in enumerate(task, 1):
            known = next((one for one in (name, RENAMES.get(name)) if one in numbers), None)
            if known is None:
                raise Error(f"class '{name}' of '{os.path.join(self.context, '59_labels.txt')}' is not in labels.txt"
                            f"{nearest(name, numbers)}")
            table[numbers[known]] = number
        return ["background", *task], table


def _numbered(path, source):
    # {number: name without spaces} of lines such as "3: air conditioner".
    if not os.path.isfile(path):
        raise PathError(f"PASCAL-Context: '{path}' is missing; get it from {source}")
    found = {}
    for count, line in enumerate(files.read_text(path).lstrip("\ufeff").splitlines(), 1):
        number, colon, name = line.partition(":")
        if not line.strip():
            continue
        name = name.replace(" ", "").strip()
        if not colon or not number.strip().isdigit() or not name or not 0 <= int(number) < 65536:
            raise Error(f"{path}:{count}: expected 'number: name', got {line[:80]!r}")
        if int(number) in found or name in found.values():
            raise Error(f"{path}:{count}: '{line[:80].strip()}' is there a second time")
        found[int(number)] = name
    return found


class PASCALContextSegDataLayer(SegmentationDataLayer):
    """PASCAL-Context's (picture, label) pairs; keys voc_dir, context_dir, split, randomize, seed.

    Tops: data (1, 3, H, W) BGR minus mean, label (1, 1, H, W) 0 to 59. See `SegmentationDataLayer` for the other keys.
    """

    dataset_class = PASCALContext
    folder_key = "voc_dir"
    default_mean = MEAN

    def keys(self):
        """Return the keys of param_str."""
        return [*super().keys(), "context_dir"]

    def check_params(self, params):
        """Check the second folder, too."""
        super().check_params(params)
        if not isinstance(params.get("context_dir"), str):
            raise Error(f"{self.where()}: 'context_dir' in param_str must be the folder of the annotation, "
                        f"got {params.get('context_dir')!r}")

    def open(self, folder, split, classes):
        """Return the data set."""
        return PASCALContext(folder, split, classes, self.prototxt_path, context=self.params["context_dir"])

    def prepare(self):
        """Return how the picture is prepared. The published layer subtracts a float32 mean."""
        return {"data": functools.partial(transform.preprocess, mean=np.float32(self.params["mean"]))}


DATASETS = {"pascalcontext": PASCALContext}
