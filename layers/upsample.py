"""Upsample: each value goes back to where a max pooling took its window's maximum from; all other places get 0.

Bottoms: x (N, C, H, W) and the pooling's second top, its mask, of x's shape: the index h * width + w of each winner in the
larger image. Top: (N, C, upsample_h, upsample_w), or scale times x's size (`scale`, default 2, or `scale_h` and `scale_w`), one
row less with `pad_out_h` and one column less with `pad_out_w` (only where the scale is 2): the size that was pooled, if odd.

Where windows overlap several values may go to one place: the last in scan order stays. dx takes dy from the place, each of
them, as SegNet does. A mask of -1 (the pooling's window held nothing) leads nowhere. Any other index outside of the top is an
error, on a card found when the forward pass has ended. The mask gets a gradient of 0. Source: SegNet's UpsampleLayer, which
ENet uses, too.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel, ptx
from layers.core.cuda.small import Flag
from layers.core.layer import Layer


class Upsample(Layer):
    """Max pooling the other way."""

    exact_bottoms, exact_tops = 2, 1
    _flag = None

    def check(self):
        """Refuse sizes that are given by halves or twice."""
        param = self.param.upsample_param
        given = [name for name in ("scale", "scale_h", "scale_w", "upsample_h", "upsample_w") if param.HasField(name)]
        for one, other in (("scale_h", "scale_w"), ("upsample_h", "upsample_w")):
            if (one in given) != (other in given):
                self.fail(f"{one} and {other} go together; give both")
        if "scale" in given and "scale_h" in given:
            self.fail("scale and scale_h, scale_w are both given; give one of them")
        if any(getattr(param, name) < 2 for name in given):
            name = next(name for name in given if getattr(param, name) < 2)
            self.fail(f"{name} is {getattr(param, name)}; it must be above 1")
        if "upsample_h" not in given:
            for padded, scale in zip((param.pad_out_h, param.pad_out_w), self._scales()):
                if padded and scale != 2:
                    self.fail(f"pad_out_h and pad_out_w go with scale 2, not {scale}; give upsample_h and upsample_w instead")

    def _scales(self):
        param = self.param.upsample_param
        return (param.scale_h, param.scale_w) if param.HasField("scale_h") else (param.scale, param.scale)

    def top_shapes(self, bottom_shapes):
        """Return the larger shape."""
        shape, mask = map(tuple, bottom_shapes)
        if len(shape) != 4 or mask != shape:
            self.fail(f"{self.called(0)} {list(shape)} and the mask {self.called(1)} {list(mask)} must have the same shape, of 4 "
                      "axes")
        param = self.param.upsample_param
        if param.HasField("upsample_h"):
            return [(*shape[:2], param.upsample_h, param.upsample_w)]
        pads = param.pad_out_h, param.pad_out_w
        return [(*shape[:2], *(size * scale - pad for size, scale, pad in zip(shape[2:], self._scales(), pads)))]

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self.planes = math.prod(bottom[0].shape[:2])
        self.small, self.large = math.prod(bottom[0].shape[2:]), math.prod(top[0].shape[2:])
        self._scratch = 4 * top[0].count

    def allow_force_backward(self, bottom):
        """The mask has no gradient."""
        return bottom == 0

    def forward(self, bottom, top):
        """Put the values back."""
        bad = np.empty(self.planes, np.int64)
        x, mask = (blob.peek().reshape(-1) for blob in bottom)
        parallel.run(upsample_cpu, self.planes, x, mask, top[0].data.reshape(-1), self.small, self.large, bad, work=top[0].count)
        if (bad >= 0).any():
            self._refuse(int(bad[bad >= 0][0]), bottom, top)

    def _refuse(self, index, bottom, top):
        """Fail because of value number `index` of the mask."""
        n, c, row, column = np.unravel_index(index, bottom[1].shape)
        value, shape = bottom[1].peek().reshape(-1)[index], top[0].shape
        self.fail(f"the mask {self.called(1)} holds {value:g} at n {n}, c {c}, row {row}, column {column}, and the top's images "
                  f"{shape[2]}x{shape[3]} have indices 0 to {self.large - 1}; the pooling that made it had a bottom of another "
                  "size: set upsample_h and upsample_w to that")

    def backward(self, top, propagate_down, bottom):
        """Take the gradient from where the values went."""
        if propagate_down[0]:
            parallel.run(upsample_backward_cpu, self.planes, top[0].peek(diff=True).reshape(-1), bottom[1].peek().reshape(-1),
                         bottom[0].diff.reshape(-1), self.small, self.large, work=bottom[0].count)
        if propagate_down[1] and bottom[1].has_diff:
            bottom[1].diff.fill(0)

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: whose value goes to each place, within forward."""
        return 4, self._scratch

    def forward_cuda(self, bottom, top):
        """Find out whose value goes to each place, then put it there."""
        card = self.card
        if self._flag is None:
            self._flag = Flag(card)
        x, mask, y = bottom[0].on(card), bottom[1].on(card), top[0].write_on(card)
        owners = card.arena.take(max(self._scratch, 4))
        card.clear(owners.span)
        card.run(upsample_owners_cuda, bottom[0].count, mask, owners.span, self._flag.lowered(), self.small, self.large)
        card.run(upsample_cuda, top[0].count, x, owners.span, y, 0)

    def flag_cuda(self):
        """Return the flag of an index that is outside of the top."""
        return self._flag.span

    def check_cuda(self, bottom, top):
        """Refuse an index that is outside of the top."""
        if self._flag.raised():
            mask = bottom[1].peek().reshape(-1)
            good = ((mask >= -1) & (mask < self.large) & (mask == np.floor(mask)))
            self._refuse(int(np.argmin(good)), bottom, top)

    def backward_cuda(self, top, propagate_down, bottom):
        """Take the gradient from where the values went."""
        if propagate_down[0]:
            dy, mask = top[0].on(self.card, diff=True), bottom[1].on(self.card)
            self.card.run(upsample_backward_cuda, bottom[0].count, dy, mask, bottom[0].write_on(self.card, diff=True), self.small,
                          self.large, 0)
        if propagate_down[1] and bottom[1].has_diff:
            self.card.clear(bottom[1].write_on(self.card, diff=True))


