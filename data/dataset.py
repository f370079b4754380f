"""What every segmentation data set shares: lists of pictures, checks, their order, reading ahead, exact resume.

A data set is one small file beside this one: a `Dataset` that knows where its files lie, a `SegmentationDataLayer` that
names its folder key, and ``DATASETS = {"name": Class}`` for `open_dataset`. See voc.py.
"""

import ast
import collections
import functools
import importlib
import logging
import math
import os
import pkgutil
import random
import threading
import weakref

import numpy as np
from PIL import Image, UnidentifiedImageError

from data import colors, transform
from netspec import files
from netspec.errors import Error, PathError, UnknownName, nearest

IGNORE = colors.IGNORE
MAX_PIXELS = 1 << 26  # a picture of more is refused before it is decoded: its blob alone would take 768 MB
SAMPLE_CURE = "or run with --sample for the embedded data set (python -m data.sample draws it)"

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
        label, converted = read_label_png(path)
        if converted and not getattr(self, "_said", False):
            self._said = True
            log.warning("%s: label '%s' is a colour picture; all its colours are of VOC's palette, so it is read "
                        "as their class numbers", self.title, path)
        return label

    def __len__(self):
        return len(self.ids)

    def image(self, which):
        """Return a picture, (H, W, 3) uint8 RGB; `which` is a position in the list or an id."""
        return read_image(self.image_path(self.name(which)))

    def label(self, which):
        """Return a label map, (H, W) uint8, every value below `classes` or 255."""
        path = self.label_path(self.name(which))
        return check_label(self.read_label(path), self.classes, path)

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


# ---------------------------------------------------------------------------------------------------------------------
# files


def read_image(path):
    """Read a picture of any kind as (H, W, 3) uint8 RGB. The EXIF rotation is not applied: labels do not know it."""
    with _picture(path, "image") as picture:
        return transform.rgb(picture)


def read_label_png(path):
    """Read a label picture; return ((H, W) integers, whether it was converted from colours).

    Palette (P) and grey (L, I, I;16, 1) pictures hold class numbers. A colour picture is read through VOC's palette
    when all its colours are in it, and is an error otherwise.
    """
    with _picture(path, "label") as picture:
        if picture.mode in ("P", "L", "1", "I", "I;16"):
            return np.asarray(picture), False
        mode, (label, alien) = picture.mode, colors.from_colours(transform.rgb(picture))
        if label is not None:
            return label, True
        row, column = alien
        colour = tuple(transform.rgb(picture)[row, column].tolist())
        raise Error(f"label '{path}' is a colour picture (mode {mode}) and its colour {colour} at row {row}, "
                    f"column {column} is not in VOC's palette; save labels as palette or grey PNG "
                    "whose values are the class numbers")


class _picture:
    # Open a picture; whatever is wrong with the file becomes one Error that names it.
    def __init__(self, path, what):
        self.path, self.what = path, what

    def __enter__(self):
        try:
            self.picture = Image.open(self.path)
            width, height = self.picture.size
            if width * height > MAX_PIXELS:
                raise Error(f"{self.what} '{self.path}' has {width}x{height} pixels; "
                            f"more than {MAX_PIXELS} are refused")
            self.picture.load()
        except BaseException as error:
            if hasattr(self, "picture"):
                self.picture.close()
            self._explain(error)
            raise
        return self.picture

    def __exit__(self, kind, error, trace):
        self.picture.close()
        if error is not None:
            self._explain(error)

    def _explain(self, error):
        if isinstance(error, Error) or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError):
            raise PathError(f"{self.what} '{self.path}' not found; tried: {os.path.abspath(self.path)}") from None
        if isinstance(error, UnidentifiedImageError):
            raise Error(f"{self.what} '{self.path}' is not a picture (JPEG, PNG, ...)") from None
        # Pillow raises OSError, SyntaxError, ValueError, struct.error and more on damaged files.
        raise Error(f"cannot read {self.what} '{self.path}': {getattr(error, 'strerror', None) or error}") from None


