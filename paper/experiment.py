"""What an experiment is, which there are, and the results that are kept of them.

An experiment is one file `paper/experiments/<name>.py`:

    TITLE = "Parameters, layers and receptive fields"    # one line
    PLACE = "Table 1"                                    # of the paper: "3.1", "4.3, Table 3", "Fig. 5"
    MINUTES = 0.1                                        # about, on two cores
    NEEDS = ()                                           # or ("real",): the folder of real images and weights
    DEPENDS = ()                                         # files of the project that decide the result with this one

    def run(context):
        return dict(rows=[Row(...)], numbers={...}, curves={...}, pictures={...})

`rows` are what the page says. `numbers` is anything JSON can hold. `curves` are {name: {"x": [...], "y": [...], "label": ...}};
those with the same "figure" (a title; that of the experiment when not given) share a drawing, whose axes are named by
"x_label" and "y_label". `pictures` are {name: (H, W, 3) uint8}; those of an experiment that needs "real" stay out of docs/.

A result is kept as `paper/results/<name>.json` with a stamp: a hash of the experiment's file, of those it DEPENDS on (comment
lines and blank ones do not count) and of the seed. It is valid while the stamp is that of the files as they stand.
"""

import dataclasses
import hashlib
import importlib
import json
import math
import pathlib
import re

import numpy as np

from netspec import files
from netspec.errors import Error, UnknownName, nearest

VERDICTS = ("reproduced", "same shape", "not reproduced", "needs data")
FOLDER = files.ROOT / "paper" / "experiments"
RESULTS = files.ROOT / "paper" / "results"
SCRATCH = files.ROOT / "paper" / "scratch"
SEED = 1337
NEEDS = {"real": "a folder of real photographs, labels and weights (--real DIR)"}


@dataclasses.dataclass
class Row:
    """One line of the page.

    Parameters
    ----------
    claim : str
        What the paper says, in words of ours.
    place : str
        Where: "3.1", "Table 1", "4.3, Table 3", "Fig. 5".
    ran : str
        What was run here; for "needs data" what would be.
    paper, ours : str or number
        The two figures.
    verdict : str
        "reproduced" (an exact claim holds), "same shape" (another set of data, the same order), "not reproduced" or
        "needs data".
    note : str
        What a reader must know to judge it; for "needs data" what is missing.
    """

    claim: str
    place: str
    ran: str
    paper: object
    ours: object
    verdict: str
    note: str = ""

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise Error(f"row '{self.claim}': verdict '{self.verdict}' is none of {', '.join(VERDICTS)}")


def exact(claim, place, ran, paper, ours, holds, note=""):
    """Return the Row of an exact claim: "reproduced" when `holds`, "not reproduced" when not."""
    return Row(claim, place, ran, paper, ours, "reproduced" if holds else "not reproduced", note)


def difference(value):
    """Return "equal bit for bit" or "off by 2e-16", for the column of our figures."""
    return f"off by {value:.1g}" if value else "equal bit for bit"


class Context:
    """What `run` is given.

    Attributes
    ----------
    real : pathlib.Path or None
        The folder of real images and weights.
    folder : pathlib.Path
        A scratch folder of this experiment alone, which git ignores: snapshots and logs that a stopped run goes on from.
    seed : int
        Of everything random.
    device :
        For `Net(device=...)`: None (the default), "cpu" or a card.
    earlier : float
        Seconds of work that was kept from before and that the result stands on; an experiment adds them.
    """

    def __init__(self, name, real=None, device=None, seed=SEED, say=None, progress=None, scratch=None):
        self.real = None if real is None else pathlib.Path(real)
        self.folder = pathlib.Path(scratch or SCRATCH) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seed, self.device = seed, device
        self.earlier = 0.0
        self._say, self._progress = say, progress

    def say(self, line):
        """Print a line above the progress bar."""
        if self._say:
            self._say(line)

    def progress(self, fraction):
        """Say how much of this experiment is done, 0 to 1."""
        if self._progress:
            self._progress(min(max(float(fraction), 0.0), 1.0))


