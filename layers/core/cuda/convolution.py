"""Convolution on a card: forward, the image's gradient (also a Deconvolution's forward), the weights', the bias's.

With an image x (N, C, H, W), weights w (M, C / group, kh, kw) and an output y (N, M, oh, ow), as `layers.core.cpu.convolve`;
one spatial axis counts as an image of one row. The kernels here are plain: a thread computes one value, summing in float32
in the order of the weights (the gradient of the weights: of the pixels). They are what the fast ones in
`layers.core.cuda.implicit` must equal up to rounding, and compute what is too small or too narrow for those.
"""

import math

import numpy as np

from layers.core.cuda import implicit, tiles
from layers.core.cuda.arena import rounded
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.sums import tree

SIZES = "int, int, int, int, int, int, int, int, int, int, int, int, int, int, int"
MOST = 256  # threads that share a sum
ROWS, LEAST = 16, 1 << 18  # rows of a tile, and products in all, from which on tiles pay
BLOCKS = 65535  # along the second axis of a launch: groups times phases
LARGE = 64  # taps of one channel's kernel that are shared among threads


class CardWindow:
    """A `layers.core.cpu.convolve.Window` on a card, for images of the window's size in any number.

    Spans are those of `Blob.on`, float32; `weight` (M, C / group, kh, kw) and `bias` (M,), which may be None.

    Parameters
    ----------
    card : layers.core.cuda.card.Card
    window : layers.core.cpu.convolve.Window
        With at most two spatial axes, see `fits`.
    math : str
        That of the net; "plain" takes the plain kernels for all.
    before : CardWindow, optional
        One for another size of the image: its tables are taken over.
    """

    def __init__(self, card, window, math="fast", before=None):
        self.card, self.window = card, window
        self.how = None if math == "plain" else tiles.arithmetic(card, math)
        missing = 2 - len(window.image)
        self.image, self.output = (1,) * missing + window.image, (1,) * missing + window.output
        each = [(one,) * missing + values for one, values in
                ((1, window.kernel), (1, window.stride), (0, window.pad), (1, window.dilation))]
        self.kernel, self.stride, self.pad, self.dilation = each
        self.sizes = (window.channels, window.outputs, window.group, *self.image, *sum(each, ()), *self.output)
        self.rows = window.outputs // window.group, window.channels // window.group
        self.separate = window.group == window.channels == window.outputs
        self.key = window.channels, window.outputs, window.group, *each
        self.tables = before.tables if before is not None and before.key == self.key else {}

    @staticmethod
    def fits(window):
        """Whether the kernels here can compute a window."""
        return len(window.image) <= 2

    def arithmetic(self, batch, rows):
        """Return the arithmetic of the tiles that compute `rows` rows a group, or None where a plain kernel is as good."""
        window = self.window
        small = rows < ROWS or batch * window.pixels * window.outputs * window.depth < LEAST
        return None if small or window.group * math.prod(self.stride) > BLOCKS else self.how

    def bytes(self, batch, ways):
        """Return the bytes of tables and the most that is borrowed, for `ways`: "forward", "image", "weight" gradient."""
        window, tables, most = self.window, {}, 0
        for way in ways:
            rows = self.rows[way == "image"]
            if self.arithmetic(batch, rows) is None:
                continue
            if way == "image":
                depth = implicit.image_depth(self.rows[0], self.kernel, self.stride, self.pad, self.dilation)
                tables["image"] = 16 * math.prod(self.stride) * depth
                borrowed = implicit.slide_bytes(self.card, depth, batch, window.group, rows, (window.channels, *self.image),
                                                self.stride)
            else:
                depth = self.rows[1] * window.taps
                tables["forward"] = 16 * depth
                borrowed = (implicit.slope_bytes(self.card, depth, batch * window.pixels, window.group, rows) if way == "weight"
                            else implicit.slide_bytes(self.card, depth, batch, window.group, rows,
                                                      (window.outputs, *self.output), (1, 1)))
            most = max(most, borrowed)
        return sum(map(rounded, tables.values())), most

    def _table(self, name, make, *arguments):
        """Return (span, terms of a phase) of a table, made when it is first asked for."""
        if name not in self.tables:
            terms = make(*arguments)
            part = self.card.arena.take(terms.nbytes)
            self.card.upload(part.span, terms)
            self.tables[name] = part, terms.shape[1]
        part, depth = self.tables[name]
        return part.span, depth

    def _terms(self):
        return self._table("forward", implicit.forward_terms, self.rows[1], self.kernel, self.pad, self.dilation)

    def forward(self, image, weight, bias, out, batch, rectify=False):
        """Write the convolution of `batch` images to `out`, clamped at 0 with `rectify` (NaN stays NaN)."""
        window, how = self.window, self.arithmetic(batch, self.rows[0])
        if how is not None:
            implicit.slide(self.card, how, self._terms(), weight, bias, image, out, batch, window.group, self.rows[0],
                           window.depth, self.rows[0] * window.depth, (window.channels, *self.image),
                           (window.outputs, *self.output), self.stride, (1, 1), True, rectify)
        elif self.separate and bias is None and not rectify and window.taps >= LARGE:
            self._downsample(image, weight, out, batch, window.taps)
        else:
            self.card.run(convolve_cuda, batch * window.outputs * window.pixels, image, weight,
                          weight if bias is None else bias, out, bias is not None, rectify, *self.sizes)

    def image_gradient(self, out, weight, bias, image, batch):
        """Write the transposed convolution of `out`, plus a bias for each channel, to `image`."""
        window, how = self.window, self.arithmetic(batch, self.rows[1])
        if how is not None:
            table = self._table("image", implicit.image_terms, self.rows[1], self.rows[0], self.kernel, self.stride, self.pad,
                                self.dilation)
            implicit.slide(self.card, how, table, weight, bias, out, image, batch, window.group, self.rows[1], window.taps,
                           self.rows[0] * window.depth, (window.outputs, *self.output), (window.channels, *self.image), (1, 1),
                           self.stride, False)
            return
        count = batch * window.channels * math.prod(self.image)
        arguments = out, weight, weight if bias is None else bias, image, bias is not None
        if self.separate and set(self.dilation) == {1}:
            self.card.run(upsample_cuda, count, *arguments, window.taps, *self.sizes)
        else:
            self.card.run(convolve_image_cuda, count, *arguments, *self.sizes)

    def upsample(self, out, weight, bias, image, batch):
        """As `image_gradient` where dense weights (C, C, kh, kw) are 0 but for w[c, c]; without dilation."""
        window = self.window
        self.card.run(upsample_cuda, batch * window.channels * math.prod(self.image), out, weight,
                      weight if bias is None else bias, image, bias is not None, (window.channels + 1) * window.taps, *self.sizes)

    def downsample(self, image, weight, out, batch):
        """As `forward` where dense weights (C, C, kh, kw) are 0 but for w[c, c]: the gradient of `upsample`."""
        self._downsample(image, weight, out, batch, (self.window.channels + 1) * self.window.taps)

    def _downsample(self, image, weight, out, batch, pitch):
        blocks = batch * self.window.outputs * self.window.pixels
        if blocks:
            self.card.launch(downsample_cuda, blocks, image, weight, out, pitch, *self.sizes,
                             threads=_threads(self.card, self.window.taps))

    def weight_gradient(self, image, out, weight, batch):
        """Add the gradient with respect to the weights, of all images, to `weight`."""
        window, how = self.window, self.arithmetic(batch, self.rows[0])
        if how is not None:
            implicit.slope(self.card, how, self._terms(), image, out, weight, batch, window.group, self.rows[0],
                           (window.channels, *self.image), (window.outputs, *self.output), self.stride)
        elif batch:
            self.card.run(convolve_weight_cuda, window.outputs * window.depth, image, out, weight, batch, *self.sizes)


