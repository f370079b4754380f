"""What losses have in common on a card: blocks sum up float64 in order, one last block adds the blocks' sums.

The loss is written where the top lies and waits there until the net reads it. A label that is no class number raises a flag
(`layers.core.cuda.small`), which is looked at then; which label it was is found on the host (`layers.core.loss`).
"""

import math

import numpy as np

from layers.core.cpu.compiled import cached
from layers.core.cuda import sums
from layers.core.cuda.index import over
from layers.core.cuda.kernel import cuda, kernel, part
from layers.core.cuda.small import Flag
from layers.core.cuda.sums import two_trees

THREADS = 256
PIECE = 1024  # values whose losses a block sums up
SMALLEST = np.float32(np.finfo(np.float32).tiny)


class LossOnCard:
    """What a loss layer keeps on a card between forward and backward.

    Attributes
    ----------
    normalizer : Span
        float64: what the loss was divided by.
    flag : Flag
        Raised by a bad label.
    """

    def __init__(self, card):
        self.card, self.flag = card, Flag(card)
        self._part = card.arena.take(8)
        self.normalizer = self._part.span

    def sum_up(self, kernel, count, top, given, *arguments):
        """Write the sum of what `kernel` finds in pieces, over the normaliser, to the float32 of the span `top`.

        `kernel` takes `arguments`, a span for each piece's loss and number of valid values (float64), the length of a piece and
        `count`, and runs a block a piece. `given` is the normaliser; None: the valid values, at least 1.
        """
        pieces, threads = -(-count // PIECE), sums.threads(self.card)
        partial = self.card.arena.borrow(16 * pieces)
        if pieces:
            self.card.launch(kernel, pieces, *arguments, partial.span, PIECE, count, threads=threads)
        self.card.launch(loss_finish_cuda, 1, partial.span, pieces, 0 if given is None else given, self.normalizer, top,
                         threads=threads)


@part
def write_piece(loss, valid, partial, losses, valids):
    """Add up a block's threads, and write both sums of its piece; the last two are shared arrays."""
    two_trees(loss, valid, losses, valids)
    if cuda.threadIdx.x == 0:
        partial[2 * cuda.blockIdx.x], partial[2 * cuda.blockIdx.x + 1] = losses[0], valids[0]


@kernel("double*, int, double, double*, float*", threads=THREADS)
def loss_finish_cuda(partial, pieces, given, normalizer, top):
    """One block: add up the pieces, divide; a normaliser of 0 stands for the number of valid values, at least 1."""
    losses = cuda.shared.array(THREADS, np.float64)
    valids = cuda.shared.array(THREADS, np.float64)
    thread, together = cuda.threadIdx.x, cuda.blockDim.x
    loss = valid = 0.0
    for piece in range(thread, pieces, together):
        loss += partial[2 * piece]
        valid += partial[2 * piece + 1]
    two_trees(loss, valid, losses, valids)
    if thread == 0:
        divisor = given if given > 0 else max(valids[0], 1.0)
        normalizer[0] = divisor
        top[0] = losses[0] / divisor


@cached
def is_class(label, classes):
    """Whether a label is a class number; NaN is none."""
    return label >= 0 and label < classes and label == math.floor(label)


@cached
def log_loss_at(probability, smallest):
    """Return -log of a probability held above `smallest`, in float64."""
    return -math.log(max(float(probability), float(smallest)))


@kernel("float*, float*, int, int, bool, float, float, int*, double*, int, int", threads=THREADS)
def label_loss_cuda(prob, labels, channels, inner, ignores, ignored, smallest, flag, partial, piece, count):
    """-log of the labels' probabilities, (outer, channels, inner), for each block a piece of the labels."""
    losses = cuda.shared.array(THREADS, np.float64)
    valids = cuda.shared.array(THREADS, np.float64)
    loss = valid = 0.0
    first = np.int64(cuda.blockIdx.x) * piece
    for i in range(first + cuda.threadIdx.x, min(first + piece, count), cuda.blockDim.x):
        label = labels[i]
        if not (ignores and label == ignored):
            if is_class(label, channels):
                out = over(i, inner)
                loss += log_loss_at(prob[(out * (channels - 1) + np.int64(label)) * inner + i], smallest)
                valid += 1.0
            else:
                flag[0] = 1
    write_piece(loss, valid, partial, losses, valids)