def check_label(label, classes, path):
    """Return `label` as (H, W) uint8 after checking that every value is below `classes` or 255."""
    label = np.asarray(label)
    if label.ndim != 2 or label.dtype.kind not in "uib":
        raise Error(f"label '{path}' must be (H, W) integers, got {label.shape} {label.dtype}")
    bad = (label >= classes) & (label != IGNORE)
    if label.dtype.kind == "i":
        bad |= label < 0
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise Error(f"label {int(label[row, column])} at row {row}, column {column} of '{path}' is outside the "
                    f"{classes} classes (0 to {classes - 1}, or {IGNORE} to ignore); {int(bad.sum())} such pixels "
                    "here; mend the file, or set 'classes' in param_str and the net's score layers to the data's")
    return np.ascontiguousarray(label, np.uint8)


def _listdir(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


# ---------------------------------------------------------------------------------------------------------------------
# order


class Order:
    """Which picture comes next: in the list's order, or drawn from a seeded generator with replacement.

    The draws are the published loaders': seed, draw one position, deliver it, draw the next. With ``draws="python3"``
    they are what those loaders draw today (`random.randint`); ``"python2"`` gives what they drew under Python 2, that
    is, the sequence that the published weights saw.
    """

    DRAWS = ("python3", "python2")

    def __init__(self, count, randomize=False, seed=None, draws="python3"):
        self.count, self.draws = count, draws
        self.random = random.Random(seed) if randomize else None
        self.index = self._draw() if randomize else 0

    def _draw(self):
        if self.draws == "python2":
            return int(self.random.random() * self.count)
        return self.random.randint(0, self.count - 1)

    def advance(self):
        """Go to the next picture."""
        self.index = self._draw() if self.random else (self.index + 1) % self.count

    def copy(self):
        """Return an order that will go the same way, independent of this one."""
        other = Order(self.count, draws=self.draws)
        other.index = self.index
        if self.random:
            other.random = random.Random()
            other.random.setstate(self.random.getstate())
        return other

    def get_state(self):
        """Return a JSON-able dict from which `set_state` goes on exactly."""
        state = {"count": self.count, "index": self.index, "random": None}
        if self.random:
            version, words, _ = self.random.getstate()
            state["random"] = [version, list(words)]
        return state

    def set_state(self, state):
        """Go on from `state`; a state of another list or another kind of order is an error."""
        try:
            count, index, generator = int(state["count"]), int(state["index"]), state["random"]
            words = generator and (int(generator[0]), tuple(int(w) for w in generator[1]), None)
        except (KeyError, TypeError, ValueError, IndexError):
            raise Error(f"the data order to restore is damaged: {str(state)[:200]}") from None
        if count != self.count:
            raise Error(f"the data order to restore is of a list of {count} pictures, this list has {self.count}")
        if bool(words) != bool(self.random) or not 0 <= index < count:
            raise Error(f"the data order to restore is {'random' if words else 'sequential'} at {index}, this layer's "
                        f"is {'random' if self.random else 'sequential'} over {self.count}; set 'randomize' as it was")
        if words:
            try:
                self.random.setstate(words)
            except (ValueError, TypeError, OverflowError) as error:
                raise Error(f"the data order to restore holds no random state: {error}") from None
        self.index = index


# ---------------------------------------------------------------------------------------------------------------------
# reading ahead


class ReadAhead:
    """One thread that loads the next pictures while the net computes.

    It owns nothing of the layer: the layer ends it when it is closed or collected, so a dropped net leaves no thread.
    """

    def __init__(self, load, order, depth):
        self._load, self._order, self._depth = load, order, depth
        self._ready, self._closed = collections.deque(), False
        self._changed = threading.Condition()  # reentrant: the collector may close it from inside any of its methods
        self._thread = threading.Thread(target=self._work, name="deepjet-read-ahead", daemon=True)
        self._thread.start()

    def _work(self):
        while True:
            with self._changed:
                while len(self._ready) >= self._depth and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
            index, failure, sample = self._order.index, None, None
            try:
                sample = self._load(index)
            except Exception as error:  # handed to the thread that takes this sample
                failure = error
            self._order.advance()
            with self._changed:
                self._ready.append((index, sample, failure))
                self._changed.notify_all()
            if failure is not None:
                return

    def take(self):
        """Return (index, sample) of the next picture, or raise what reading it raised.

        None when there is no thread to wait for: it was closed, or the process was forked.
        """
        with self._changed:
            while not self._ready:
                if self._closed or not self._thread.is_alive():
                    return None
                self._changed.wait(1.0)  # a forked process has no such thread and nobody to wake it
            index, sample, failure = self._ready.popleft()
            self._changed.notify_all()
        if failure is not None:
            raise failure
        return index, sample

    def close(self):
        """End the thread and forget what it has read."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=10.0)


# ---------------------------------------------------------------------------------------------------------------------
# the layer


class SegmentationDataLayer:
    """A Python layer that feeds (picture, label) pairs one at a time; every picture keeps its own size.

    Tops: `data` (1, 3, H, W) float32 BGR minus mean, `label` (1, 1, H, W) class numbers. It has no bottoms and no
    gradient. A subclass sets `dataset_class` and `folder_key`, and `default_mean` when its mean may be omitted.

    Set from outside before `setup`: `param_str`, a Python dict literal with the keys

    <folder_key> : folder of the data set
    split : name of the list; a name without "train" in it is read in order whatever `randomize` says
    mean : three numbers, BGR
    randomize : draw pictures at random, with replacement (default True)
    seed : of the draws (default None: another order in every run)
    classes : labels must be below it, or 255 (default: the lines of the folder's classes.txt, else 21)
    prefetch : how many pictures to read ahead in the background (default 4, 0 for none)
    draws : "python3" (default) or "python2", see `Order`

    and, optionally, `prototxt_path`, beside which the folder is looked for.

    `current` is the id of the sample in the tops, `current_files` its files; `get_state` and `set_state` make a resumed
    run see exactly the pictures that an unbroken one sees.
    """

    dataset_class = Dataset
    folder_key = "folder"
    default_mean = None
    top_names = ("data", "label")

    param_str = ""
    prototxt_path = None
    current = None
    dataset = None

    def keys(self):
        """Return the keys that param_str may hold; a subclass may add some."""
        return [self.folder_key, "split", "mean", "randomize", "seed", "classes", "prefetch", "draws"]

    def setup(self, bottom, top):
        """Read param_str, find the data set and go to the first sample."""
        self.params = self.read_params()
        if len(bottom):
            raise Error(f"{self.where()}: a data layer takes no bottoms, got {len(bottom)}")
        names = self.names_of_tops()
        if len(top) != len(names):
            raise Error(f"{self.where()}: needs {len(names)} tops ({', '.join(names)}), got {len(top)}")
        params = self.params
        self.dataset = self.open(params[self.folder_key], params["split"], params["classes"])
        self._load = self.loader()
        self._depth = params["prefetch"]
        # Evaluation is deterministic: only training splits are drawn at random.
        randomize = params["randomize"] and "train" in params["split"]
        self._order = Order(len(self.dataset), randomize, params["seed"], params["draws"])
        self._sample = self._ahead = self._end = None

    def names_of_tops(self):
        """Return the names of the tops that the layer fills."""
        return self.top_names

    def open(self, folder, split, classes):
        """Return the data set."""
        return self.dataset_class(folder, split, classes=classes, beside=self.prototxt_path)

    def loader(self):
        """Return a function position -> one array a top (each without the leading batch axis).

        It runs in the reading thread and must not hold the layer, or a dropped layer would live on in its thread.
        """
        return functools.partial(_load_pair, self.dataset, self.params["mean"])

    def reshape(self, bottom, top):
        """Load the sample that comes next and give the tops its shape."""
        for blob, array in zip(top, self._fetch(), strict=True):
            blob.reshape(1, *array.shape)

    def forward(self, bottom, top):
        """Deliver the sample and go to the next one."""
        for blob, array in zip(top, self._fetch(), strict=True):
            blob.data[...] = array
        self.current = self.dataset.ids[self._order.index]
        self._sample = None
        self._order.advance()
        if self._ahead is None and self._depth > 0:
            self._ahead = ReadAhead(self._load, self._order.copy(), self._depth)
            self._end = weakref.finalize(self, self._ahead.close)

    def backward(self, top, propagate_down, bottom):
        """Do nothing: data has no gradient."""

    @property
    def current_files(self):
        """(picture, label) paths of the sample in the tops, or None before the first forward."""
        if self.current is None:
            return None
        return self.dataset.image_path(self.current), self.dataset.label_path(self.current)

    def get_state(self):
        """Return where the order stands after the sample delivered last, JSON-able; reading ahead does not move it."""
        return {**self._order.get_state(), "id": self.dataset.ids[self._order.index]}

    def set_state(self, state):
        """Go on as the layer that returned `state` would have."""
        order = self._order.copy()
        order.set_state(state)
        there = self.dataset.ids[order.index]
        if state.get("id", there) != there:
            raise Error(f"{self.where()}: the data order to restore stands at '{state['id']}', but number "
                        f"{order.index} of split '{self.dataset.split}' is now '{there}'; the list has changed")
        self.close()
        self._order = order

    def close(self):
        """End the reading thread; the layer goes on working and starts another when it is used again."""
        self._sample = None
        if self._ahead is not None:
            self._ahead, end, self._end = None, self._end, None
            end()

    def where(self):
        """Return how errors call this layer."""
        return type(self).__name__

    def read_params(self):
        """Return param_str as a dict with all keys, checked."""
        where, keys = self.where(), self.keys()
        try:
            given = ast.literal_eval(self.param_str or "{}")
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise Error(f"{where}: param_str is not a Python literal ({error}): {self.param_str[:200]!r}") from None
        if not isinstance(given, dict):
            raise Error(f"{where}: param_str must be a dict, got {type(given).__name__}: {self.param_str[:200]!r}")
        for key in given:
            if key not in keys:
                raise Error(f"{where}: unknown key {key!r} in param_str{nearest(str(key), keys)}; "
                            f"keys: {', '.join(keys)}")
        params = {"mean": self.default_mean, "randomize": True, "seed": None, "classes": None, "prefetch": 4,
                  "draws": "python3", **given}
        for key in (self.folder_key, "split", "mean"):
            if params.get(key) is None:
                raise Error(f"{where}: param_str lacks '{key}'; it has: {', '.join(map(str, given)) or 'nothing'}")
        self.check_params(params)
        return params

    def check_params(self, params):
        """Refuse values of the wrong kind; a subclass checks its own keys too."""
        def need(key, good, what):
            if not good:
                raise Error(f"{self.where()}: '{key}' in param_str must be {what}, got {params[key]!r}")

        mean = params["mean"]
        need(self.folder_key, isinstance(params[self.folder_key], str), "a path")
        need("split", isinstance(params["split"], str) and params["split"], "the name of a list")
        need("mean", isinstance(mean, tuple | list) and len(mean) == 3 and all(
            isinstance(m, int | float) and math.isfinite(m) for m in mean), "three numbers (blue, green, red)")
        need("randomize", isinstance(params["randomize"], bool | int), "True or False")
        need("seed", params["seed"] is None or isinstance(params["seed"], int), "an integer or None")
        need("prefetch", isinstance(params["prefetch"], int) and 0 <= params["prefetch"] <= 1024, "0 to 1024 pictures")
        need("draws", params["draws"] in Order.DRAWS, " or ".join(repr(d) for d in Order.DRAWS))

    def _fetch(self):
        # The arrays of the sample that comes next: kept from `reshape` to `forward`.
        if self._sample is None:
            taken = None
            if self._ahead is not None:
                try:
                    taken = self._ahead.take()
                finally:
                    if taken is None:
                        self.close()
            if taken is None:
                taken = self._order.index, self._load(self._order.index)
            index, self._sample = taken
            if index != self._order.index:
                raise RuntimeError(f"read ahead {index}, but the order stands at {self._order.index}")
        return self._sample


def _load_pair(dataset, mean, index):
    # (3, H, W) float32 and (1, H, W) uint8
    image, label = dataset.pair(index)
    return transform.preprocess(image, mean), label[None]
