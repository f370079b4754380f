"""What the update rules of all solver types share: a rule is run where the gradient is."""

from layers.core.cpu import parallel
from netspec.errors import Error


def run(solver, cpu, cuda, number, blob, gradient, numbers):
    """Run a rule over one parameter: on the CPU or, where its gradient is on a card, there.

    Both kernels take data, diff and the parameter's histories (flat), then `numbers` and `gradient`, rounded to the
    parameter's type; `cpu` a range before them, `cuda` the count behind them.
    """
    histories = [solver.history_of(number, which) for which in range(solver.histories)]
    numbers = [blob.dtype.type(one) for one in (*numbers, *gradient)]
    card = solver.update_on(blob)
    if card is None:
        arrays = blob.data.reshape(-1), blob.diff.reshape(-1), *(history.data.reshape(-1) for history in histories)
        parallel.run(cpu, blob.count, *arrays, *numbers)
    else:
        spans = blob.change_on(card), blob.change_on(card, diff=True), *(history.change_on(card) for history in histories)
        card.run(cuda, blob.count, *spans, *numbers)


def rests(solver, number, blob):
    """Whether a parameter does not learn (lr_mult 0): it and its history stay as they are, and take no memory.

    Caffe goes on squaring the decay of such a parameter into a history that nothing reads.
    """
    if solver.net.params_lr[number]:
        return False
    blob.clear_diff()
    return True


def refuse_momentum(solver, rule):
    """Refuse a momentum, which the rule has no place for, as Caffe does."""
    if solver.param.momentum:
        raise Error(f"{solver.path or 'solver'}: momentum is {solver.param.momentum:g}, but {rule} has none; remove it, or take "
                    "another type")


def need_share(solver, field, below):
    """Refuse a `field` that is not from 0 to 1 (1 itself is refused if `below`)."""
    value = getattr(solver.param, field)
    if not (0 <= value < 1 if below else 0 <= value <= 1):
        raise Error(f"{solver.path or 'solver'}: {field} is {value:g}; for type '{solver.param.type}' it must be from 0 to "
                    f"{'below ' if below else ''}1")


def need_delta(solver):
    """Refuse a negative `delta`, of which roots would be taken."""
    if not solver.param.delta >= 0:
        raise Error(f"{solver.path or 'solver'}: delta is {solver.param.delta:g}; it must be 0 or more, such as 1e-8")
