"""Train a net: `python -m solvers.run models/fcn8s/solver.prototxt`."""

import argparse
import contextlib
import functools
import importlib.util
import inspect
import os
import shlex
import signal
import sys
import threading

import tqdm

from layers.core import filler, rng
from layers.core.net import Net
from netspec import caffe_pb2, files, recipes, text, weights
from netspec.errors import Error, UnknownName, run_door
from netspec.options import dropped_by, key_values, say_dropped
from solvers import data_layers, engine, health, log, solver

EXAMPLES = """examples:
  python -m solvers.run models/fcn_sample/solver.prototxt --sample
  python -m solvers.run models/fcn32s/solver.prototxt --weights vgg16-fcn.caffemodel
  python -m solvers.run models/fcn32s/solver.prototxt --snapshot models/fcn32s/snapshot/train_iter_4000.solverstate

Ctrl-C finishes the iteration, writes a snapshot and stops; a second one stops at once. SIGHUP writes a snapshot.
"""
KEPT_AT_ZERO = "score"  # the paper starts score layers at zero; --fill leaves layers whose names begin so


def main(argv=None):
    """Train, from weights or a snapshot."""
    options = _parser().parse_args(argv)
    if options.weights and options.snapshot:
        raise UnknownName("--weights begins anew, --snapshot goes on: give one of them")
    log.start()
    with contextlib.ExitStack() as stack:
        if options.log:
            stack.enter_context(log.copied_to(options.log))
        return _train(options)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m solvers.run", description="Train a net as a solver prototxt says.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solver", metavar="SOLVER", help="solver prototxt, its folder, or the name of a model")
    parser.add_argument("--weights", metavar="A,B", help="caffemodel or HDF5 files to start from, by layer names")
    parser.add_argument("--snapshot", metavar="S", help="solverstate (binary or HDF5) to go on from")
    parser.add_argument("--iterations", metavar="N", type=engine.positive,
                        help="train N more iterations, whatever max_iter says (which becomes their number, for lr_policy poly)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", metavar="KEY=VALUE", action="append",
                       help="set a parameter of the data layers, such as voc_dir=PATH (a folder only where a layer has one of "
                       "that name); may be repeated")
    where.add_argument("--sample", action="store_true",
                       help="train on the embedded sample images instead of the net's own data set; layers that would "
                       "be zero get random values (--fill msra)")
    parser.add_argument("--fill", choices=("msra", "xavier"),
                        help="random first values for layers that are all zero, but for those named "
                        f"{KEPT_AT_ZERO}*; seeded by random_seed")
    parser.add_argument("--log", metavar="FILE", help="append the log to this file too")
    engine.add_options(parser)
    return parser


def find_solver(name):
    """Return the path of a solver prototxt, which `name` is, or whose folder or model it names."""
    for path in (name, os.path.join(name, "solver.prototxt")):
        if os.path.isfile(path):
            return path
    if os.path.sep not in name and not name.endswith(".prototxt"):
        name = os.path.join(recipes.FOLDER, recipes.find(name, "no solver file and no model"), "solver.prototxt")
    return files.find(name, what="solver")


def _train(options):
    path = find_solver(options.solver)
    dropped = dropped_by(options)
    param = text.read_solver(path, dropped)
    say_dropped(dropped)
    given = options.weights.split(",") if options.weights else [w for line in param.weights for w in line.split(",")]
    given = [files.find(name.strip(), beside=path, what="weights") for name in given if name.strip()]
    param.ClearField("weights")
    edit = data_layers.use_sample if options.sample else None
    if options.data:
        edit = data_layers.Settings(key_values(options.data))
    machine = solver.make(param, net_class=functools.partial(Net, **engine.use(options, param)), path=path, edit=edit,
                          allow_unknown=options.allow_unknown)
    engine.say_plan(options, machine.net)
    if options.data:
        edit.refuse_unused()
    try:
        if options.snapshot:
            log.info("run.py:1", f"Restoring previous solver status from {options.snapshot}")
            machine.restore(options.snapshot)
        else:
            first_values(machine, given, options.fill or ("msra" if options.sample and not given else None))
        if options.iterations:
            machine.param.max_iter = machine.iter + options.iterations
        if machine.iter >= machine.param.max_iter:
            raise Error(f"nothing to do: iteration {machine.iter} is reached and max_iter is {machine.param.max_iter}; "
                        "--iterations N trains N more")
        return _solve(machine, options)
    finally:
        machine.close()


# --- before the first iteration --------------------------------------------------------------------------------------


def first_values(machine, given, fill=None):
    """Give the training net its first values, log whence they came and refuse a net that cannot learn.

    In this order: the weights files `given`, the recipe's ``start(net, weights)``, random values `fill` ("msra" or
    "xavier") for what is still zero.
    """
    net = machine.net
    alien = []
    for path in given:
        with weights.read_weights(path) as source:
            report = net.copy_from(source)
            if not report.copied:
                alien.append((path, [name for name, blobs in source.layers.items() if blobs]))
        log.info("run.py:2", f"weights from {path}: {report}")
        bad = health.bad_parameter(net)
        if bad:
            raise Error(f"'{path}': {bad} holds values that are not finite (NaN or infinity), and so would the loss; the "
                        "file is damaged, or it was written after training had diverged")
    before = _sizes(net) if alien else None
    _start(machine, given)
    if alien and _sizes(net) == before:
        path, names = alien[0]
        raise Error(f"'{path}' has no layer of the net: weights are matched by layer name, the file has "
                    f"{_few(names)}, the net has {_few(list(net.params))}; rename the layers, or carry the weights "
                    "over with: python -m solvers.surgery transplant")
    if fill:
        _fill(machine, fill)
    _refuse_idle(net)
    _refuse_stuck(net)


