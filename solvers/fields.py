"""What update rules refuse of a solver file."""

from netspec.errors import Error


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
