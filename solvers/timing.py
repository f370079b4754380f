"""Caffe's `caffe time`: how long each layer takes, forward and backward, and which share of the machine's peak it reaches.

Layers are timed while the net runs as it always does, in steps that the plan fuses: what a convolution does on behalf of the
ReLU and the pooling behind it is in its own time, and they are said to run with it. On a card the times are the card's own
(events on its queue), and the net is not replayed from a recording.
"""

import collections
import contextlib
import time
from typing import NamedTuple

import numpy as np

from layers.core.cpu import gemm as cpu_gemm
from layers.core.cuda import gemm as cuda_gemm
from layers.core.cuda import tiles
from solvers import log

SIDE, TRIES = 1536, 5  # of the square product that the peak is measured with: 3.6 GMAC, and how often
SIDE_CUDA = 8192
SIDE_SIMULATED = 16


class Time(NamedTuple):
    """What a layer takes: seconds, multiply-accumulates, and the name of the layer that does its work (or "")."""

    seconds: float
    macs: int
    within: str = ""


class Stopwatch:
    """While entered, the layers of `net` are timed: `take` returns {layer number: seconds} since it was last called."""

    def __init__(self, net):
        self.net = net
        self._clock = time.perf_counter if net.card is None else net.card.mark
        self._marks = []
        self.within = {}  # number of a layer -> number of the one that did its forward

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        for number, layer in enumerate(self.net.layers):
            for name in ("forward", "forward_fused", "forward_cuda", "backward", "backward_cuda"):
                self._wrap(layer, name, number)
            self._wrap_done(layer, number)
        # Somebody who looks on keeps a card from replaying the whole at once.
        if self.net.card is not None:
            self._stack.callback(self.net.before_forward(_look_on))
            self._stack.callback(self.net.before_backward(_look_on))
        return self

    def __exit__(self, *error):
        self._stack.close()

    def _wrap(self, layer, name, number):
        method = getattr(layer, name)

        def timed(*arguments):
            begin = self._clock()
            try:
                return method(*arguments)
            finally:
                self._marks.append((number, begin, self._clock()))

        setattr(layer, name, timed)
        self._stack.callback(delattr, layer, name)

    def _wrap_done(self, layer, number):
        method = layer.was_done

        def done():
            self.within[number] = self._running(number)
            return method()

        layer.was_done = done
        self._stack.callback(delattr, layer, "was_done")

    def _running(self, number):
        # A fused step is a layer and those right behind it.
        return self.within.get(number - 1, number - 1)

    def take(self):
        """Return {layer number: seconds} of what ran since, and forget it."""
        card, found = self.net.card, collections.defaultdict(float)
        for number, begin, end in self._marks:
            found[number] += end - begin if card is None else card.seconds(begin, end)
        self._marks.clear()
        return found


def _look_on(number):
    """Do nothing."""


def measure(net, iterations, each=lambda passes: passes):
    """Time forward and backward over `iterations` passes; return (forward, backward, passes).

    Returns
    -------
    forward, backward : list of Time
        The mean of each layer.
    passes : (float, float)
        Mean seconds of a whole forward and a whole backward pass, measured without the stopwatch.
    """
    last = len(net.layers) - 1
    log.info("caffe.cpp:357", "Performing Forward")
    log.info("caffe.cpp:362", f"Initial loss: {log.number(net.forward_from_to(0, last))}")
    log.info("caffe.cpp:363", "Performing Backward")
    net.backward_from_to(last, 0)
    net.forward_from_to(0, last)  # kernels are compiled, sizes met twice
    net.backward_from_to(last, 0)
    log.info("caffe.cpp:371", "*** Benchmark begins ***")
    log.info("caffe.cpp:372", f"Testing for {iterations} iterations.")
    sums, passes = (collections.defaultdict(float), collections.defaultdict(float)), np.zeros(2)
    for number in each(range(iterations)):
        seconds = _pass(net, last)
        log.info("caffe.cpp:400", f"Iteration: {number + 1} forward-backward time: {1e3 * seconds.sum():.4g} ms.")
        passes += seconds
    with Stopwatch(net) as watch:
        for _ in each(range(iterations)):
            for which, run in enumerate((lambda: net.forward_from_to(0, last), lambda: net.backward_from_to(last, 0))):
                run()
                for number, spent in watch.take().items():
                    sums[which][number] += spent
    names, within = net.layer_names, watch.within
    forward = [Time(sums[0][n] / iterations, _macs(net, n), names[within[n]] if n in within else "") for n in range(last + 1)]
    backward = [Time(sums[1][n] / iterations, _macs(net, n) * _products_of_backward(net, n)) for n in range(last + 1)]
    return forward, backward, tuple(passes / iterations)


