"""Which kernel computes a convolution, and why.

    winograd   3 x 3 (and 7 x 7 in TEST), stride 1: a quarter of the multiplications, error 1.4e-6 to 4e-6
    blocked    where the plan keeps images in blocks: a matrix product of the image itself, whatever the kernel
    depthwise  every channel has one kernel of its own: nothing for a matrix product to reuse (`depthwise blocked` in blocks)
    gemm       1 x 1 kernels that skip nothing: a matrix product of the image itself
    direct     everything else: a matrix product that packs the patches it needs from the image
    plain      numpy, and BLAS for float64: more axes than kernels have, other precision

`math` is "fast"; "strict" keeps to direct summation, with the error of Caffe's own sums (2e-7 to 6e-7); "caffe" computes as
Caffe did, im2col and numpy's BLAS: with the same BLAS kernels every rounding is the same.

`force`, or the environment's DEEPJET_KERNEL, names one kernel for all that it can compute at all: for tests, and to find
out whether a kernel is at fault.
"""

import contextlib
import os
from typing import NamedTuple

import numpy as np

from layers.core.cpu import (
    convolve,
    depthwise,
    depthwise_blocked,
    direct,
    direct_blocked,
    direct_image_gradient,
    direct_weight_gradient,
    parallel,
    winograd,
)
from layers.core.cpu.blocked import convert, in_blocks, place
from layers.core.cpu.isa import BLOCK
from layers.core.cpu.memory import shared
from netspec.errors import UnknownName, nearest

LEAST = 16  # channels and outputs below which Winograd's transforms cost more than they save
PLACES = ("winograd", "blocked", "depthwise blocked")  # kernels that take images in either layout
LARGE, PIXELS = 1 << 22, 1024  # weights, and output pixels: fc6 and fc7
TILES = 4  # output pixels along an axis below which tiles are mostly empty


class Choice(NamedTuple):
    """The kernel's name, and the reason in words for the plan."""

    name: str
    reason: str


# What each kernel can compute: of a window, a phase and whether the arrays are float32.
CAN = {
    "winograd": lambda window, phase, single: (
        single and window.simple and window.unit_stride and set(window.dilation) == {1} and window.whole_blocks
        and (window.kernel == (3, 3) or window.kernel == (7, 7) and phase != "weight")),
    "depthwise": lambda window, phase, single: window.depthwise and depthwise.fits(window),
    "blocked": lambda window, phase, single: single and (
        direct_image_gradient.fits(window) if phase == "image" else direct_weight_gradient.fits(window) if phase == "weight"
        else few(window) or direct_blocked.fits(window, True)),
    "depthwise blocked": lambda window, phase, single: single and phase == "forward" and depthwise_blocked.fits(window),
    "gemm": lambda window, phase, single: single and window.simple and window.pointwise,
    "direct": lambda window, phase, single: single and window.simple,
    "plain": lambda window, phase, single: True,
}
_force = None


@contextlib.contextmanager
def force(name):
    """Let the kernel `name` compute every window it can inside, whatever it costs; others are chosen as always.

    Convolutions choose when they are given a new shape: make (or reshape) the net inside. None forces nothing.
    """
    global _force
    before, _force = _force, name
    try:
        forced()
        yield
    finally:
        _force = before


def forced():
    """Return the name of the forced kernel (by `force`, or the environment's DEEPJET_KERNEL), or None."""
    name = _force or os.environ.get("DEEPJET_KERNEL") or None
    if name is not None and name not in CAN:
        raise UnknownName(f"unknown kernel '{name}' is forced{nearest(name, CAN)}; known: {', '.join(CAN)}")
    return name


def choose(window, phase="forward", math="fast", test=True, single=True, blocks=False):
    """Return the `Choice` for a window: the kernel that is `forced` if it can, or the one that is fastest.

    Parameters
    ----------
    window : layers.core.cpu.convolve.Window
    phase : str
        "forward", "image" (its gradient) or "weight".
    math : str
        "fast", "strict" for direct summation, or "caffe" for im2col and BLAS.
    test : bool
        Whether weights stay as they are over many calls (TEST), so that a costly transform of them pays.
    single : bool
        Whether the arrays are float32.
    blocks : bool
        Whether the plan has the image or the output in blocks of 16 channels.
    """
    return _choose(window, phase, math, test, single, blocks, forced())


