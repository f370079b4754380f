"""Which kernel computes a convolution, and why.

    winograd   3 x 3 (and 7 x 7 in TEST), stride 1: a quarter of the multiplications, error 1.4e-6 to 4e-6
    depthwise  every channel has one kernel of its own: nothing for a matrix product to reuse
    gemm       1 x 1 kernels that skip nothing: a matrix product of the image itself
    direct     everything else: a matrix product that packs the patches it needs from the image
    plain      numpy, and BLAS for float64: more axes than kernels have, other precision

`math` is "fast"; "strict" keeps to direct summation, with the error of Caffe's own sums (2e-7 to 6e-7); "caffe" computes as
Caffe did, im2col and numpy's BLAS: with the same BLAS kernels every rounding is the same.
"""

from typing import NamedTuple

from layers.core.cpu import convolve, depthwise, direct, winograd
from layers.core.cpu.fingerprint import fingerprint

LEAST = 16  # channels and outputs below which Winograd's transforms cost more than they save
TILES = 4  # output pixels along an axis below which tiles are mostly empty


class Choice(NamedTuple):
    """The kernel's name, and the reason in words for the plan."""

    name: str
    reason: str


def choose(window, phase="forward", math="fast", test=True, single=True):
    """Return the `Choice` for a window.

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
    """
    if math == "caffe":
        return Choice("plain", "im2col and BLAS, as Caffe")
    if not window.simple:
        return Choice("plain", "more than three spatial axes, or force_nd_im2col")
    if window.group == window.channels == window.outputs and depthwise.fits(window):
        return Choice("depthwise", "each channel has its own kernel")
    if not single:
        return Choice("plain", "float64")
    if window.pointwise:
        return Choice("gemm", "1 x 1 kernel")
    kernel = window.kernel
    if kernel not in ((3, 3), (7, 7)):
        return Choice("direct", f"{' x '.join(map(str, kernel))} kernel")
    if math == "strict":
        return Choice("direct", "strict math")
    if not window.unit_stride or set(window.dilation) != {1} or window.group != 1:
        return Choice("direct", "stride, dilation or groups")
    if min(window.channels, window.outputs) < LEAST:
        return Choice("direct", f"{min(window.channels, window.outputs)} channels are few")
    if min(window.output) < TILES or phase == "image" and min(window.image) < TILES:
        return Choice("direct", "few pixels")
    if kernel == (3, 3):
        return Choice("winograd", "F(4 x 4, 3 x 3)")
    if phase != "forward" or not test:
        return Choice("direct", "7 x 7 weights that change: their transform costs more than it saves")
    return Choice("winograd", "F(2 x 2, 7 x 7)")


class Kernels:
    """The kernels of one convolution layer, with its weights as they need them.

    Weights are transformed again when they have changed since the call before, by whatever way (see `fingerprint`).
    """

    def __init__(self, window, math="fast", test=True, single=True, before=None):
        """`before`: the layer's kernels for another size of image, whose transformed weights serve on."""
        self.window = window
        self.choice = {phase: choose(window, phase, math, test, single) for phase in ("forward", "image", "weight")}
        self.rectifies = self.choice["forward"].name in ("winograd", "gemm", "direct")  # whether `forward` takes `relu`
        self._prepared = {} if before is None else before._prepared

    def forward(self, image, weight, bias, out, relu=False):
        """Write the convolution of `image` to `out`. `relu` only where `rectifies`."""
        name, window = self.choice["forward"].name, self.window
        if name == "winograd":
            prepared = self._prepare(weight, turned=False)
            winograd.forward(image, prepared, window.kernel[0], window.pad, out, bias, relu)
        elif name in ("gemm", "direct"):
            direct.forward(window, image, weight, bias, out, relu)
        else:
            (depthwise if name == "depthwise" else convolve).forward(window, image, weight, bias, out)

    def image_gradient(self, error, weight, bias, image):
        """Write the gradient for the image (or a Deconvolution's output, with its bias) to `image`."""
        name, window = self.choice["image"].name, self.window
        if name == "winograd" and bias is None:
            prepared = self._prepare(weight, turned=True)
            winograd.image_gradient(error, prepared, window.kernel[0], window.pad, image)
        elif name in ("gemm", "direct", "winograd"):
            direct.image_gradient(window, error, weight, bias, image)
        else:
            (depthwise if name == "depthwise" else convolve).backward_image(window, error, weight, bias, image)

    def weight_gradient(self, image, error, gradient):
        """Add the gradient of the weights to `gradient`."""
        name, window = self.choice["weight"].name, self.window
        if name == "winograd":
            winograd.weight_gradient(image, error, window.pad, gradient)
        elif name in ("gemm", "direct"):
            direct.weight_gradient(window, image, error, gradient)
        else:
            (depthwise if name == "depthwise" else convolve).backward_weight(window, image, error, gradient)

    def _prepare(self, weight, turned):
        known, prepared = self._prepared.get(turned, (None, None))
        today = fingerprint(weight)
        if known != today:
            prepared = winograd.prepare(weight, turned, prepared)
            self._prepared[turned] = today, prepared
        return prepared