def _pass(net, last):
    """Run forward and backward; return their seconds."""
    clocks = [time.perf_counter()]
    for run in (lambda: net.forward_from_to(0, last), lambda: net.backward_from_to(last, 0)):
        run()
        if net.card is not None:
            net.card.synchronize()
        clocks.append(time.perf_counter())
    return np.diff(clocks)


def _macs(net, number):
    return net.layers[number].macs([b.shape for b in net.bottom_vecs[number]], [b.shape for b in net.top_vecs[number]])


def _products_of_backward(net, number):
    """Return how many products as large as forward's a layer's backward has: for its weights, and for its bottoms."""
    if not net.layer_need_backward[number]:
        return 0
    layer = net.layers[number]
    return bool(layer.blobs and layer.param_propagate_down[0]) + any(net.bottom_need_backward[number])


def peak(card=None):
    """Return the multiply-accumulates a second that a large float32 product reaches here, the best of some tries."""
    if card is not None:
        return _peak_of_card(card)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    out, best = np.empty_like(a), np.inf
    for _ in range(TRIES):
        begin = time.perf_counter()
        cpu_gemm.gemm(a, b, out)
        best = min(best, time.perf_counter() - begin)
    return SIDE**3 / best


def _peak_of_card(card):
    side = SIDE_SIMULATED if card.name == "simulated" else SIDE_CUDA
    parts = [card.arena.take(4 * side * side) for _ in range(3)]
    for part in parts:
        card.clear(part.span)
    best = np.inf
    for _ in range(TRIES):
        begin = card.mark()
        cuda_gemm.gemm(card, *(part.span for part in parts), side, side, side, how=tiles.arithmetic(card, "fast"))
        best = min(best, card.seconds(begin, card.mark()))
    return side**3 / best


def say(net, forward, backward, passes, iterations, most):
    """Log Caffe's table; `most` is what `peak` returned: beside each layer that multiplies stands its share of it."""
    log.info("caffe.cpp:403", "Average time per layer: ")
    for name, there, back in zip(net.layer_names, forward, backward):
        for what, one in (("forward", there), ("backward", back)):
            beside = f" with {one.within}" if one.within else ""
            if one.macs and one.seconds:
                rate = one.macs / one.seconds
                beside = f" {2e-9 * rate:.1f} GFLOP/s, {100 * rate / most:.0f} % of the peak"
            log.info("caffe.cpp:406", f"{name:>10}\t{what}: {1e3 * one.seconds:.6g} ms.{beside}")
    for line, what, seconds in ((414, "Average Forward pass", passes[0]), (416, "Average Backward pass", passes[1]),
                                (418, "Average Forward-Backward", sum(passes)), (420, "Total Time", sum(passes) * iterations)):
        log.info(f"caffe.cpp:{line}", f"{what}: {1e3 * seconds:.6g} ms.")
    macs = sum(one.macs for one in forward)
    if macs and passes[0]:
        if any(one.macs > one.seconds * most for one in (*forward, *backward) if one.seconds):
            log.info("timing.py:2", "above 100 %: Winograd's convolutions need fewer multiplications than are counted, and in "
                                    "TEST what padding alone makes is kept")
        log.info("timing.py:1", f"Forward: {1e-9 * macs:.4g} GMAC, {100 * macs / passes[0] / most:.0f} % of the peak, "
                                f"{2e-9 * most:.0f} GFLOP/s (a product of two large matrices, measured now)")
    log.info("caffe.cpp:421", "*** Benchmark ends ***")
