"""What a solver keeps on a card: what updates read there because it changes from one replay of a recording to the next."""

import numpy as np

from layers.core.cuda.small import Numbers

# Of `step`, in values of float32: whether a pass was bad and updates do nothing any more; the factor of all gradients.
HALTED, CLIP = 0, 1
HEAD = 2  # values of `step`


class OnCard:
    """The memory of a solver on its net's card.

    Attributes
    ----------
    step : layers.core.cuda.small.Numbers
        What is one for all parameters, see above.
    """

    def __init__(self, solver):
        self.solver, self.card = solver, solver.net.card
        self.step, self._rows = Numbers(self.card, HEAD), None

    def send(self, steps):
        """Bring to the card what all updates read; `steps`: what `Solver.update` takes, for each parameter."""
        rows = np.array([(*self.solver.numbers(rate), *gradient[1:]) for _, _, gradient, rate in steps], np.float32)
        if self._rows is None and rows.size:
            self._rows, self._length = Numbers(self.card, rows.size), rows.shape[1]
        if rows.size:
            self._rows.write(rows)
            self.step.write([0, steps[0][2].clip])

    def numbers_of(self, number):
        """Return the spans of `step` and of the numbers of a parameter."""
        return self.step.span, self.card.within(self._rows.span, 4 * self._length * number, 4 * self._length)