def _choose(window, phase, math, test, single, blocks, name):
    if name is not None and CAN[name](window, phase, single):
        return Choice(name, "forced")
    if math == "caffe":
        return Choice("plain", "im2col and BLAS, as Caffe")
    if not window.simple:
        return Choice("plain", "more than three spatial axes, or force_nd_im2col")
    if window.depthwise and depthwise.fits(window):
        if blocks and CAN["depthwise blocked"](window, phase, single):
            return Choice("depthwise blocked", "each channel has its own kernel")
        return Choice("depthwise", "each channel has its own kernel")
    if not single:
        return Choice("plain", "float64")
    why = _not_winograd(window, phase, math, test)
    if not why:
        return Choice("winograd", "F(4 x 4, 3 x 3)" if window.kernel == (3, 3) else "F(2 x 2, 7 x 7)")
    # Weights that change at every step and meet few pixels are better packed on their way than kept packed beside themselves.
    once = not test and window.pixels <= PIXELS and window.outputs * window.depth >= LARGE
    if blocks and not once and CAN["blocked"](window, phase, single):
        return Choice("blocked", why)
    return Choice("gemm" if window.pointwise else "direct", why)


def _not_winograd(window, phase, math, test):
    """Return why Winograd's way is none for a window, or ""."""
    if window.pointwise:
        return "1 x 1 kernel"
    if window.kernel not in ((3, 3), (7, 7)):
        return f"{' x '.join(map(str, window.kernel))} kernel"
    if math == "strict":
        return "strict math"
    if not window.unit_stride or set(window.dilation) != {1}:
        return "stride or dilation"
    channels, outputs = window.channels // window.group, window.outputs // window.group
    if min(channels, outputs) < LEAST:
        return f"{min(channels, outputs)} channels are few"
    if not window.whole_blocks:
        return f"groups of {channels} channels and {outputs} outputs, which are no multiples of {BLOCK}"
    if min(window.output) < TILES or phase == "image" and min(window.image) < TILES:
        return "few pixels"
    if window.kernel == (7, 7) and (phase != "forward" or not test):
        return "7 x 7 weights that change: their transform costs more than it saves"
    return ""


def few(window):
    """Whether images have so few channels that NCHW serves the blocked kernels better than blocks of 16."""
    return window.channels < LEAST and direct_blocked.fits(window, False)


class _Choices(dict):
    """Phase -> `Choice`, made when first asked for: in TEST most phases never are. Forced is what was so at first."""

    def __init__(self, window, *rest):
        super().__init__()
        self._window, self._rest = window, (*rest, forced())

    def __missing__(self, phase):
        choice = self[phase] = _choose(self._window, phase, *self._rest)
        return choice