def bias_gradient(card, out, bias, batch, channels, pixels):
    """Add the sum of each channel of `out` (batch, channels, pixels) to `bias` (channels,); float32, a tree of at most 256."""
    if batch * channels * pixels:
        card.launch(bias_gradient_cuda, channels, out, bias, batch, channels, pixels, threads=_threads(card, batch * pixels))


def _threads(card, terms):
    """Return the threads that share a sum: as many as there are terms, rounded up to a power of 2, at least a warp if it may."""
    return min(MOST, card.threads, max(32, 1 << (terms - 1).bit_length()))


@kernel("float*, float*, float*, float*, bool, bool, " + SIZES + ", int")
def convolve_cuda(x, w, bias, y, biased, rectify, channels, outputs, group, height, width, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow,
                  count):
    """All values of y; the bias is added last."""
    zero = np.float32(0)
    depth = channels // group
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        m = i // (oh * ow) % outputs
        y0, x0 = i // ow % oh * sh - ph, i % ow * sw - pw
        plane = i // (oh * ow * outputs) * channels + m // (outputs // group) * depth
        total = zero
        for c in range(depth):
            for ky in range(kh):
                iy = y0 + ky * dh
                if 0 <= iy < height:
                    for kx in range(kw):
                        ix = x0 + kx * dw
                        if 0 <= ix < width:
                            total += w[((m * depth + c) * kh + ky) * kw + kx] * x[((plane + c) * height + iy) * width + ix]
        if biased:
            total += bias[m]
        y[i] = zero if rectify and total <= zero else total


