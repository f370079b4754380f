"""What a training run does around the solver's loop: first values and refusals before it, signals and a bar while it runs."""

import importlib.util
import inspect
import os
import shlex
import signal
import sys
import threading

import tqdm

from layers.core import filler, rng
from netspec import caffe_pb2, weights
from netspec.errors import Error
from solvers import health, log

KEPT_AT_ZERO = "score"  # the paper starts score layers at zero; `fill` leaves layers whose names begin so


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


def solve(machine, command, signals=None):
    """Train up to max_iter with a bar, as long as no signal stops it; return the exit code.

    `command(state, left)` returns the words that go on from a state file, `left` iterations; for the log.
    """
    signals = signals or Signals()
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
        if machine.iter < total:
            going_on = shlex.join(command(machine.last_snapshot[2], total - machine.iter))
            log.info("run.py:5", f"stopped after {machine.iter} iterations; to go on: {going_on}")
        return 128 + signal.SIGINT
    if machine.last_snapshot is not None:
        print(machine.last_snapshot[1])
    return 0


class Signals:
    """While entered, signals ask for something: Ctrl-C for a stop, SIGHUP for a snapshot; `take` returns what was asked since.

    Parameters
    ----------
    interrupt, hangup : str
        What SIGINT and SIGHUP ask for: "stop", "snapshot" or "none", as Caffe's -sigint_effect and -sighup_effect.
    """

    def __init__(self, interrupt="stop", hangup="snapshot"):
        self.asked = None
        self._effects = {"SIGINT": interrupt, "SIGHUP": hangup}
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for name, action in self._effects.items():
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
            if self.asked != "stop" and action != "none":
                self.asked = action

        return handle

    def take(self):
        """Return None, "snapshot" or "stop". A stop stays asked for, so that a second Ctrl-C is known as one."""
        asked = self.asked
        if asked == "snapshot":
            self.asked = None
        return asked