@cached
def place_of(index, large):
    """Return an index of the mask as a whole number: -1 where it leads nowhere, -2 where it is wrong."""
    if not -1 <= index < large:
        return -2
    place = int(index)
    return place if place == index else -2


@cached
def upsample_cpu(first, last, x, mask, y, small, large, bad):
    """Planes [first, last); `bad` gets the number of each plane's first wrong index, or -1."""
    zero = x.dtype.type(0)
    for plane in range(first, last):
        target = y[plane * large:(plane + 1) * large]
        target[:] = zero
        bad[plane] = -1
        for i in range(plane * small, (plane + 1) * small):
            place = place_of(mask[i], large)
            if place >= 0:
                target[place] = x[i]
            elif place == -2 and bad[plane] < 0:
                bad[plane] = i


@cached
def upsample_backward_cpu(first, last, dy, mask, dx, small, large):
    """Planes [first, last) of x's gradient."""
    zero = dx.dtype.type(0)
    for plane in range(first, last):
        for i in range(plane * small, (plane + 1) * small):
            place = place_of(mask[i], large)
            dx[i] = dy[plane * large + place] if place >= 0 else zero


@kernel("float*, int*, int*, int, int, int")
def upsample_owners_cuda(mask, owners, flag, small, large, count):
    """For each value of the mask: let its place know the value's number + 1, if none that comes later is there."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        place = place_of(mask[i], large)
        if place >= 0:
            ptx.raise_to(owners, over(i, small) * large + place, np.int32(i + 1))
        elif place == -2:
            flag[0] = 1


@kernel("float*, int*, float*, float, int")
def upsample_cuda(x, owners, y, zero, count):
    """All elements of the top."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        y[i] = x[owners[i] - 1] if owners[i] > 0 else zero


@kernel("float*, float*, float*, int, int, float, int")
def upsample_backward_cuda(dy, mask, dx, small, large, zero, count):
    """All elements of x's gradient."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        place = place_of(mask[i], large)
        dx[i] = dy[over(i, small) * large + place] if place >= 0 else zero