def _sizes(net):
    # What tells whether a recipe's `start` took anything from a weights file; upsampling kernels it fills anyway.
    return {name: [health.sum_of_squares(blob.data) for blob in blobs] for name, blobs in net.params.items()
            if net.layer_dict[name].type != "Deconvolution"}


def _few(names):
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}" if names else "none"


def _start(machine, given):
    """Call ``start(net, weights)`` of the `net.py` beside the solver file, if there is one, and log what it says."""
    path = os.path.join(os.path.dirname(os.path.abspath(machine.path)), "net.py")
    if not os.path.isfile(path):
        return
    specification = importlib.util.spec_from_file_location("net_beside_the_solver", path)
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise Error(f"'{path}' cannot be imported: {type(error).__name__}: {error}") from error
    start = getattr(module, "start", None)
    if start is None:
        return
    takes_weights = len(inspect.signature(start).parameters) > 1
    said = start(machine.net, given) if takes_weights else start(machine.net)
    for line in [said] if isinstance(said, str) else said or ():
        log.info("run.py:3", f"start: {line}")


def _fill(machine, kind):
    net, seed = machine.net, max(machine.param.random_seed, 0)
    param, filled = caffe_pb2.FillerParameter(type=kind), []
    for number in health.zero_layers(net):
        layer = net.layers[number]
        if layer.type in ("Convolution", "DepthwiseConvolution", "InnerProduct") and not layer.name.startswith(KEPT_AT_ZERO):
            filler.fill(layer.blobs[0], param, rng.Stream(seed).child(number).generator(), layer.fail)
            filled.append(layer.name)
    if filled:
        log.info("run.py:4", f"random first values ({kind}, seed {seed}): {len(filled)} layers: {', '.join(filled)}")


def _refuse_idle(net):
    if not any(any(layer.loss_weights) for layer in net.layers):
        raise Error("the training net has no loss, so it would learn nothing; is it a deploy net? Add a layer such as "
                    "SoftmaxWithLoss, or give a top a loss_weight")
    if not any(needed and any(net.params_lr[i] for i in ids)
               for needed, ids in zip(net.layer_need_backward, net.param_ids)):
        raise Error("nothing in the training net learns: below its loss there is no parameter with an lr_mult other "
                    "than 0")


def _refuse_stuck(net):
    zero = health.zero_layers(net)
    kernels = [net.layer_names[n] for n in health.stuck_layers(net, zero) if net.layers[n].type == "Deconvolution"]
    # What stays stuck if the kernels were filled is another matter, with another cure.
    others = health.stuck_layers(net, [n for n in zero if net.layer_names[n] not in kernels])
    others = [net.layer_names[n] for n in others]
    if others:
        raise Error(f"the weights of {len(others)} layers ({_few(others)}) are all zero and no gradient would ever "
                    "reach them, so the net cannot learn; start from --weights FILE, or from random values with "
                    "--fill msra")
    if kernels:
        raise Error(f"the upsampling kernels of {_few(kernels)} are all zero, so nothing below them can learn; fill "
                    "them with start(net) of a net.py beside the solver file (as in models/fcn8s), from --weights "
                    'FILE, or in the prototxt: group: CLASSES weight_filler { type: "bilinear" }')


# --- training --------------------------------------------------------------------------------------------------------


def _solve(machine, options):
    signals = Signals()
    machine.requested_action = signals.take
    total = machine.param.max_iter
    shows = sys.stderr.isatty()
    with signals, tqdm.tqdm(total=total, initial=machine.iter, unit="iter", file=sys.stderr, disable=not shows,
                            dynamic_ncols=True) as bar, log.above(bar if shows else None):
        machine.add_callback(on_update=bar.update)
        machine.solve()
    if machine.stopped:
        if machine.last_snapshot is None or machine.last_snapshot[0] != machine.iter:
            machine.snapshot()
        command = ["python", "-m", "solvers.run", options.solver, "--snapshot", machine.last_snapshot[2]]
        command += ["--iterations", str(total - machine.iter)] if options.iterations else []
        command += ["--sample"] if options.sample else []
        if machine.iter < total:
            log.info("run.py:5", f"stopped after {machine.iter} iterations; to go on: {shlex.join(command)}")
        return 128 + signal.SIGINT
    if machine.last_snapshot is not None:
        print(machine.last_snapshot[1])
    return 0


class Signals:
    """While entered, Ctrl-C asks for a stop and SIGHUP for a snapshot; `take` returns what was asked for since."""

    def __init__(self):
        self.asked = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for name, action in (("SIGINT", "stop"), ("SIGHUP", "snapshot")):
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._handler(action))
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handler(self, action):
        def handle(number, frame):
            if action == "stop":
                if self.asked == "stop":
                    raise KeyboardInterrupt
                # Not through the log: a handler may interrupt the log's own writing.
                os.write(2, b"\nfinishing this iteration, then a snapshot; Ctrl-C again stops at once\n")
            if self.asked != "stop":
                self.asked = action

        return handle

    def take(self):
        """Return None, "snapshot" or "stop". A stop stays asked for, so that a second Ctrl-C is known as one."""
        asked = self.asked
        if asked == "snapshot":
            self.asked = None
        return asked


if __name__ == "__main__":
    sys.exit(run_door(main))
