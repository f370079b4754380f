"""Neuron: what layers have in common that map each value of one bottom to one value of one top."""

import numpy as np

from layers.core.cpu import parallel
from layers.core.layer import Layer


class Neuron(Layer):
    """One bottom, one top of the same shape; works in place (top and bottom the same blob).

    A subclass either writes forward and backward itself, or names two kernels, ``forward(first, last, x, y, *arguments)``
    and ``backward(first, last, x, y, dy, dx, *arguments)``, that do elements [first, last) of flat arrays; and for cards two
    kernels ``forward(x, y, *arguments, count)`` and ``backward(x, y, dy, dx, *arguments, count)``.
    """

    exact_bottoms = exact_tops = 1
    works_in_place = True
    needs_x = False  # the backward kernel reads x: it is kept aside when forward writes over it
    _kept = _kept_on_card = None
    _kept_bytes = 0

    def kernels(self):
        """Return the forward and the backward kernel."""
        raise NotImplementedError(f"{type(self).__name__}.kernels")

    def kernels_cuda(self):
        """Return the forward and the backward kernel for cards."""
        raise NotImplementedError(f"{type(self).__name__}.kernels_cuda")

    def has_cuda(self):
        """Whether there are kernels for cards, or a forward of its own."""
        own = type(self)
        return own.forward_cuda is not Neuron.forward_cuda or own.kernels_cuda is not Neuron.kernels_cuda

    def arguments(self):
        """Return the numbers that all kernels take, as `self.dtype`."""
        return ()

    def top_shapes(self, bottom_shapes):
        """Return the bottom's shape."""
        return [tuple(bottom_shapes[0])]

    def reshape(self, bottom, top):
        """Shape the top."""
        super().reshape(bottom, top)
        self._kept_bytes = 4 * top[0].count * (self.needs_x and top[0].shares_data(bottom[0]))

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: x, where it is kept aside."""
        return self._kept_bytes, 0

    def keep(self, bottom, top):
        """Before an in-place forward: keep a copy of x for backward."""
        if top[0].shares_data(bottom[0]):
            x = bottom[0].data.reshape(-1)
            if self._kept is None or self._kept.size != x.size:
                self._kept = np.empty_like(x)
            self._kept[...] = x

    def x_of_forward(self, bottom, top):
        """Return x (flat) as forward saw it."""
        return self._kept if top[0].shares_data(bottom[0]) else bottom[0].data.reshape(-1)

    def forward(self, bottom, top):
        """Run the forward kernel."""
        if self.needs_x:
            self.keep(bottom, top)
        parallel.run(self.kernels()[0], bottom[0].count, bottom[0].data.reshape(-1), top[0].data.reshape(-1),
                     *self.arguments())

    def backward(self, top, propagate_down, bottom):
        """Run the backward kernel."""
        if propagate_down[0]:
            y = top[0].data.reshape(-1)
            x = self.x_of_forward(bottom, top) if self.needs_x else y
            parallel.run(self.kernels()[1], y.size, x, y, top[0].diff.reshape(-1), bottom[0].diff.reshape(-1),
                         *self.arguments())

    def keep_on_card(self, bottom, top):
        """As `keep`, on the card."""
        if top[0].shares_data(bottom[0]):
            nbytes = bottom[0].count * 4
            if self._kept_on_card is None or self._kept_on_card.span.nbytes < nbytes:
                self._kept_on_card = None  # first it goes back
                self._kept_on_card = self.card.arena.take(nbytes)
            self.card.copy(self._kept_on_card.span, bottom[0].on(self.card), nbytes)

    def x_on_card(self, bottom, top):
        """As `x_of_forward`, a span."""
        return self._kept_on_card.span if top[0].shares_data(bottom[0]) else bottom[0].on(self.card)

    def forward_cuda(self, bottom, top):
        """Run the forward kernel."""
        if self.needs_x:
            self.keep_on_card(bottom, top)
        x, y = bottom[0].on(self.card), top[0].write_on(self.card)
        self.card.run(self.kernels_cuda()[0], bottom[0].count, x, y, *self.arguments())

    def backward_cuda(self, top, propagate_down, bottom):
        """Run the backward kernel."""
        if propagate_down[0]:
            y, dy = top[0].on(self.card), top[0].on(self.card, diff=True)
            x = self.x_on_card(bottom, top) if self.needs_x else y
            dx = bottom[0].write_on(self.card, diff=True)
            self.card.run(self.kernels_cuda()[1], bottom[0].count, x, y, dy, dx, *self.arguments())
