"""What every segmentation data set shares: lists of pictures, where they lie, and checks that all is there.

A data set is one small file beside this one: a `Dataset` that knows where its files lie, a
`segmentation.SegmentationDataLayer` that names its folder key, and ``DATASETS = {"name": Class}`` for `open_dataset` and
``python -m data.check``. See voc.py, and nyud.py for one whose samples have more than two parts.
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
    complete : refuse a split of which files are missing.

    A class for a new data set sets the attributes below and defines `list_path`, `image_path` and `label_path`.
    """

    title = "data set"
    source = "its authors"  # where to get it, for the error when it is missing
    cure = SAMPLE_CURE
    folders = {"folder": "data"}  # keys of a param_str and where the published nets expect them
    splits = {}  # name -> numbers of ids that the published lists have; () when nobody says
    needed = ()  # those that the published nets read
    default_classes = 21
    default_names = None
    names_in_folder = True  # a classes.txt in the folder names the classes
    parts = ("data", "label")  # of a sample, named as the tops of the published layer; the first is its picture
    label_parts = ("label",)
    part_cures = {}  # part -> how to make it when it is missing
    score_exclude = ""  # classes that scores leave out unless told otherwise, as `solvers.score --exclude` takes them
    _said_that_converted = False

    def __init__(self, folder, split, classes=None, beside=None, complete=True):
        self.folder = self.find_folder(folder, beside)
        self.split = split
        self.names, self.classes = self._classes(classes)
        self.ids = self._read_list(self.list_path())
        if complete:
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

    @classmethod
    def open_for_check(cls, folders, split):
        """Open a split of the `folders` {key: folder} with all its parts, whether or not all files are there."""
        return cls(next(iter(folders.values())), split, complete=False)

    def places(self):
        """Return {key: folder} as found."""
        return {next(iter(self.folders)): self.folder}

    def path(self, part, name):
        """Return the path of a part of the sample with the id `name`."""
        return self.image_path(name) if part == self.parts[0] else self.label_path(name)

    def read(self, part, which):
        """Return a part of a sample: a picture (H, W, 3) uint8 or a label map (H, W) uint8."""
        return self.label(which) if part in self.label_parts else self.image(which)

    def classes_of(self, part):
        """Return the names of the classes of a label part."""
        return self.names

    def sample(self, which, parts=None):
        """Return {part: array} of a sample; all are of one size."""
        name = self.name(which)
        found = {part: self.read(part, name) for part in parts or self.parts}
        first = next(iter(found))
        for part, array in found.items():
            if array.shape[:2] != found[first].shape[:2]:
                raise Error(f"{self._called(first)} '{self.path(first, name)}' is {_size(found[first])} (height x width) but "
                            f"its {self._called(part)} '{self.path(part, name)}' is {_size(array)}; they must be equal")
        return found

    def _called(self, part):
        return {"data": "image", "label": "label"}.get(part, f"part '{part}'")

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
        found = self.sample(which, (self.parts[0], self.label_parts[0]))
        return tuple(found.values())

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
                raise PathError(f"{error}{extra}; get it from {cls.source}, {cls.cure}") from None
        if not os.path.isdir(found):
            raise PathError(f"{cls.title} folder '{found}' is a file; give the folder that holds the data set")
        return found

    def _classes(self, classes):
        # (names, number): from the argument, the folder's classes.txt or the class' own.
        names = self.default_names
        path = os.path.join(self.folder, "classes.txt")
        there = self.names_in_folder and os.path.isfile(path)
        if there:
            names = [line.strip() for line in files.read_text(path).splitlines() if line.strip()]
        if classes is None:
            classes = len(names) if names and there else self.default_classes
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

    def missing(self, parts=None):
        """Return {part: paths that are not there}, of the parts of which any is missing."""
        # A folder is listed once: thousands of stat calls over a network drive take minutes.
        listing, found = {}, {}
        for name in self.ids:
            for part in parts or self.parts:
                path = self.path(part, name)
                folder, base = os.path.split(path)
                if folder not in listing:
                    listing[folder] = set(_listdir(folder))
                if base not in listing[folder]:
                    found.setdefault(part, []).append(path)
        return found

    def _check_files(self):
        # Missing pictures are said now and not hours into training.
        parts = self.used_parts()
        missing = self.missing(parts)
        for part, paths in missing.items():
            number = sum(map(len, missing.values()))
            raise PathError(f"{self.title}: {number} of the {len(parts) * len(self.ids)} files of split '{self.split}' "
                            f"are missing, the first is '{paths[0]}'; "
                            f"{self.part_cures.get(part) or f'get them from {self.source}, {self.cure}'}")

    def used_parts(self):
        """Return the parts that whoever opened the data set will read."""
        return self.parts


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


def _size(array):
    return f"{array.shape[0]}x{array.shape[1]}"


def _listdir(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
