"""Training on a card without waiting for it: iterations are queued, what came of them is asked for later.

An iteration is passes and an update, each queued anew or, in nets whose images have one size, a recording that is replayed
(`layers.core.cuda.recording`; where gradients are not accumulated all of it is one). What changes from one to the next is
brought to the card before: images and labels, where random numbers begin, rates.

The losses stay on the card. `settle` brings them over, when they are displayed, kept or tested, or when there are many. Until
then nobody has seen whether they are finite and the labels good, so the card looks itself: after a pass that went wrong all
updates do nothing. `settle` goes back to that iteration then and runs it again, where somebody looks at each pass.
"""

import math
from typing import NamedTuple

import numpy as np

from layers.core.cuda import squares, sums
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.recording import Repeated
from layers.core.cuda.small import Numbers
from layers.core.cuda.sums import THREADS, tree
from layers.core.layer import Layer
from netspec.errors import Error
from solvers import policy, snapshot

# `step`, float32: whether a pass went wrong; the factor of all gradients; their norm, a float64; then losses.
HALTED, CLIP, NORM, LOSSES = 0, 1, 2, 4
ROWS = 256  # copies of `step` that wait to be looked at


class Iteration(NamedTuple):
    """An iteration that was queued.

    Attributes
    ----------
    number, current_step : int
        Of the solver, before it.
    before : dict
        What `snapshot.record` said before.
    passes : list
        For each pass what `PixelLoss.look` said.
    """

    number: int
    current_step: int
    before: dict
    passes: list


