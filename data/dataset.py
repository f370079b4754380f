"""What every segmentation data set shares: lists of pictures, where they lie, and checks that all is there.

A data set is one small file beside this one: a `Dataset` that knows where its files lie, a
`segmentation.SegmentationDataLayer` that names its folder key, and ``DATASETS = {"name": Class}`` for `open_dataset`.
See voc.py.
"""

import functools
import importlib
import logging
import os
import pkgutil

from data import labels, pictures
from netspec import files
from netspec.errors import Error, PathError, UnknownName, nearest

SAMPLE_CURE = ("name another folder with --data (such as --data voc_dir=FOLDER), or run with --sample for the embedded data set "
               "(python -m data.sample draws it)")

log = logging.getLogger("deepjet")


class Dataset:
    """A split of a segmentation data set: ids, pictures and labels.

    Parameters
    ----------
    folder : where the data set lies; tried as given, beside the file `beside`, from the project's root.
    split : the name of the list of ids.
    classes : labels are 0 to classes - 1, or 255. None: the lines of `folder`/classes.txt, else `default_classes`.
    beside : a file, usually the prototxt that names the folder.

    A class for a new data set sets the attributes below and defines `list_path`, `image_path` and `label_path`.
    """

    title = "data set"
    source = "its authors"  # where to get it, for the error when it is missing
    default_classes = 21
    default_names = None
    _said_that_converted = False

    def __init__(self, folder, split, classes=None, beside=None):
        self.folder = self.find_folder(folder, beside)
        self.split = split
        self.names, self.classes = self._classes(classes)
        self.ids = self._read_list(self.list_path())
        self._check_files()

    def list_path(self):
        """Return the path of the split's list of ids."""
        raise NotImplementedError

    def image_path(self, name):
        """Return the path of the picture with the id `name`."""
        raise NotImplementedError

    def label_path(self, name):
        """Return the path of the label with the id `name`."""
        raise NotImplementedError

    def read_label(self, path):
        """Read a label file; (H, W) integers, not yet checked against the classes."""
        label, converted = labels.read_label_png(path)
        if converted and not self._said_that_converted:
            self._said_that_converted = True
            log.warning("%s: label '%s' is a colour picture; all its colours are of VOC's palette, so it is read "
                        "as their class numbers", self.title, path)
        return label

    def __len__(self):
        return len(self.ids)

    def image(self, which):
        """Return a picture, (H, W, 3) uint8 RGB; `which` is a position in the list or an id."""
        return pictures.read_image(self.image_path(self.name(which)))

    def label(self, which):
        """Return a label map, (H, W) uint8, every value below `classes` or 255."""
        path = self.label_path(self.name(which))
        return labels.check_label(self.read_label(path), self.classes, path)

    def pair(self, which):
        """Return (picture, label map); their sizes are equal."""
        image, label = self.image(which), self.label(which)
        if image.shape[:2] != label.shape:
            name = self.name(which)
            raise Error(f"image '{self.image_path(name)}' is {image.shape[0]}x{image.shape[1]} (height x width) but "
                        f"its label '{self.label_path(name)}' is {label.shape[0]}x{label.shape[1]}; they must be equal")
        return image, label

    def name(self, which):
        """Return the id at a position (an id is returned as it is)."""
        return which if isinstance(which, str) else self.ids[which]

    def __iter__(self):
        """Yield (id, picture, label map) of every element in the list's order."""
        for name in self.ids:
            yield (name, *self.pair(name))

    @classmethod
    def find_folder(cls, folder, beside=None):
        """Return the data set's folder, or raise a `PathError` with every place tried and where to get the data."""
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise Error(f"the folder of {cls.title} must be a path, got {folder!r}")
        try:
            found = files.find(folder, beside, what=f"{cls.title} folder")
        except PathError as error:
            # The published paths count upwards from their own folders; here the same data lies at the root's data/.
            bare = os.fspath(folder)
            while bare.startswith("../"):
                bare = bare[3:]
            found = os.path.join(files.ROOT, bare)
            if os.path.isabs(bare) or not os.path.exists(found):
                extra = "" if os.path.isabs(bare) or found in str(error) else f", {found}"
                raise PathError(f"{error}{extra}; get it from {cls.source}, {SAMPLE_CURE}") from None
        if not os.path.isdir(found):
            raise PathError(f"{cls.title} folder '{found}' is a file; give the folder that holds the data set")
        return found

    def _classes(self, classes):
        # (names, number): from the argument, the folder's classes.txt or the class' own.
        names = self.default_names
        path = os.path.join(self.folder, "classes.txt")
        if os.path.isfile(path):
            names = [line.strip() for line in files.read_text(path).splitlines() if line.strip()]
        if classes is None:
            classes = len(names) if names and os.path.isfile(path) else self.default_classes
        if isinstance(classes, bool) or not isinstance(classes, int) or not 1 <= classes <= 256:
            raise Error(f"{self.title}: classes must be an integer from 1 to 256, got {classes!r}")
        names = list(names or [])[:classes]
        return names + [f"class {i}" for i in range(len(names), classes)], classes

    def _read_list(self, path):
        # The ids of the split; an empty or missing list is an error that shows the lists there are.
        if not os.path.isfile(path):
            folder, suffix = os.path.dirname(path), os.path.splitext(path)[1]
            there = sorted(f.removesuffix(suffix) for f in _listdir(folder) if f.endswith(suffix))
            there = [name for name in there if name != "classes"]
            raise PathError(f"{self.title}: split '{self.split}' has no list '{path}'{nearest(self.split, there)}; "
                            f"{'lists there: ' + ', '.join(there) if there else 'there are no lists in that folder'}"
                            f"{self.list_hint()}")
        ids = [line.strip() for line in files.read_text(path).lstrip("\ufeff").splitlines() if line.strip()]
        if not ids:
            raise Error(f"{self.title}: the list '{path}' of split '{self.split}' is empty")
        return ids

    def list_hint(self):
        """Return what else to say when the split's list is missing."""
        return ""

    def _check_files(self):
        # Missing pictures are said now and not hours into training. A folder is listed once: thousands of stat calls
        # over a network drive take minutes.
        listing, missing = {}, []
        for name in self.ids:
            for path in (self.image_path(name), self.label_path(name)):
                folder, base = os.path.split(path)
                if folder not in listing:
                    listing[folder] = set(_listdir(folder))
                if base not in listing[folder]:
                    missing.append(path)
        if missing:
            raise PathError(f"{self.title}: {len(missing)} of the {2 * len(self.ids)} files of split '{self.split}' "
                            f"are missing, the first is '{missing[0]}'; get them from {self.source}, {SAMPLE_CURE}")


def open_dataset(kind, folder, split, classes=None, beside=None):
    """Open a data set by its name ("voc", "sbdd") for reading without a net: length, ids, image(i), label(i)."""
    kinds = dataset_kinds()
    if kind not in kinds:
        raise UnknownName(f"unknown data set '{kind}'{nearest(kind, kinds)}; data sets: {', '.join(sorted(kinds))}")
    return kinds[kind](folder, split, classes=classes, beside=beside)


@functools.cache
def dataset_kinds():
    """Return {name: Dataset class} of every file in data/ that has ``DATASETS``."""
    kinds, owners = {}, {}
    package = importlib.import_module("data")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg):
        for name, kind in getattr(importlib.import_module(f"data.{module}"), "DATASETS", {}).items():
            if name in owners:
                raise Error(f"data set '{name}' is claimed by data/{owners[name]}.py and data/{module}.py")
            kinds[name], owners[name] = kind, module
    return kinds


def _listdir(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
