"""Solver: Caffe's training loop, and how a solver type is found by its name.

A solver type is one file, `solvers/<type in lower case>.py`, with a class `<Type>Solver` and its update rule: `rule`, two
kernels, `numbers`, what they take beside arrays, `histories`, how many arrays a parameter they keep. See sgd.py.

The kernel of the CPU takes them as arguments: ``foo_cpu(first, last, data, diff, *histories, *numbers, clip, scale, l2, l1)``.
That of a card reads them in the card's memory, so that an iteration can be recorded once and replayed with other numbers:
``foo_cuda(data, diff, *histories, step, numbers, count)``, where the float32 `numbers` are ``*numbers, scale, l2, l1``, and
``step[CLIP]`` is clip. It does nothing where ``step[HALTED]`` is not 0: then an earlier pass was bad, which nobody has seen yet.
"""

import ast
import collections
import functools
import importlib
import math
import os
import pathlib
import time

import numpy as np
from google.protobuf import message as protobuf_message

from layers.core import rng
from layers.core.blob import Blob
from layers.core.cpu import parallel
from layers.core.cuda.driver import CardError
from layers.core.net import Net
from netspec import caffe_pb2, files, text, upgrade
from netspec.errors import Error, UnknownName, nearest
from solvers import health, log, policy, snapshot
from solvers.on_card import OnCard
from solvers.pixel_loss import PixelLoss

FOLDER = pathlib.Path(__file__).resolve().parent
CAFFE = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")  # all of Caffe's types
MOST_LINES = 1000  # values of one output blob in the log; Caffe would print all pixels of a map

# How a parameter's accumulated diff becomes the gradient: diff * clip * scale + l2 * data + l1 * sign(data).
Gradient = collections.namedtuple("Gradient", "clip scale l2 l1")


class Diverged(Error):
    """The loss is not finite any more."""


# --- solver types ----------------------------------------------------------------------------------------------------