class Experiment:
    """One file of `paper/experiments/`."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.name = self.path.stem
        try:
            module = importlib.import_module(f"paper.experiments.{self.name}")
        except Exception as error:
            raise Error(f"'{self.path}' cannot be imported: {type(error).__name__}: {error}") from error
        try:
            self.title, self.place, self.minutes = module.TITLE, module.PLACE, float(module.MINUTES)
            self.needs, self.depends, self._run = tuple(module.NEEDS), tuple(getattr(module, "DEPENDS", ())), module.run
        except AttributeError as error:
            raise Error(f"'{self.path}' is no experiment: {error}") from None
        for need in self.needs:
            if need not in NEEDS:
                raise UnknownName(f"'{self.path}' needs '{need}'{nearest(need, NEEDS)}; there is: {', '.join(NEEDS)}")

    def stamp(self, seed=SEED):
        """Return the hash of what the result depends on."""
        digest = hashlib.sha256(f"seed {seed}\n".encode())
        for path in (self.path, *(files.ROOT / name for name in self.depends)):
            lines = (line.rstrip() for line in files.read_text(path).splitlines())
            text = "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))
            digest.update(f"{path.name}\n{text}\n".encode())
        return digest.hexdigest()[:16]

    def run(self, context):
        """Run it; return its result as JSON can hold it, and its pictures."""
        given = self._run(context)
        if not isinstance(given, dict) or not given.get("rows"):
            raise Error(f"'{self.path}': run() must return a dict with at least one Row in 'rows'")
        for key in given:
            if key not in ("rows", "numbers", "curves", "pictures"):
                raise Error(f"'{self.path}': run() returned '{key}'; it may return rows, numbers, curves and pictures")
        for name, curve in given.get("curves", {}).items():
            if len(curve["x"]) != len(curve["y"]):
                raise Error(f"'{self.path}': curve '{name}' has {len(curve['x'])} x and {len(curve['y'])} y")
        for name, picture in given.get("pictures", {}).items():
            picture = np.asarray(picture)
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not re.fullmatch(r"[\w-]+", name):
                raise Error(f"'{self.path}': picture '{name}' is {picture.shape} {picture.dtype}; it must be (H, W, 3) uint8, "
                            "its name made of letters, digits, - and _")
        result = {
            "name": self.name, "title": self.title, "place": self.place, "minutes": self.minutes, "needs": list(self.needs),
            "rows": plain([dataclasses.asdict(row) for row in given["rows"]]), "numbers": plain(given.get("numbers", {})),
            "curves": plain(given.get("curves", {})), "pictures": sorted(given.get("pictures", {})),
        }
        try:
            json.dumps(result)
        except TypeError as error:
            raise Error(f"'{self.path}': run() returned what no JSON file holds: {error}") from None
        return result, given.get("pictures", {})

    @property
    def result_path(self):
        """Where its result is kept."""
        return RESULTS / f"{self.name}.json"

    def kept(self):
        """Return its kept result, or None; see `is_valid` for whether that still holds."""
        return read_result(self.result_path) if self.result_path.exists() else None

    def is_valid(self, result):
        """Say whether a result is of the files as they stand."""
        return result.get("stamp") == self.stamp(result.get("seed", SEED))


def names():
    """Return the names of all experiments, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def find(chosen=(), broken=None):
    """Return the experiments of these names (all when none is given), in the paper's order.

    A file that is no experiment is an `Error`; with a list `broken`, (name, why) goes there and the others are returned.
    """
    known = names()
    for name in chosen:
        if name not in known:
            raise UnknownName(f"no experiment '{name}'{nearest(name, known)}; experiments: {', '.join(known)}")
    found = []
    for name in dict.fromkeys(chosen or known):
        try:
            one = Experiment(FOLDER / f"{name}.py")
            found.append((section_of(one.place), name, one))
        except Error as error:
            if broken is None:
                raise
            broken.append((name, str(error)))
    return [one for _, _, one in sorted(found, key=lambda one: one[:2])]


# Where the tables and figures stand.
SECTION = {
    "Table 1": "4.1", "Table 2": "4.2", "Table 3": "4.3", "Table 4": "5", "Table 5": "5", "Table 6": "5", "Table 7": "5",
    "Table 8": "6.1", "Fig. 1": "1", "Fig. 2": "3.1", "Fig. 3": "4.3", "Fig. 4": "4.3", "Fig. 5": "4.4", "Fig. 6": "5",
    "Fig. 7": "6.1",
}


def section_of(place):
    """Return the section of a place as numbers: (4, 3) for "4.3, Table 3" and for "Table 3"."""
    number = re.match(r"(\d+(?:\.\d+)?)(?![\d.])", place)
    named = re.match(r"(?:Table|Fig\.) \d+", place)
    if not number and not (named and named.group() in SECTION):
        raise Error(f"'{place}' is no place of the paper; begin it with a section (4.3) or one of {', '.join(SECTION)}")
    found = number.group(1) if number else SECTION[named.group()]
    return tuple(int(part) for part in found.split("."))


def read_result(path):
    """Return a kept result; a file that is none is an `Error` that names it."""
    try:
        result = json.loads(files.read_text(path))
        result["rows"] = [dataclasses.asdict(Row(**row)) for row in result["rows"]]
        for key, kind in (("name", str), ("title", str), ("place", str), ("seconds", (int, float)), ("curves", dict)):
            if not isinstance(result[key], kind):
                raise TypeError(key)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, Error) and "is not a text file" in str(error):
            raise
        raise Error(f"'{path}' is no result of an experiment ({type(error).__name__}: {error}); remove it and run "
                    f"python -m paper.run {pathlib.Path(path).stem}") from None
    return result


def plain(value):
    """Return a value as JSON has it: NumPy's numbers and arrays as Python's, what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