@kernel("float*, float*, float*, float*, bool, " + SIZES + ", int")
def convolve_image_cuda(y, w, bias, x, biased, channels, outputs, group, height, width, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow,
                        count):
    """All values of x = w^T y + bias; the bias is added last."""
    depth, many = channels // group, outputs // group
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        c = i // (height * width) % channels
        iy, ix = i // width % height + ph, i % width + pw
        n, first = i // (height * width * channels), c // depth * many
        total = np.float32(0)
        for m in range(first, first + many):
            for ky in range(kh):
                oy = (iy - ky * dh) // sh
                if 0 <= oy < oh and oy * sh == iy - ky * dh:
                    for kx in range(kw):
                        ox = (ix - kx * dw) // sw
                        if 0 <= ox < ow and ox * sw == ix - kx * dw:
                            total += (w[((m * depth + c % depth) * kh + ky) * kw + kx]
                                      * y[((n * outputs + m) * oh + oy) * ow + ox])
        x[i] = total + bias[c] if biased else total


@kernel("float*, float*, float*, int, " + SIZES + ", int")
def convolve_weight_cuda(x, y, w, batch, channels, outputs, group, height, width, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow, count):
    """Add to all weights; y is the gradient of the output."""
    depth, many = channels // group, outputs // group
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        m, c = i // (depth * kh * kw), i // (kh * kw) % depth
        y0, x0 = i // kw % kh * dh - ph, i % kw * dw - pw
        total = np.float32(0)
        for n in range(batch):
            plane, above = n * channels + m // many * depth + c, n * outputs + m
            for oy in range(oh):
                iy = y0 + oy * sh
                if 0 <= iy < height:
                    for ox in range(ow):
                        ix = x0 + ox * sw
                        if 0 <= ix < width:
                            total += y[(above * oh + oy) * ow + ox] * x[(plane * height + iy) * width + ix]
        w[i] += total


@kernel("float*, float*, float*, float*, bool, int, " + SIZES + ", int")
def upsample_cuda(y, w, bias, x, biased, pitch, channels, outputs, group, height, width, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow,
                  count):
    """As `convolve_image_cuda` where each channel has one kernel, w[c * pitch], and the dilation is 1.

    Only taps that meet a pixel of y are visited: ceil(kh / sh) ceil(kw / sw) of them.
    """
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        c = i // (height * width) % channels
        iy, ix = i // width % height + ph, i % width + pw
        plane = i // (height * width)
        total = np.float32(0)
        for ky in range(iy % sh, kh, sh):
            oy = (iy - ky) // sh
            if 0 <= oy < oh:
                for kx in range(ix % sw, kw, sw):
                    ox = (ix - kx) // sw
                    if 0 <= ox < ow:
                        total += w[c * pitch + ky * kw + kx] * y[(plane * oh + oy) * ow + ox]
        x[i] = total + bias[c] if biased else total


@kernel("float*, float*, float*, int, " + SIZES, threads=MOST)
def downsample_cuda(x, w, y, pitch, channels, outputs, group, height, width, kh, kw, sh, sw, ph, pw, dh, dw, oh, ow):
    """As `convolve_cuda` where each channel has one kernel, w[c * pitch]: one value of y a block, its taps side by side.

    Thread t sums taps t, t + threads, ...; the threads' sums are added in a tree.
    """
    sums = cuda.shared.array(MOST, np.float32)
    i, t = cuda.blockIdx.x, cuda.threadIdx.x
    plane = i // (oh * ow)
    y0, x0 = i // ow % oh * sh - ph, i % ow * sw - pw
    total = np.float32(0)
    for k in range(t, kh * kw, cuda.blockDim.x):
        iy, ix = y0 + k // kw * dh, x0 + k % kw * dw
        if 0 <= iy < height and 0 <= ix < width:
            total += w[plane % channels * pitch + k] * x[(plane * height + iy) * width + ix]
    sums[t] = total
    tree(sums, t, cuda.blockDim.x)
    if t == 0:
        y[i] = sums[0]


@kernel("float*, float*, int, int, int", threads=MOST)
def bias_gradient_cuda(y, bias, batch, channels, pixels):
    """Add one channel a block: thread t sums pixels t, t + threads, ... of all images, the threads' sums are added in a tree."""
    sums = cuda.shared.array(MOST, np.float32)
    channel, t = cuda.blockIdx.x, cuda.threadIdx.x
    total = np.float32(0)
    for n in range(batch):
        first = (n * channels + channel) * pixels
        for i in range(first + t, first + pixels, cuda.blockDim.x):
            total += y[i]
    sums[t] = total
    tree(sums, t, cuda.blockDim.x)
    if t == 0:
        bias[channel] += sums[0]