@functools.cache
def types():
    """Return {type name: module stem} of all solver types, without importing their files."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.lower() == f"{path.stem.replace('_', '')}solver":
                found[node.name.removesuffix("Solver")] = path.stem
    return found


def find(type_name):
    """Return the class of the solver type `type_name`; an unknown one is an `UnknownName`."""
    if type_name not in types():
        if type_name in CAFFE:
            raise UnknownName(f"solver type '{type_name}' of Caffe is not built here yet; known: {', '.join(types())}")
        raise UnknownName(f"unknown solver type '{type_name}'{nearest(type_name, types())}; "
                          f"known: {', '.join(types())}")
    return getattr(importlib.import_module(f"solvers.{types()[type_name]}"), f"{type_name}Solver")


def make(param, **options):
    """Return the solver that a solver prototxt (or SolverParameter) asks for with its `type`."""
    param, path = _read(param)
    return find(param.type)(param, path=options.pop("path", path), **options)


def _read(param):
    # (SolverParameter, path or ""); a message is copied and brought up to date.
    if isinstance(param, protobuf_message.Message):
        copy = caffe_pb2.SolverParameter()
        copy.CopyFrom(param)
        return upgrade.upgrade_solver(copy), ""
    path = files.find(param, what="solver")
    shown = os.fspath(param) if os.path.exists(param) else path  # a relative path stays one, in names of snapshots too
    return text.read_solver(shown), shown


# --- the loop --------------------------------------------------------------------------------------------------------


class Solver:
    """Trains a net as a SolverParameter says; subclasses add the update rule.

    Parameters
    ----------
    param : str, path or SolverParameter
        The solver prototxt; paths in it are tried as they are, beside it and from the project's root.
    net_class : class
        What nets are made with, ``net_class(path or message, phase=, level=, stages=)``.
    path : str, optional
        Where `param` comes from when it is a message.
    edit : callable, optional
        ``edit(net_message)`` may change each net (in place) before it is made.
    allow_unknown : bool, optional
        Drop unknown fields of the nets' files, with a warning for each.

    Attributes
    ----------
    net, test_nets : Net, list of Net
    iter : int
        How many times the weights were updated.
    history : History
        For each learnable parameter (times `histories`) an array, or None while it is all zero.
    requested_action : callable
        Asked after every iteration and before every test pass; returns None, "snapshot" or "stop".
    stopped : bool
        Whether the last `step` or `solve` ended because of "stop".
    last_snapshot : tuple or None
        (iteration, weights file, state file).
    """

    histories = 1

    def __init__(self, param, net_class=Net, path="", edit=None, allow_unknown=False):
        self.param, found = _read(param)
        self.path = os.fspath(path or found)
        self.net_class, self.edit, self.allow_unknown = net_class, edit, allow_unknown
        log.start()
        self._check()
        if self.param.random_seed >= 0:
            rng.seed_process(self.param.random_seed)
        self.iter = self.current_step = 0
        self.stopped, self.requested_action = False, lambda: None
        self.last_snapshot = None
        self.losses, self.smoothed_loss, self.first, self.resumed = [], 0.0, 0, False
        self._callbacks = []
        self._make_train_net()
        self._make_test_nets()
        shapes = [blob.shape for blob in self.net.learnable_params]
        self.history_shapes = shapes * self.histories
        self.history = History(self.history_shapes, self.net.dtype)
        self.net.beside = [blob for number, blob in enumerate(self.history.blobs)
                           if self.net.params_lr[number % len(self.net.params_lr)]]
        self.pixel_loss = PixelLoss(self.net, self.param.average_loss * self.param.iter_size)
        self.on_card = None if self.net.card is None else OnCard(self)
        log.info("solver.cpp:57", "Solver scaffolding done.")

    def _check(self):
        param = self.param
        policy.check(param)
        for what, least in (("iter_size", 1), ("average_loss", 1), ("display", 0), ("snapshot", 0),
                            ("test_interval", 0), ("max_iter", 0)):
            if getattr(param, what) < least:
                raise Error(f"{self.path or 'solver'}: {what} is {getattr(param, what)}; it must be {least} or more")
        if param.weight_decay and param.regularization_type not in ("L1", "L2"):
            raise UnknownName(f"unknown regularization_type '{param.regularization_type}'"
                              f"{nearest(param.regularization_type, ('L1', 'L2'))}; known: L1, L2")

    # --- nets --------------------------------------------------------------------------------------------------------

    def _make_train_net(self):
        param = self.param
        given = [f for f in ("net", "net_param", "train_net", "train_net_param") if param.HasField(f)]
        if len(given) != 1:
            raise Error(f"{self.path or 'solver'}: the training net must be given by one of net, net_param, train_net "
                        f"and train_net_param, here it is by {' and '.join(given) or 'none'}")
        self.net = self._make_net(getattr(param, given[0]), caffe_pb2.TRAIN, param.train_state, "training net",
                                  "solver.cpp:102")

    def _make_test_nets(self):
        param = self.param
        own = list(param.test_net_param) + list(param.test_net)
        generic = [getattr(param, f) for f in ("net_param", "net") if param.HasField(f)]
        passes = len(param.test_iter)
        if generic and passes < len(own):
            raise Error(f"{self.path or 'solver'}: test_iter is given {passes} times for {len(own)} test nets; "
                        "it must be given for each")
        if not generic and passes != len(own):
            raise Error(f"{self.path or 'solver'}: test_iter is given {passes} times for {len(own)} test nets; "
                        "it must be given once for each")
        nets = own + generic * (passes - len(own))
        if len(param.test_state) not in (0, len(nets)):
            raise Error(f"{self.path or 'solver'}: test_state is given {len(param.test_state)} times for {len(nets)} "
                        "test nets; it must be given once for each or never")
        if nets and param.test_interval <= 0:
            raise Error(f"{self.path or 'solver'}: there are test nets, but test_interval is {param.test_interval}; "
                        "it must be above 0")
        if any(count < 1 for count in param.test_iter):
            raise Error(f"{self.path or 'solver'}: test_iter is {list(param.test_iter)}; each must be above 0")
        self.test_nets = []
        for number, net in enumerate(nets):
            state = param.test_state[number] if param.test_state else caffe_pb2.NetState()
            self.test_nets.append(self._make_net(net, caffe_pb2.TEST, state, f"test net (#{number})",
                                                 "solver.cpp:190"))

    def _make_net(self, net, phase, state, what, place):
        options = {"phase": state.phase if state.HasField("phase") else phase, "level": state.level,
                   "stages": tuple(state.stage)}
        if isinstance(net, str):
            path = files.find(net, beside=self.path or None, what=what)
            log.info(place, f"Creating {what} from file: {path}")
            if self.edit is None:
                if self.allow_unknown:
                    options["allow_unknown"] = True
                made = self.net_class(path, **options)
            else:
                dropped = [] if self.allow_unknown else None
                message = text.read_net(path, dropped)
                for sentence in dropped or ():
                    log.warning(place, sentence)
                self.edit(message)
                made = self.net_class(message, source=path, **options)
        else:
            log.info(place, f"Creating {what} from the solver's own text")
            message = caffe_pb2.NetParameter()
            message.CopyFrom(net)
            if self.edit is not None:
                self.edit(message)
            made = self.net_class(message, **options)
        self._load_weights(made)
        return made

    def _load_weights(self, net):
        for names in self.param.weights:
            for name in filter(None, map(str.strip, names.split(","))):
                path = files.find(name, beside=self.path or None, what="weights")
                log.info("solver.cpp:40", f"Finetuning from {path}")
                net.copy_from(path)

    def _say_outputs(self, what, place, found, weights):
        # `found`: list of (blob name, flat values); every value has a line and a number, as in Caffe.
        number = 0
        for name, values in found:
            weight = weights.get(name, 0)
            for value in values[:MOST_LINES]:
                loss = f" (* {log.number(weight)} = {log.number(weight * value)} loss)" if weight else ""
                log.info(place, f"    {what} net output #{number}: {name} = {log.number(value)}{loss}")
                number += 1
            if len(values) > MOST_LINES:
                log.info(place, f"    {name} has {len(values)} values, the first {MOST_LINES} are shown")

    # --- training ----------------------------------------------------------------------------------------------------

    def add_callback(self, on_start=None, on_gradients_ready=None, on_update=None):
        """Call the functions, without arguments, before each iteration's passes, after them, after its update."""
        self._callbacks.append((on_start, on_gradients_ready, on_update))

    def _call(self, which):
        for functions in self._callbacks:
            if functions[which] is not None:
                functions[which]()

    def step(self, count):
        """Train `count` iterations; test, log and take snapshots when they are due."""
        param = self.param
        self.settle()
        if not self.resumed:
            self.losses, self.smoothed_loss, self.first = [], 0.0, self.iter
            self.pixel_loss.clear()
        self.resumed = self.stopped = False
        end = self.iter + count
        since, timer = self.iter, time.perf_counter()
        while self.iter < end:
            self.net.clear_param_diffs()
            if self._is_due(param.test_interval) and (self.iter or param.test_initialization):
                self.test_all()
                if self.stopped:
                    break
            self._call(0)
            display = self._is_due(param.display)
            self.net.param.debug_info = bool(display and param.debug_info)
            queued = self.on_card is not None and self.on_card.can()  # passes and update: nobody waits for them
            if not queued:
                self.settle()
            before = snapshot.record(self)
            try:
                (self.on_card.queue if queued else self.run_passes)(before)
            except CardError as error:
                raise type(error)(f"{error}; iteration {self.iter} is not done; {self._keep(before)}") from error
            if display:
                self.settle()
                lapse = time.perf_counter() - timer
                pace = (self.iter - since) / (lapse or 1)
                log.info("solver.cpp:218", f"Iteration {self.iter} ({log.number(pace)} iter/s, {log.number(lapse)}s/"
                                           f"{param.display} iters), loss = {log.number(self.smoothed_loss)}")
                since, timer = self.iter, time.perf_counter()
                self._say_outputs("Train", "solver.cpp:237", outputs(self.net), loss_weights(self.net))
                self.pixel_loss.say("solver.cpp:237")
                self._check_parameters()
            if queued:
                self._new_rate()
                self.on_card.say_late()
            else:
                self._call(1)
                try:
                    self.apply_update()
                except CardError as error:
                    raise type(error)(f"{error}; the update of iteration {self.iter} is half done; "
                                      f"{snapshot.last(self)}") from error
            self.iter += 1
            self._call(2)
            action = self.requested_action()
            if (param.snapshot and self.iter % param.snapshot == 0) or action == "snapshot":
                self.snapshot()
            if action == "stop":
                self.stopped = True
                break
        self.settle()

    def settle(self):
        """Wait for the iterations that a card was told, so that losses are up to date; return whether there were any."""
        return self.on_card is not None and self.on_card.settle()

    def is_watched(self):
        """Whether somebody wants to be called between passes and update."""
        return bool(self._callbacks)

    def run_passes(self, before):
        """Run an iteration's passes; `before`: what `snapshot.record` said before them."""
        self.take_losses([self._pass(before) for _ in range(self.param.iter_size)])

    def take_losses(self, losses):
        """Take the loss of each pass of an iteration."""
        self._smooth(sum(losses) / self.param.iter_size)

    def _pass(self, before):
        """Run forward and backward; return the loss, which must be finite. `before`: what `snapshot.record` said before."""
        net, last = self.net, len(self.net.layers) - 1
        # A card does not wait between the two for somebody to look at the loss.
        loss = net.forward_from_to(0, last) if net.card is None else net.forward_backward()
        if not math.isfinite(loss):
            self._stop_at_bad_loss(loss, before)
        self.pixel_loss.add()
        if net.card is None:
            net.backward_from_to(last, 0)
        return loss

    def solve(self, resume=None):
        """Train until `max_iter`, from the state file `resume` if one is given; snapshot and test at the end."""
        param = self.param
        log.info("solver.cpp:289", f"Solving {self.net.name}")
        log.info("solver.cpp:290", f"Learning Rate Policy: {param.lr_policy}")
        if resume:
            log.info("solver.cpp:298", f"Restoring previous solver status from {resume}")
            self.restore(resume)
        snapshot.probe(self)
        self.step(param.max_iter - self.iter)
        if param.snapshot_after_train and (not param.snapshot or self.iter % param.snapshot):
            self.snapshot()
        if self.stopped:
            log.info("solver.cpp:317", "Optimization stopped early.")
            return
        if self._is_due(param.display):
            # The loss after the last update; the weights do not change any more.
            self._smooth(self.net.forward_from_to(0, len(self.net.layers) - 1))
            log.info("solver.cpp:327", f"Iteration {self.iter}, loss = {log.number(self.smoothed_loss)}")
        if self._is_due(param.test_interval):
            self.test_all()
        log.info("solver.cpp:332", "Optimization Done.")

    def _is_due(self, interval):
        return interval and self.iter % interval == 0

    def _smooth(self, loss):
        """Average over the last `average_loss` iterations, with Caffe's running update."""
        window = self.param.average_loss
        if len(self.losses) < window:
            self.losses.append(loss)
            self.smoothed_loss += (loss - self.smoothed_loss) / len(self.losses)
        else:
            place = (self.iter - self.first) % window
            self.smoothed_loss += (loss - self.losses[place]) / window
            self.losses[place] = loss

    def _stop_at_bad_loss(self, loss, before):
        first = health.first_bad(self.net) or "the loss itself"
        what = (f"the loss is {loss:g} in iteration {self.iter}; the first value that is not finite is in {first}; "
                "lower base_lr or give clip_gradients, and look at the data (a loss per pixel near 87.3365 = "
                "-log(FLT_MIN) before it says that the scores have grown too large)")
        raise Diverged(f"{what}; {self._keep(before)}")

    def _keep(self, before):
        """Write a snapshot of the state before this iteration, if there is none and it is good; return where it is, in words."""
        is_kept = self.last_snapshot is not None and self.last_snapshot[0] == self.iter
        try:
            if self.settle():
                before = {**before, **snapshot.losses(self)}  # which were not known then
            if is_kept or health.bad_parameter(self.net):
                return snapshot.last(self)
            return f"the state before this iteration is kept in {snapshot.write(self, before)[1]}"
        except (Error, OSError) as error:
            return f"a snapshot of the state before could not be written ({error}); {snapshot.last(self)}"

    def _check_parameters(self):
        bad = health.bad_parameter(self.net)
        if bad:
            raise Error(f"{bad} holds values that are not finite (NaN or infinity) in iteration {self.iter}; "
                        f"lower base_lr or give clip_gradients; {snapshot.last(self)}")

    # --- the update --------------------------------------------------------------------------------------------------

    def apply_update(self):
        """Turn the accumulated diffs into an update of the weights: Caffe's order clip, normalise, regularise, rule."""
        rate = self._new_rate()
        clip = self._clip()
        steps = self.steps(rate, clip)
        if self.on_card is not None:
            self.on_card.send(steps, clip)
        for step in steps:
            self.update(*step)

    def _new_rate(self):
        """Return the iteration's rate, and say so where it is displayed."""
        param = self.param
        rate, current_step = policy.learning_rate(param, self.iter, self.current_step)
        if param.lr_policy == "multistep" and current_step != self.current_step:
            log.info("sgd_solver.cpp:49", f"MultiStep Status: Iteration {self.iter}, step = {current_step}")
        self.current_step = current_step
        if self._is_due(param.display):
            log.info("sgd_solver.cpp:105", f"Iteration {self.iter}, lr = {log.number(rate)}")
        return rate

    def steps(self, rate, clip):
        """Return what `update` takes, for each parameter."""
        param, steps = self.param, []
        scale = np.float32(1) / np.float32(param.iter_size)
        for number, blob in enumerate(self.net.learnable_params):
            decay = np.float32(param.weight_decay) * np.float32(self.net.params_weight_decay[number])
            l1, l2 = (decay, np.float32(0)) if param.regularization_type == "L1" else (np.float32(0), decay)
            steps.append((number, blob, Gradient(clip, scale, l2, l1), rate * np.float32(self.net.params_lr[number])))
        return steps

    def update(self, number, blob, gradient, rate):
        """Change parameter `number` by the rule of the solver's type.

        Parameters
        ----------
        blob : Blob
            Its `data` is changed, its `diff` holds what was subtracted afterwards.
        gradient : Gradient
            How `diff` becomes the gradient.
        rate : numpy.float32
            The iteration's rate times the parameter's lr_mult.
        """
        if self.rests(number, rate):
            blob.clear_diff()
            return
        histories = [self.history_of(number, which) for which in range(self.histories)]
        card, (cpu, cuda) = self.update_on(blob), self.rule()
        if card is None:
            arrays = [array.reshape(-1) for array in (blob.data, blob.diff, *(one.data for one in histories))]
            parallel.run(cpu, blob.count, *arrays, *map(blob.dtype.type, (*self.numbers(rate), *gradient)))
        else:
            spans = blob.change_on(card), blob.change_on(card, diff=True), *(one.change_on(card) for one in histories)
            card.run(cuda, blob.count, *spans, *self.on_card.numbers_of(number))

    def rule(self):
        """Return the kernels of an update, for the CPU and for a card: see the head of this file."""
        raise NotImplementedError(f"{type(self).__name__}.rule")

    def numbers(self, rate):
        """Return the numbers that the kernels take, for a parameter with this rate."""
        raise NotImplementedError(f"{type(self).__name__}.numbers")

    def rests(self, number, rate):
        """Whether a parameter and its history stay as they are, and take no memory: by default, if its lr_mult is 0."""
        return not self.net.params_lr[number]

    def history_of(self, number, which=0):
        """Return the history of a parameter (number `which` of it), a Blob; zeros when it is asked for first."""
        return self.history.blobs[number + which * len(self.net.learnable_params)]

    def update_on(self, blob):
        """Return the card on which to update a parameter: where its gradient or its values are; None is the CPU."""
        card = self.net.card
        return card if card is not None and (blob.is_on(card, diff=True) or not blob.has_diff and blob.is_on(card)) else None

    def has_history(self, number, which=0):
        """Whether the history array of a parameter was ever asked for; otherwise it is zero and takes no memory."""
        return self.history_of(number, which).memory().taken

    def _clip(self):
        """Return the factor that brings the norm of all accumulated diffs down to clip_gradients, at most 1."""
        limit = self.param.clip_gradients
        if limit < 0:
            return np.float32(1)
        touched = [blob for blob in self.net.learnable_params if blob.has_diff]
        if self.on_card is not None and all(blob.is_on(self.net.card, diff=True) for blob in touched):
            norm = self.on_card.norm(touched)
        else:
            norm = math.sqrt(sum(health.sums_of_squares(self.net, touched, diff=True)))
        return self.say_clip(norm, limit) if norm > limit else np.float32(1)

    @staticmethod
    def say_clip(norm, limit):
        """Log that gradients are scaled down; return the factor."""
        factor = np.float32(limit / norm)
        log.info("sgd_solver.cpp:92", f"Gradient clipping: scaling down gradients (L2 norm {log.number(norm)} > "
                                      f"{log.number(limit)}) by scale factor {log.number(factor)}")
        return factor

    # --- testing -----------------------------------------------------------------------------------------------------

    def test_all(self):
        """Run every test net over its test_iter passes and log the averages."""
        for number in range(len(self.test_nets)):
            if self.stopped:
                break
            self.test(number)

    def test(self, number=0):
        """Run one test net, with the training net's weights; return [(output name, averages)], None if stopped."""
        self.settle()
        log.info("solver.cpp:347", f"Iteration {self.iter}, Testing net (#{number})")
        net, passes = self.test_nets[number], self.param.test_iter[number]
        net.share_with(self.net)
        pixel_loss, loss, sums = PixelLoss(net), 0.0, collections.OrderedDict()
        for index in range(passes):
            action = self.requested_action()
            while action:
                if action == "snapshot":
                    self.snapshot()
                else:
                    self.stopped = True
                    break
                action = self.requested_action()
            if self.stopped:
                log.info("solver.cpp:387", "Test interrupted.")
                return None
            loss += net.forward_from_to(0, len(net.layers) - 1)
            pixel_loss.add()
            for name, values in outputs(net):
                if not index:
                    sums[name] = values.copy()
                elif name in sums and len(sums[name]) == len(values):
                    sums[name] += values
                elif name in sums:
                    log.warning("solver.cpp:400", f"output '{name}' of test net #{number} has {len(sums.pop(name))} "
                                                  f"values in one pass, {len(values)} in another: no average")
        if self.param.test_compute_loss:
            log.info("solver.cpp:394", f"Test loss: {log.number(loss / passes)}")
        averages = [(name, values / passes) for name, values in sums.items()]
        self._say_outputs("Test", "solver.cpp:414", averages, loss_weights(net))
        pixel_loss.say("solver.cpp:414")
        return averages

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def snapshot(self):
        """Write weights and state, `PREFIX_iter_N.caffemodel` and `.solverstate`; return the two paths."""
        self.settle()
        return snapshot.write(self)

    def restore(self, path):
        """Go on where a state file (Caffe's or ours, binary or HDF5) was written."""
        snapshot.restore(self, path)

    def close(self):
        """Give back the nets' files and threads."""
        for net in (self.net, *self.test_nets):
            net.close()


class History:
    """What a solver remembers of each parameter, as arrays; None stands for zeros that have taken no memory.

    Attributes
    ----------
    blobs : list of Blob
        The same where the parameters are: here or on a card.
    """

    def __init__(self, shapes, dtype):
        self.blobs = [Blob(shape, f"history {number}", dtype) for number, shape in enumerate(shapes)]

    def __len__(self):
        return len(self.blobs)

    def __iter__(self):
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number):
        blob = self.blobs[number]
        return blob.data if blob.memory().taken else None

    def __setitem__(self, number, values):
        blob = self.blobs[number]
        self.blobs[number] = Blob(blob.shape, blob.name, blob.dtype)
        if values is not None:
            self.blobs[number].data[...] = values


def outputs(net):
    """Return [(blob name, its values, flat, float64)] of what no layer reads."""
    return [(name, net.blobs[name].data.reshape(-1).astype(np.float64)) for name in net.outputs]


def loss_weights(net):
    """Return {blob name: loss weight} of the blobs that are part of the loss."""
    return {name: weight for layer, param in zip(net.layers, net.param.layer)
            for name, weight in zip(param.top, layer.loss_weights) if weight}