class Kernels:
    """The kernels of one convolution layer, with its weights as they need them.

    Weights, a `Blob` each time, are transformed again when they have changed since the call before, by whatever way. Where they
    learn, and change at every step, transformed ones are kept for one call only, all layers' in one place.
    """

    def __init__(self, window, math="fast", test=True, single=True, blocks=False, low_memory=False, before=None):
        """`before`: the layer's kernels for another size of image, whose transformed weights serve on.

        With `low_memory` transformed weights are made for each call, as in TRAIN; 7 x 7 kernels, whose transform is as large as
        themselves and slow, are not transformed.
        """
        test = test and not low_memory
        self.window, self._keep = window, test
        self.choice = _Choices(window, math, test, single, blocks)
        self.rectifies = self.choice["forward"].name in ("winograd", "blocked", "depthwise blocked", "gemm", "direct")
        self.pools = self.choice["forward"].name == "winograd" and window.kernel == (3, 3)
        self._prepared = {} if before is None else before._prepared
        self._ready = {}  # what the last forward was made of, and itself

    def takes_places(self, phase):
        """Whether images may lie in either layout: then the `*_places` methods are to be called."""
        return self.choice[phase].name in PLACES

    @property
    def tile(self):
        """Output pixels along an axis that forward computes together."""
        return winograd.tile_size(self.window.kernel[0]) if self.choice["forward"].name == "winograd" else 1

    def forward_places(self, source, weight, bias, target, relu=False, pooled=None, box=None, window=None):
        """Write the convolution of images at the `Place` `source` to that of `target`.

        `relu` only where `rectifies`; `pooled`, a Place that gets the maxima of 2 x 2 pixels, only where `pools`. With a
        `box` (y0, y1, x0, x1) only these pixels are written: multiples of `tile`, or the image's end. `window`: that for
        images of another size.
        """
        name, window = self.choice["forward"].name, window or self.window
        if name == "winograd":
            prepared = self._prepare("winograd", weight,
                                     lambda **memory: winograd.prepare(weight.peek(), False, group=window.group, **memory))
            self._run(prepared, bias, (window, source, target, relu, pooled, box), lambda: winograd.Forward(
                *source, window.kernel[0], window.pad, *target, relu, pooled, box, window.group))
            return
        kernel = direct_blocked if name == "blocked" else depthwise_blocked
        planes = name == "blocked" and few(window)
        kept = None
        if planes and source.picture.blocked:
            kept = np.empty(source.picture[:4], np.float32)
            convert(None, *source, *place(kept))
            source = place(kept)
        elif not (planes or source.picture.blocked or name == "blocked" and direct_blocked.turns_planes(window)):
            # Somebody looked at the image, which the plan had in blocks: the same kernel gives the same bits.
            kept = in_blocks(*source)
            source = kept.place
        prepared = self._prepare(name, weight,
                                 lambda **memory: kernel.prepare(window, weight.peek(), blocked=not planes, **memory))
        options = (planes,) if kernel is direct_blocked else ()
        self._run(prepared, bias, (window, source, target, relu, None, box),
                  lambda: kernel.Forward(window, *source, *target, relu, box, *options))

    def _run(self, prepared, bias, given, make):
        """Compute forward; what ``make()`` returns is kept and used again while all that it was made of is the same."""
        given = (*given, bias is None, parallel.threads())
        # Out of the dict while it runs: no two run it at once.
        before, forward = self._ready.pop("forward", (None, None))
        if before != given:
            forward = make()
        forward.run(prepared, bias)
        if self._keep:
            self._ready["forward"] = given, forward

    def image_gradient_places(self, error, weight, image):
        """Write the gradient for the image to the Place `image`."""
        window = self.window
        if self.choice["image"].name == "blocked":
            prepared = weight.peek()
            if direct_image_gradient.turns(window):
                prepared = self._prepare("blocked turned", weight,
                                         lambda **memory: direct_image_gradient.prepare_turned(window, weight.peek(), **memory))
            direct_image_gradient.image_gradient_pictures(window, *error, prepared, *image)
            return
        prepared = self._prepare("turned", weight,
                                 lambda **memory: winograd.prepare(weight.peek(), True, group=window.group, **memory))
        pad = tuple(k - 1 - p for k, p in zip(window.kernel, window.pad))
        winograd.forward_pictures(*error, prepared, window.kernel[0], pad, *image, group=window.group)

    def weight_gradient_places(self, image, error, gradient):
        """Add the gradient of the weights to the array `gradient`."""
        if self.choice["weight"].name == "blocked":
            direct_weight_gradient.weight_gradient_pictures(self.window, *image, *error, gradient)
            return
        winograd.weight_gradient_pictures(*image, *error, self.window.pad, gradient, self.window.group)

    def forward(self, image, weight, bias, out, relu=False):
        """Write the convolution of arrays. `relu` only where `rectifies`."""
        if self.takes_places("forward"):
            self.forward_places(place(image), weight, bias, place(out), relu)
            return
        name, window, weight = self.choice["forward"].name, self.window, weight.peek()
        if name in ("gemm", "direct"):
            direct.forward(window, image, weight, bias, out, relu)
        else:
            (depthwise if name == "depthwise" else convolve).forward(window, image, weight, bias, out)

    def image_gradient(self, error, weight, bias, image):
        """Write the gradient for the image (or a Deconvolution's output, with its bias) to the array `image`."""
        name, window = self.choice["image"].name, self.window
        if name in PLACES and bias is None:
            self.image_gradient_places(place(error), weight, place(image))
        elif name in ("gemm", "direct", *PLACES):
            direct.image_gradient(window, error, weight.peek(), bias, image)
        else:
            (depthwise if name == "depthwise" else convolve).backward_image(window, error, weight.peek(), bias, image)

    def weight_gradient(self, image, error, gradient, accumulate=True):
        """Add the gradient of the weights, of arrays, to `gradient`, or write it without `accumulate`."""
        name, window = self.choice["weight"].name, self.window
        if name in ("gemm", "direct"):
            direct.weight_gradient(window, image, error, gradient, accumulate)
            return
        if not accumulate:
            gradient.fill(0)
        if name in PLACES:
            self.weight_gradient_places(place(image), place(error), gradient)
        else:
            (depthwise if name == "depthwise" else convolve).backward_weight(window, image, error, gradient)

    def _prepare(self, how, weight, prepare):
        """Return the weights as ``prepare(out=, make=)`` makes them: if they are kept, when they have changed."""
        if not self._keep:
            return prepare(make=shared)
        # Out of the dict while it is made: an interrupt leaves no half-made weights under an old fingerprint.
        known, prepared = self._prepared.pop(how, (None, None))
        today = weight.fingerprint
        if known != today:
            prepared = prepare(out=prepared)
        self._prepared[how] = today, prepared
        return prepared

    def kept_bytes(self):
        """Return the bytes of the transformed weights that are kept, if only forward runs."""
        window, name = self.window, self.choice["forward"].name
        if not self._keep or name not in PLACES:
            return 0
        weights = window.outputs * window.channels // window.group * window.taps * 4
        if name == "winograd":
            return weights * (winograd.tile_size(window.kernel[0]) + window.kernel[0] - 1) ** 2 // window.taps
        return weights