class OnCard:
    """What a solver has on its net's card.

    Attributes
    ----------
    step : Span
        What is one for all parameters, see above.
    """

    def __init__(self, solver):
        self.solver, self.net, self.card = solver, solver.net, solver.net.card
        self.queued = []  # iterations
        self._repeated = Repeated(self.card)
        self._rows = self._late = None
        # Losses, and other tops that say the loss per pixel: (layer, top, weight).
        self._losses = [(number, blob, weight) for number, top in enumerate(self.net.top_vecs)
                        for blob, weight in zip(top, self.net.layers[number].loss_weights) if weight]
        seen = {id(blob) for _, blob, _ in self._losses}
        heads = [(number, self.net.top_vecs[number][0], 0) for number in solver.pixel_loss.heads]
        self._losses += [head for head in heads if id(head[1]) not in seen]
        layers = self.net.layers
        # Where what went wrong would not be seen, or not leave the state before it, nobody goes on without looking.
        self._may = not any(layer.gathers or type(layer).check_cuda is not Layer.check_cuda
                            and type(layer).flag_cuda is Layer.flag_cuda for layer in layers)
        self._length = 4 * (LOSSES + len(self._losses))
        self._step, self._copies = self.card.arena.take(self._length), None
        self.step = self._step.span

    # --- what updates read ------------------------------------------------------------------------------------------

    def send(self, steps, clip=None):
        """Bring to the card what updates read; `steps`: what `Solver.update` takes, for each parameter.

        `clip` is the factor of all gradients; None: it is computed there.
        """
        numbers = np.array([(*self.solver.numbers(rate), *gradient[1:]) for _, _, gradient, rate in steps], np.float32)
        if numbers.size:
            self._rows, self._row = self._rows or Numbers(self.card, numbers.size), 4 * numbers.shape[1]
            self._rows.write(numbers)
        if clip is not None:
            self.card.upload(self.step, np.array([0, clip], np.float32))

    def numbers_of(self, number):
        """Return the spans of `step` and of the numbers of a parameter."""
        return self.step, self.card.within(self._rows.span, self._row * number, self._row)

    def norm(self, blobs):
        """Return the norm of the gradients of blobs that are all on the card."""
        self._queue_norm(blobs, -1)
        found = np.empty(1)
        self.card.download(found, self._norm)
        return float(found[0])

    @property
    def _norm(self):
        return self.card.within(self.step, 4 * NORM, 8)

    def _queue_norm(self, blobs, limit):
        """Write the norm of all gradients, and the factor that brings it down to `limit`, unless that is below 0."""
        part, counts = squares.partial_sums(self.card, blobs, diff=True)
        self.card.launch(clip_cuda, 1, part.span, limit, self._norm, self.step, sum(counts), threads=sums.threads(self.card))

    # --- iterations -------------------------------------------------------------------------------------------------

    def can(self):
        """Whether the next iteration may be queued: all of it happens on the card, and nobody wants to look at it in between."""
        solver, card = self.solver, self.card
        if not self._may or solver.is_watched() or self.net.is_watched() or solver.param.iter_size >= ROWS:
            return False
        if not all(blob.count == 1 and self.net.layers[number].card is card for number, blob, _ in self._losses):
            return False
        for number, blob in enumerate(self.net.learnable_params):
            if blob.has_diff and not blob.is_on(card, diff=True):
                return False
            rate = np.float32(self.net.params_lr[number])
            histories = [solver.history_of(number, which) for which in range(solver.histories)]
            if not solver.rests(number, rate) and not (
                    blob.has_diff and all(one.is_on(card) for one in (blob, *histories))):
                return False
        return True

    def queue(self, before):
        """Queue an iteration; `before`: what `snapshot.record` said."""
        solver, many = self.solver, self.solver.param.iter_size
        if self._used() + many + 1 > ROWS:
            self.settle()
        rate, _ = policy.learning_rate(solver.param, solver.iter, solver.current_step)
        steps = solver.steps(rate, np.float32(1))
        self.send(steps, None if self.queued else np.float32(1))
        key = tuple((blob.has_diff, solver.rests(number, rate), *(solver.history_of(number, i) for i in range(solver.histories)))
                    for number, blob, _, rate in steps)
        iteration, whole = Iteration(solver.iter, solver.current_step, before, []), many == 1
        for _ in range(many):
            self.net.queue_step(lambda: self._judge(steps if whole else None), ("queued", whole and key))
            self._copy(len(iteration.passes))
            iteration.passes.append(solver.pixel_loss.look())
        if not whole:
            self._repeated.run(key, lambda: self._update(steps))
        self._copy(many)
        self.queued.append(iteration)

    def _used(self):
        """Return how many rows of copies are in use: of each pass, and of the update."""
        return sum(len(iteration.passes) + 1 for iteration in self.queued)

    def _copy(self, row):
        """Keep what `step` says now, of the iteration that is being queued."""
        if self._copies is None:
            self._copies = self.card.arena.take(ROWS * self._length)
        at = (self._used() + row) * self._length
        self.card.copy(self.card.within(self._copies.span, at, self._length), self.step, self._length)

    def _judge(self, steps):
        """Queue a look at the losses and labels of a pass; with `steps` the update, too."""
        for place, (_, blob, weight) in enumerate(self._losses, LOSSES):
            self.card.run(keep_cuda, 1, blob.on(self.card), self.step, place, weight != 0)
        for layer in self.net.layers:
            flag = layer.flag_cuda() if layer.card is not None else None
            if flag is not None:
                self.card.run(halt_cuda, 1, flag, self.step)
        if steps is not None:
            self._update(steps)

    def _update(self, steps):
        limit = self.solver.param.clip_gradients
        if limit >= 0:
            self._queue_norm([blob for blob in self.net.learnable_params if blob.has_diff], limit)
        for step in steps:
            self.solver.update(*step)

    # --- what came of them ------------------------------------------------------------------------------------------

    def settle(self):
        """Wait for all that was queued and let the solver know its losses; return whether there was something.

        The first iteration with a loss that is not finite or a bad label is run again, which says what is wrong.
        """
        if not self.queued:
            return False
        used, (queued, self.queued) = self._used(), (self.queued, [])
        found = np.empty((used, self._length // 4), np.float32)
        self.card.download(found, self._copies.span)
        solver, row, limit = self.solver, 0, self.solver.param.clip_gradients
        now = solver.iter, solver.current_step
        for iteration in queued:
            rows = found[row:row + len(iteration.passes) + 1]
            row += len(rows)
            solver.iter, solver.current_step = iteration.number, iteration.current_step
            if rows[:-1, HALTED].any():
                self._again(iteration)
            for values, look in zip(rows, iteration.passes):
                solver.pixel_loss.add(look, self._head_losses(values))
            solver.take_losses([self._loss(values) for values in rows[:-1]])
            norm = rows[-1, NORM:LOSSES].view(np.float64)[0]
            if limit >= 0 and norm > limit:
                if iteration.number == now[0]:
                    self._late = norm, limit  # what is displayed of it comes first
                else:
                    solver.say_clip(norm, limit)
        solver.iter, solver.current_step = now
        return True

    def say_late(self):
        """Log what there is to say of the last iteration when its losses have been displayed."""
        if self._late is not None:
            self.solver.say_clip(*self._late)
        self._late = None

    def _loss(self, values):
        """Return the loss that `Net.settle` would."""
        total, each = 0.0, {}
        for (number, _, weight), value in zip(self._losses, values[LOSSES:]):
            if weight:
                each[number] = each.get(number, 0) + weight * float(value)
        for loss in each.values():
            total += loss
        return total

    def _head_losses(self, values):
        found = {id(blob): float(value) for (_, blob, _), value in zip(self._losses, values[LOSSES:])}
        return [found[id(self.net.top_vecs[number][0])] for number in self.solver.pixel_loss.heads]

    def _again(self, iteration):
        """Run an iteration that went wrong again, from the state before it, which the weights are still in."""
        solver = self.solver
        snapshot.go_back(solver, iteration.before)
        self.net.clear_param_diffs()
        solver.run_passes(snapshot.record(solver))
        raise Error(f"iteration {iteration.number} went wrong (its loss was not finite, or a label bad), but not when it was run "
                    f"again: its data differed, or the card is at fault; {snapshot.last(solver)}")


@kernel("float*, float*, int, bool, int")
def keep_cuda(loss, step, place, halts, count):
    """Keep a loss; one that is not finite halts updates."""
    for _ in range(cuda.grid(1), count, cuda.gridsize(1)):
        step[place] = loss[0]
        if halts and not math.isfinite(loss[0]):
            step[HALTED] = 1


@kernel("int*, float*, int")
def halt_cuda(flag, step, count):
    """Halt updates if a flag is raised."""
    for _ in range(cuda.grid(1), count, cuda.gridsize(1)):
        if flag[0] != 0:
            step[HALTED] = 1


@kernel("double*, double, double*, float*, int", threads=THREADS)
def clip_cuda(squares, limit, norm, step, count):
    """One block: the norm and the factor; thread t of T adds the sums t, t + T, ..., then threads add as in `tree`."""
    totals = cuda.shared.array(THREADS, np.float64)
    thread, together = cuda.threadIdx.x, cuda.blockDim.x
    total = 0.0
    for i in range(thread, count, together):
        total += squares[i]
    totals[thread] = total
    tree(totals, thread, together)
    if thread == 0:
        root = math.sqrt(totals[0])
        norm[0] = root
        if limit >= 0:
            step[CLIP] = np.float32(limit / root) if root > limit else np.float32(1)
