"""The Python layer that feeds a segmentation net: (picture, label) pairs of a data set, in an order, read ahead."""

import ast
import functools
import math
import weakref

from data import augment, transform
from data.dataset import Dataset
from data.order import Order
from data.read_ahead import ReadAhead
from netspec.errors import Error, nearest


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
    mask, mirror, jitter, sampling, cell, one_hot, null_background : what is done to the sample, see `Augmentation`; all
        off by default

    and, optionally, `prototxt_path`, beside which the folder is looked for.

    `current` is the id of the sample in the tops, `current_files` its files; `get_state` and `set_state` make a resumed
    run see exactly the pictures that an unbroken one sees.
    """

    dataset_class = Dataset
    folder_key = "folder"
    default_mean = None
    has_background = True  # whether class 0 is what is no object: `mask` and `null_background` need to know

    param_str = ""
    prototxt_path = None
    current = None
    dataset = None

    def keys(self):
        """Return the keys that param_str may hold; a subclass may add some."""
        return [self.folder_key, "split", "mean", "randomize", "seed", "classes", "prefetch", "draws",
                *augment.KEYS]

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
        return self.dataset_class.parts

    def open(self, folder, split, classes):
        """Return the data set."""
        return self.dataset_class(folder, split, classes=classes, beside=self.prototxt_path)

    def loader(self):
        """Return a function place (`order.Place`) -> one array a top (each without the leading batch axis).

        It runs in the reading thread and must not hold the layer, or a dropped layer would live on in its thread.
        """
        return functools.partial(_load, self.dataset, self.names_of_tops(), self.prepare(), self.augmentation,
                                 self.params["mean"])

    def prepare(self):
        """Return {top: function} of the tops that are pictures: each makes (C, H, W) float32 of what the data set reads.

        The functions must not hold the layer either.
        """
        return {"data": functools.partial(transform.preprocess, mean=self.params["mean"])}

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
        self.augmentation = augment.augmentation(params, self.has_background, self.where())

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
                taken = self._order.index, self._load(self._order.place)
            index, self._sample = taken
            if index != self._order.index:
                raise RuntimeError(f"read ahead {index}, but the order stands at {self._order.index}")
        return self._sample


def _load(dataset, tops, prepare, augmentation, mean, place):
    # The arrays of the sample at `place`, in the order of `tops`.
    arrays = dataset.sample(place.index, tops)
    pictures = [top for top in tops if top in prepare]
    labels = [top for top in tops if top not in prepare]
    done = augmentation.apply([prepare[top](arrays[top]) for top in pictures], [arrays[top][None] for top in labels], place,
                              mean, [len(dataset.classes_of(top)) for top in labels])
    arrays = dict(zip([*pictures, *labels], [*done[0], *done[1]], strict=True))
    return [arrays[top] for top in tops]
