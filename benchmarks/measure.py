"""Measure one row: equality of what the engines compute first, then time in turns."""

import fnmatch
import os
import pathlib
import time

import numpy as np

from benchmarks import folder as photographs
from benchmarks import nets, products, rows, turns
from benchmarks.engines import ENGINES
from benchmarks.process import Engine, EngineError
from netspec import caffe_pb2, measure, text

# The largest difference, of the largest value, that is rounding: Winograd's 5e-6 a layer and a net's depth.
ROUNDING = {"output": 1e-4, "loss": 1e-4, "first weights": 0, "layers": 0,
            # Max poolings choose among equal values by their rounding, and that error is passed down to the first layer.
            "gradient": 2e-2}
HALF_PRECISION = 0.1  # an engine that chose bfloat16
SHORT = 1.5  # seconds for rows of which there are many and whose calls are short
MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"


class Bench:
    """The options of a run, and where its files are."""

    def __init__(self, folder, environment, seconds, least, peers, say):
        self.folder, self.environment, self.seconds, self.least, self.say = folder, environment, seconds, least, say
        self.peers, self.versions, self.missing = peers, {}, {}

    def engine(self, name):
        """Return a new process of an engine."""
        return Engine(name, self.folder, self.environment)

    def row(self, row):
        """Return a list of results (one a row, but one a step for a net layer by layer): {what: value}."""
        begun = time.perf_counter()
        self.say(f"{row.name}")
        kinds = {"layers": self._layers, "folder": self._folder}
        results = kinds.get(row.kind, self._row)(row)
        self.say(f"  {time.perf_counter() - begun:.0f} s")
        return results

    def _wanted(self, row):
        return [name for name in row.peers if any(fnmatch.fnmatch(name, one) for one in self.peers) and name not in self.missing]

    def _row(self, row):
        job = self._job(row)
        result = empty(row)
        with self.engine(row.ours) as ours:
            result["seconds to open"] = ours.open(*job)
            self.versions["deepjet"] = ours.version
            expected = ours.check()
            for name in self._wanted(row):
                self._peer(name, row, job, ours, expected, result)
            result["peak GiB"]["deepjet"] = ours.peak()
        if row.kind == "product":
            result["work"] = products.work(row.net)
        return [result]

    def _peer(self, name, row, job, ours, expected, result):
        """Measure one engine beside ours; what goes wrong is said and leaves a dash."""
        try:
            with self.engine(name) as theirs:
                theirs.open(*job)
                self.versions[name] = theirs.version
                result["difference"][name] = self._compare(name, expected, theirs.check())
                inputs = len(job[1].get("inputs", [0]))
                if inputs > 1 and result["pairs"]:
                    ours.open(*job)  # a net that has met no size yet, beside every engine
                    ours.check()
                seconds = min(self.seconds, SHORT) if row.kind in ("product", "layers", "parse") else self.seconds
                pair, met = turns.in_turns(ours, theirs, seconds, max(self.least, inputs if self.least > 1 else 1), inputs,
                                           name == "deepjet, one size")
                result["peak GiB"][name] = theirs.peak()
            result["pairs"][name] = pair._asdict()
            if met:
                result["first met"][name] = met._asdict()
            self.say(f"  {name:20} {pair.theirs:8.4f} s, ours {pair.ours:8.4f} s, ratio {pair.ratio:.3f}, "
                     f"{len(pair.turns)} turns, difference {result['difference'][name]:.0e}"
                     + (f"; sizes first met: {met.theirs:.4f} s, ours {met.ours:.4f} s, ratio {met.ratio:.3f}" if met else ""))
        except EngineError as error:
            self.say(f"  {name}: {error}")
            if " is not here " in str(error):
                self.missing[name] = str(error)  # said once for all rows
            else:
                result["notes"].append(f"{name}: {error}")

    def _compare(self, name, expected, found):
        """Return the largest difference of what is to be equal, relative to the largest value; more than rounding is refused."""
        worst = 0.0
        for what, array in found.items():
            mine = np.asarray(expected[what], np.float64).reshape(-1)
            theirs = np.asarray(array, np.float64).reshape(-1)
            if mine.shape != theirs.shape:
                raise EngineError(f"{name}'s {what} has {theirs.size} values, ours {mine.size}")
            difference = abs(mine - theirs).max() / max(abs(theirs).max(), 1e-30)
            limit = ROUNDING[what] if ENGINES[name].exact else HALF_PRECISION
            if not difference <= limit:
                raise EngineError(f"{name}'s {what} differs from ours by {difference:.1e} of its largest value; "
                                  f"{limit:.0e} would be rounding")
            worst = max(worst, difference)
        return worst

    def _job(self, row):
        """Return (kind, settings) of a row's job."""
        if row.kind == "product":
            return "product", {"shape": row.net}
        if row.kind == "parse":
            return "parse", {"prototxt": str(max(MODELS.glob(f"*/{row.net}"), key=os.path.getsize))}
        train = row.kind == "train"
        prototxt, model = nets.write(row.net, self.folder, row.shape, train)
        settings = {"prototxt": prototxt, "weights": model}
        if row.kind == "load":
            return "load", {**settings, "first": "conv1_1"}
        sizes = [(1, 3, *size) for size in rows.VOC] if row.kind == "varying" else [row.shape]
        settings["inputs"] = [nets.write_image(self.folder, size) for size in sizes]
        if train:
            classes = nets.IMAGENET if row.net in nets.CLASSIFIERS else nets.CLASSES
            settings["inputs"][0].update(nets.write_labels(self.folder, nets.message(row.net, row.shape, True), classes))
        else:
            settings["output"] = nets.output(row.net)
        return "train" if train else "forward", settings

    def _layers(self, row):
        """A net layer by layer: ours inside the net, the others as nets of that one step, on the same values."""
        prototxt, model = nets.write(row.net, self.folder, row.shape)
        net = text.read_net(prototxt)
        shapes = {top: shape for one in measure.measure(net, phase=caffe_pb2.TEST) for top, shape in zip(one.tops, one.shapes)}
        results = []
        with self.engine(row.ours) as ours:
            for name, layers in nets.segments(net):
                result = empty(row, f"{row.name}: {name}")
                message, bottoms = nets.part(layers, shapes)
                places = {bottom: os.path.join(self.folder, f"bottom-{number}.npy") for number, bottom in enumerate(bottoms)}
                output = layers[-1].top[0]
                self.say(f" {name}")
                image = nets.write_image(self.folder, row.shape)
                ours.open("part", {"prototxt": prototxt, "weights": model, "inputs": [image], "bottoms": places,
                                   "first": layers[0].name, "last": layers[-1].name, "output": output})
                expected = ours.check()
                path = os.path.join(self.folder, "part.prototxt")
                with open(path, "w") as file:
                    file.write(text.dump(message))
                job = "forward", {"prototxt": path, "weights": model, "inputs": [places], "output": output}
                for peer in self._wanted(row):
                    self._peer(peer, row, job, ours, expected, result)
                results.append(result)
        return results

    def _folder(self, row):
        result = empty(row)
        prototxt, model = nets.write(row.net, self.folder, row.shape)
        for name in self._wanted(row):
            try:
                pair, different = photographs.compare(self.folder, prototxt, model, rows.VOC, self.environment,
                                                      1 if self.least == 1 else 3)
            except photographs.Failed as error:
                result["notes"].append(f"{name}: {error}")
                self.say(f"  {name}: {error}")
                continue
            result["pairs"][name], result["difference"][name] = pair._asdict(), different
            result["images"] = photographs.COUNT
            self.say(f"  {name:20} {photographs.COUNT / pair.theirs:.2f} images/s, ours {photographs.COUNT / pair.ours:.2f}, "
                     f"ratio {pair.ratio:.3f}; {100 * different:.3f} % of the pixels differ")
        return [result]


def empty(row, name=None):
    """Return the result of a row of which nothing is measured yet."""
    return {"name": name or row.name, "kind": row.kind, "ours": row.ours, "goals": row.goals, "pairs": {}, "first met": {},
            "difference": {}, "peak GiB": {}, "notes": []}
