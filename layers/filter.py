"""Filter: from several blobs the images whose selector is not 0.

Bottoms: one or more blobs of N images each, and last the selector (N,) or (N, 1, ...); tops: one less, each with the images that
were selected, in order, so their number changes from call to call and may be 0. Until the first forward the tops have all N. What
was not selected gets the gradient 0; the selector has none. On a card the selector is looked at by the host, which waits for it:
the tops' shapes depend on it. Source: Caffe's FilterLayer.
"""

import math

import numpy as np

from layers.core.layer import Layer
from layers.core.rows import RowsOnCard, take_rows


class Filter(Layer):
    """Select images."""

    min_bottoms = 2
    min_tops = 1
    foreign, repeats = True, False  # the tops' shapes depend on values
    _rows_on_card = None

    def allow_force_backward(self, bottom):
        """The selector has no gradient."""
        return bottom != len(self.param.bottom) - 1

    def top_shapes(self, bottom_shapes):
        """Return the bottoms' shapes: all images may be selected."""
        *shapes, selector = (tuple(shape) for shape in bottom_shapes)
        called = self.called(len(shapes))
        if not selector or math.prod(selector[1:]) != 1:
            self.fail(f"needs one selector for each image, but {called} has {list(selector)}")
        for number, shape in enumerate(shapes):
            if shape[:1] != selector[:1]:
                self.fail(f"needs a selector for each image, but {self.called(number)} has {list(shape)} and {called} "
                          f"{list(selector)}")
        return shapes

    def check_counts(self, bottoms, tops):
        """Refuse a wrong number of tops."""
        super().check_counts(bottoms, tops)
        if tops != bottoms - 1:
            self.fail(f"takes one top for each bottom but the selector, {bottoms} bottoms and {tops} tops given")

    def setup(self, bottom, top):
        """Begin with all images."""
        super().setup(bottom, top)
        self._first = True

    def reshape(self, bottom, top):
        """Shape the tops for the images that are selected now."""
        shapes = self.top_shapes([blob.shape for blob in bottom])
        if self._first:
            self.selected, self._first = np.arange(bottom[-1].count), False
        else:
            self.selected = np.flatnonzero(bottom[-1].peek().reshape(-1))
        for blob, shape in zip(top, shapes):
            blob.reshape(len(self.selected), *shape[1:])

    def _refuse_gradient(self, propagate_down):
        if propagate_down[-1]:
            self.fail(f"cannot backpropagate to the selector ({self.called(len(propagate_down) - 1)}); set propagate_down: false "
                      "for it")

    def _places(self, count):
        """Return where in the tops each image went, -1 for those that were not selected."""
        places = np.full(count, -1, np.int64)
        places[self.selected] = np.arange(len(self.selected))
        return places

    def forward(self, bottom, top):
        """Copy."""
        for source, target in zip(bottom, top):
            width = math.prod(source.shape[1:])
            take_rows(source.data.reshape(source.shape[0], width), self.selected, target.data.reshape(len(self.selected), width))

    def backward(self, top, propagate_down, bottom):
        """Copy back, zeros where nothing was selected."""
        self._refuse_gradient(propagate_down)
        places = self._places(bottom[-1].count)
        for source, target, wanted in zip(top, bottom, propagate_down):
            if wanted:
                width = math.prod(target.shape[1:])
                take_rows(source.diff.reshape(len(self.selected), width), places, target.diff.reshape(len(places), width))

    def bytes_cuda(self):
        """Return the bytes on a card beside the blobs: the numbers of images."""
        return 24 * len(self.selected), 0

    def forward_cuda(self, bottom, top):
        """Copy."""
        if self._rows_on_card is None:
            self._rows_on_card = RowsOnCard(self.card), RowsOnCard(self.card)
        to, back = self._rows_on_card
        to.give(self.selected)
        back.give(self._places(bottom[-1].count))
        for source, target in zip(bottom, top):
            to.take(source.on(self.card), target.write_on(self.card), len(self.selected), math.prod(source.shape[1:]))

    def backward_cuda(self, top, propagate_down, bottom):
        """Copy back, zeros where nothing was selected."""
        self._refuse_gradient(propagate_down)
        for source, target, wanted in zip(top, bottom, propagate_down):
            if wanted:
                self._rows_on_card[1].take(source.on(self.card, diff=True), target.write_on(self.card, diff=True),
                                           target.shape[0], math.prod(target.shape[1:]))
