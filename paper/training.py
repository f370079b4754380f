"""Training runs of the experiments: a recipe with options, trained by the real Solver, kept, resumed, scored and shared.

    one = Run("table3-8s", "fcn_sample", {"finest": 8}, seed=1, images=800, weights=coarser)
    trained = train(context, one)
    trained.scores["mean_iu"], trained.points

A run is kept in a folder of the scratch folder that all experiments share, under its name and a hash of all that decides
it: the texts of both nets and of the solver, its first weights and its seed. So no run is done twice, whoever asks for it,
and one that was stopped goes on from its last snapshot, with the bits of an unbroken one.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import re
import time

import numpy as np

from data import metrics
from data.sample import draw
from layers.core.cpu import parallel
from layers.core.net import Net
from netspec import caffe_pb2, files, text
from netspec.errors import Error
from netspec.make import recipe
from solvers import data_layers, log, solver, stand_ins
from solvers.predictions import predict
from solvers.score import score_heads
from solvers.training import first_values

SHARED = "trained"  # the folder beside those of the experiments
VERSION = 1  # of what a run keeps: another number does all of them again


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of one recipe.

    Parameters
    ----------
    name : of its folder; letters, digits, "-".
    model : the recipe, models/<model>/net.py.
    options : of the recipe, for its nets and its solver.
    numbers : of the recipe's nets alone.
    images : how many it looks at; with a solver that takes several for an update there are that many fewer updates.
    seed : of the order of images and of all else that is random.
    fields : SolverParameter fields over those of the recipe.
    train, val : keys of the data layers' param_str.
    weights : None, a file, or another Run, which is then trained before.
    points : how often it is scored on the way, at equal distances; the last is the end.
    may_diverge : a loss that is not finite is a result of its own and no error.
    """

    name: str
    model: str
    options: dict = dataclasses.field(default_factory=dict)
    numbers: dict = dataclasses.field(default_factory=dict)
    images: int = 100
    seed: int = 1
    fields: dict = dataclasses.field(default_factory=dict)
    train: dict = dataclasses.field(default_factory=dict)
    val: dict = dataclasses.field(default_factory=dict)
    weights: object = None
    points: int = 4
    may_diverge: bool = False

    def but(self, name, **changes):
        """Return this run under another name, with `changes`; dicts are added to those that are there."""
        merged = {key: {**getattr(self, key), **value} if isinstance(value, dict) else value for key, value in changes.items()}
        return dataclasses.replace(self, name=name, **merged)

    @property
    def updates(self):
        """How often the weights change."""
        return self.messages()[2].max_iter

    def messages(self):
        """Return (training net, scored net, solver): all that decides the run but its first weights."""
        module = recipe(self.model)
        learn, judge = module.SPLITS[:2]
        train_net = module.net(learn, data={**self.train, "seed": self.seed}, **self.options, **self.numbers)
        param = module.solver(**{**self.options, **self.fields})
        for field in ("train_net", "test_net", "test_iter", "test_interval", "test_initialization", "snapshot_prefix"):
            param.ClearField(field)
        param.train_net_param.CopyFrom(train_net)
        param.max_iter, param.random_seed = max(1, self.images // param.iter_size), self.seed
        param.snapshot, param.snapshot_after_train = 0, False
        return train_net, scored_net(self.model, judge, {**self.options, **self.numbers}, self.val), param


@dataclasses.dataclass
class Trained:
    """What a run left.

    Attributes
    ----------
    weights : path of the caffemodel.
    points : list of {"iteration", "images", "seconds", "loss", "hist"}, the last at the end.
    losses : [(iteration, loss)], smoothed as in the log.
    diverged : what the solver said when the loss was not finite any more, or "".
    """

    run: Run
    weights: str
    points: list
    losses: list
    diverged: str = ""

    @property
    def hist(self):
        """The confusion matrix at the end, (classes, classes) int."""
        if self.diverged:
            raise Error(f"run '{self.run.name}': {self.diverged}")
        return np.array(self.points[-1]["hist"])

    @property
    def scores(self):
        """The four scores at the end, see `data.metrics.scores`."""
        return metrics.scores(self.hist)

    @property
    def seconds(self):
        """Processor time that it took (of all threads together: what else the machine does is not in it), scoring left out."""
        return self.points[-1]["seconds"]

    def iu(self, exclude=()):
        """Return the mean IU at every point, without the classes `exclude`."""
        return [metrics.scores(np.array(point["hist"]), exclude)["mean_iu"] for point in self.points]

    def best(self):
        """Return the scores of the point with the best mean IU; None when it diverged before the first was taken."""
        return max((metrics.scores(np.array(point["hist"])) for point in self.points), key=lambda one: one["mean_iu"],
                   default=None)


# --- training --------------------------------------------------------------------------------------------------------


def train(context, one, progress=None):
    """Train the run `one`, or what it still lacks, and return what it `Trained`.

    `progress` is called with the share that is done, 0 to 1.
    """
    if not re.fullmatch(r"[\w-]+", one.name):
        raise Error(f"the name of a run is '{one.name}'; it may hold letters, digits, - and _")
    weights = _weights(context, one)
    train_net, val_net, param = one.messages()
    folder = shared(context) / f"{one.name}-{_digest(train_net, val_net, param, weights)}"
    done = folder / "done.json"
    kept_before = done.exists()
    if not kept_before:
        folder.mkdir(parents=True, exist_ok=True)
        context.say(f"training {one.name}: {one.images} images")
        with logged(folder / "train.log"):
            kept = _train(context, one, folder, (train_net, val_net, param), weights, progress)
        files.write_text(done, json.dumps(kept))
    if progress:
        progress(1.0)
    try:
        kept = json.loads(files.read_text(done))
        losses, diverged = [tuple(pair) for pair in kept["losses"]], kept.get("diverged", "")
        if diverged and not one.may_diverge:
            raise Error(f"run '{one.name}': {diverged}")
        found = Trained(one, str(folder / kept["weights"]), kept["points"], losses, diverged)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise Error(f"'{done}' is no record of a training run ({error}); remove its folder, and it is trained again") from None
    if kept_before and found.points:
        context.earlier += found.seconds / parallel.threads()
    return found


def train_all(context, runs, begin=0.0, end=1.0):
    """Train several runs; returns {key: Trained} of a dict {key: Run}. `context.progress` goes from `begin` to `end`."""
    total = sum(one.images for one in runs.values()) or 1
    found = {}
    for key, one in runs.items():
        share = (end - begin) * one.images / total
        found[key] = train(context, one, lambda part, at=begin, of=share: context.progress(at + of * part))
        begin += share
    context.progress(end)
    return found


def shared(context):
    """Return the folder of what experiments share."""
    return context.folder.parent / SHARED


def _train(context, one, folder, messages, weights, progress):
    train_net, val_net, param = messages
    param.snapshot_prefix = str(folder / "net")
    machine = solver.make(param, net_class=functools.partial(Net, device=context.device),
                          path=str(files.ROOT / "models" / one.model / "solver.prototxt"))
    judge = None
    try:
        first_values(machine, weights)
        judge = Net(val_net, caffe_pb2.TEST, device=context.device, seed=one.seed)
        record = _resume(machine, folder)
        if record is None:
            record = {"points": [], "losses": []}
        spent = record["points"][-1]["seconds"] if record["points"] else 0.0
        started = time.process_time()
        grain = max(1, param.max_iter // 100)

        def after_update():
            if machine.iter % grain == 0:
                record["losses"].append((machine.iter, float(machine.smoothed_loss)))
                if progress:
                    progress(machine.iter / param.max_iter)

        machine.add_callback(on_update=after_update)
        for end in _ends(param.max_iter, one.points):
            if end <= machine.iter:
                continue
            try:
                machine.step(end - machine.iter)
            except solver.Diverged as error:
                record["diverged"] = str(error).split("; ")[0]
                break
            machine.resumed = True  # the losses that the log averages go on
            spent += time.process_time() - started
            record["points"].append(_point(machine, judge, spent))
            started = time.process_time()
            _keep(machine, folder, record)
        for path in folder.glob("*.solverstate"):
            path.unlink()
        return {"weights": f"net_iter_{machine.iter}.caffemodel", **record}
    finally:
        machine.close()
        if judge is not None:
            judge.close()


def _ends(updates, points):
    # The iterations at which it is scored and kept; the last is the end.
    return sorted({max(1, round(updates * (k + 1) / points)) for k in range(points)} | {updates})


def _point(machine, judge, seconds):
    judge.share_with(machine.net)
    return {"iteration": machine.iter, "images": machine.iter * machine.param.iter_size, "seconds": seconds,
            "loss": float(machine.smoothed_loss), "hist": _confusion(judge).tolist()}


def _confusion(judge):
    # Every forward reads the next picture, so that the whole list brings the net to its first one again.
    hists, _ = score_heads(judge, len(data_layers.dataset_of(judge)), [("score", "label")])
    return hists[0]


def _keep(machine, folder, record):
    # The state with its record, and then nothing older: what is found is always whole.
    machine.snapshot()
    files.write_text(folder / f"net_iter_{machine.iter}.json", json.dumps(record))
    for path in folder.glob("net_iter_*"):
        if path.name.split(".")[0] != f"net_iter_{machine.iter}":
            path.unlink()


def _resume(machine, folder):
    # Go on from the last state that has its record; None when there is none.
    states = sorted(folder.glob("net_iter_*.solverstate"), key=lambda path: int(re.search(r"\d+", path.name).group()))
    for path in reversed(states):
        record = path.with_suffix(".json")
        if record.exists():
            machine.restore(str(path))
            return json.loads(files.read_text(record))
    return None


# --- looking at what was trained ---------------------------------------------------------------------------------------


def scored_net(model, split, options, data):
    """Return the net of `split` without its losses: how labels meet the loss is no matter of the scores."""
    return stand_ins.without_judges(recipe(model).net(split, data=data, **options))


def opened(context, trained, options=None, data=None):
    """Return the scored net of a run, of other `options` or another param_str if given, with the weights that it learned."""
    one = trained.run
    options = {**one.options, **one.numbers, **(options or {})}
    net = scored_net(one.model, recipe(one.model).SPLITS[1], options, {**one.val, **(data or {})})
    return Net(net, caffe_pb2.TEST, weights=trained.weights, device=context.device, seed=one.seed)


def scored_with(context, trained, options=None, data=None):
    """Return the confusion matrix of what was trained, tested with other `options` or another param_str."""
    net = opened(context, trained, options, data)
    try:
        return _confusion(net)
    finally:
        net.close()


def predictions(context, trained, count, options=None):
    """Return [(id, picture, truth, prediction)] of the first `count` images that are scored; uint8 arrays as in files."""
    net = opened(context, trained, options)
    try:
        dataset, found = data_layers.dataset_of(net), []
        for name in dataset.ids[:count]:
            net.forward_from_to(0, len(net.layers) - 1)
            found.append((name, *dataset.pair(name), predict(net.blobs["score"].data, "score", net)[0]))
        return found
    finally:
        net.close()


# --- what decides a run ----------------------------------------------------------------------------------------------


def _digest(*parts):
    digest = hashlib.sha256(f"{VERSION}\n".encode())
    for part in parts:
        if isinstance(part, list):
            for path in part:
                with open(path, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(text.dump(part).encode())
    return digest.hexdigest()[:12]


def _weights(context, one):
    # [file] of the first values, or [].
    if one.weights is None:
        return []
    path = train(context, one.weights).weights if isinstance(one.weights, Run) else str(one.weights)
    return [files.find(path, what="weights")]


@contextlib.contextmanager
def logged(path):
    # The log goes into the run's own file and not over the progress bar.
    others, level = log.logger.handlers[:], log.logger.level
    for handler in others:
        log.logger.removeHandler(handler)
    try:
        with log.copied_to(path):
            log.logger.setLevel(logging.INFO)
            yield
    finally:
        log.logger.setLevel(level)
        for handler in others:
            log.logger.addHandler(handler)


# --- the drawn data --------------------------------------------------------------------------------------------------


def sample(context, train_images=200, val_images=60, seed=1):
    """Return the folder of sample pictures drawn for the experiments; they are drawn once."""
    folder = shared(context) / f"sample-{train_images}-{val_images}-{seed}"
    if not folder.exists():
        context.say(f"drawing {train_images + val_images} sample pictures")
        draw(folder, train_images, val_images, seed)
    return str(folder)
