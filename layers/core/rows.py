"""Rows of a matrix picked by their numbers, and gradients that go back to them: for Embed, BatchReindex and Filter.

A row that is picked several times gets its gradients added in the order of picking, in float32, as on Caffe's CPU; on a card a
thread follows the picks of one row (`chain_cuda`), so the bits are the same on every run. Number -1 stands for a row of zeros.
"""

import math

import numpy as np

from layers.core.cpu import parallel
from layers.core.cpu.compiled import cached
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel
from layers.core.cuda.losses import is_class
from layers.core.cuda.small import Flag


def row_numbers(layer, bottom, values, rows, what):
    """Return the values of a layer's bottom as int64; one that is no number of a row, of `rows`, is refused.

    `what` says in words what has the rows.
    """
    flat = values.reshape(-1)
    good = (flat >= 0) & (flat < rows) & (flat == np.floor(flat))
    if not good.all():
        at = int(np.argmin(good))
        place = [int(p) for p in np.unravel_index(at, values.shape)] if values.ndim else []
        value = float(flat[at])
        why = "is no whole number" if not math.isfinite(value) or value != math.floor(value) else "is out of range"
        layer.fail(f"number {value:g} at {place} of {layer.called(bottom)} {why}: {what} {rows} rows (0 to {rows - 1})")
    return flat.astype(np.int64)


def take_rows(source, numbers, target):
    """Write rows of `source` to `target`, matrices."""
    parallel.run(take_rows_cpu, len(numbers), source, numbers, target, work=target.size)


def add_rows(slopes, numbers, target):
    """Add each row of `slopes` to that of `target` from which it was taken."""
    parallel.run(add_rows_cpu, target.shape[1], slopes, numbers, target, work=slopes.size)


class RowsOnCard:
    """Numbers of rows on a card, as they are picked.

    Attributes
    ----------
    span : Span
        int32; -1 where a number was none.
    flag : Flag
        Raised then.
    """

    def __init__(self, card):
        self.card, self.flag = card, Flag(card)
        self._part = None

    def room(self, count):
        """Return the span for `count` numbers, and as many times 2 more for `add`."""
        if self._part is None or self._part.span.nbytes < 12 * count:
            self._part = None  # first it goes back
            self._part = self.card.arena.take(12 * max(1, count))
        return self._part.span

    def read(self, values, rows, count):
        """Take the numbers from float32 values on the card."""
        self.card.run(numbers_cuda, count, values, rows, self.room(count), self.flag.lowered())

    def give(self, numbers):
        """Take the numbers from the host."""
        span = self.room(numbers.size)
        if numbers.size:
            self.card.upload(span, np.ascontiguousarray(numbers, np.int32))

    def take(self, source, target, count, width, bias=None):
        """Write rows of `source`, `width` values each, plus `bias`, to `target`; spans."""
        self.card.run(take_rows_cuda, count * width, source, self._part.span, source if bias is None else bias, bias is not None,
                      width, target)

    def add(self, slopes, target, count, width):
        """Add each row of `slopes` to that of `target` from which it was taken; spans."""
        if count:
            chain = self.card.within(self._part.span, 4 * count, 8 * count)
            self.card.run(chain_cuda, count, self._part.span, chain)
            self.card.run(add_rows_cuda, count * width, slopes, self._part.span, chain, width, target)


@cached
def take_rows_cpu(first, last, source, numbers, target):
    """Rows [first, last) of the target."""
    for row in range(first, last):
        result = target[row]
        if numbers[row] < 0:
            result[:] = 0
        else:
            result[:] = source[numbers[row]]


@cached
def add_rows_cpu(first, last, slopes, numbers, target):
    """Columns [first, last) of the target."""
    for row in range(slopes.shape[0]):
        part, result = slopes[row, first:last], target[numbers[row], first:last]
        for i in range(part.size):
            result[i] += part[i]


@kernel("float*, int, int*, int*, int")
def numbers_cuda(values, rows, numbers, flag, count):
    """All numbers, from values."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        value = values[i]
        if is_class(value, rows):
            numbers[i] = np.int32(value)
        else:
            numbers[i] = np.int32(-1)
            flag[0] = 1


@kernel("float*, int*, float*, bool, int, float*, int")
def take_rows_cuda(source, numbers, bias, biased, width, target, count):
    """All values of the target."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        row = over(i, width)
        column = i - row * width
        value = np.float32(0)
        if numbers[row] >= 0:
            value = source[np.int64(numbers[row]) * width + column]
        target[i] = value + bias[column] if biased else value


@kernel("int*, int*, int")
def chain_cuda(numbers, chain, count):
    """For each pick: whether no earlier one has its number, and which is the next that has (-1: none)."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        number = numbers[i]
        leads = 1
        for other in range(i):
            if numbers[other] == number:
                leads = 0
                break
        following = -1
        for other in range(i + 1, count):
            if numbers[other] == number:
                following = other
                break
        chain[2 * i], chain[2 * i + 1] = leads, following


@kernel("float*, int*, int*, int, float*, int")
def add_rows_cuda(slopes, numbers, chain, width, target, count):
    """All columns of all picks that are the first of their row: they add their row's picks in order."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        pick = over(i, width)
        if chain[2 * pick] == 1 and numbers[pick] >= 0:
            column = i - pick * width
            place = np.int64(numbers[pick]) * width + column
            total = target[place]
            while pick >= 0:
                total += slopes[np.int64(pick) * width + column]
                pick = np.int64(chain[2 * pick + 1])
            target[place] = total
