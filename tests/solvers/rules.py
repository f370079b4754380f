"""What the tests of all update rules share: a kernel against its plain twin, a solver against loops in double precision."""

import numpy as np
import pytest

from layers.core.cpu import parallel
from netspec.errors import Error
from solvers import solver
from tests.solvers import small

GRADIENTS = [(1, 1, 0, 0), (1, 0.05, 5e-4, 0), (0.3, 1 / 3, 0, 1e-3), (0.7, 1, 1e-2, 1e-3)]  # clip, scale, l2, l1


def arrays(count, dtype, histories, seed=1):
    """Return data, diff and histories (0 or more, as running means of squares are)."""
    random = np.random.RandomState(seed)
    made = [random.randn(count).astype(dtype) for _ in range(2)]
    made[0][::7] = 0
    return made + [abs(random.randn(count)).astype(dtype) for _ in range(histories)]


def hold_twins(cpu, plain, histories, numbers, dtype, gradient):
    """The kernel gives the plain twin's bits, and everything it should change is changed."""
    count = 40001
    one = arrays(count, dtype, histories)
    before, other = [a.copy() for a in one], [a.copy() for a in one]
    numbers = [dtype(value) for value in (*numbers, *gradient)]
    plain(*one, *numbers)
    parallel.run(cpu, count, *other, *numbers)
    for first, second, old in zip(one, other, before):
        assert np.array_equal(first, second)
        assert not np.array_equal(first, old)
    assert np.array_equal(other[0], before[0] - other[1])  # the diff is what was subtracted, as in Caffe


def make(folder, monkeypatch, **fields):
    """Return a solver of the small net; fields that are None are removed."""
    path = small.write(folder)
    monkeypatch.chdir(folder)
    param = solver._read(path)[0]
    for name, value in fields.items():
        if value is None:
            param.ClearField(name)
        else:
            setattr(param, name, value)
    return solver.make(param, path=str(path))


def hold_training(machine, step, histories, iterations=4):
    """The solver's updates are those of ``step(gradient, histories, t)``, one value at a time in double precision.

    `step` returns what is subtracted at a rate of 1, and the new histories.
    """
    param, net = machine.param, machine.net
    kept = [[(float(value), [0.0] * histories) for value in blob.data.ravel()] for blob in net.learnable_params]
    for t in range(1, iterations + 1):
        random = np.random.RandomState(t)
        for number, blob in enumerate(net.learnable_params):
            blob.diff[...] = random.randn(*blob.shape)
            decay, rate = param.weight_decay * net.params_weight_decay[number], param.base_lr * net.params_lr[number]
            if rate:
                for i, diff in enumerate(blob.diff.ravel()):
                    value, old = kept[number][i]
                    change, new = step(float(diff) / param.iter_size + decay * value, old, t)
                    kept[number][i] = value - rate * change, new
        machine.apply_update()
        machine.iter += 1
    for number, blob in enumerate(net.learnable_params):
        expected = np.reshape([value for value, _ in kept[number]], blob.shape)
        assert np.allclose(blob.data, expected, rtol=2e-5, atol=2e-7)
        for which in range(histories):
            if net.params_lr[number]:
                expected = np.reshape([old[which] for _, old in kept[number]], blob.shape)
                assert np.allclose(machine.history_of(number, which).data, expected, rtol=2e-5, atol=1e-9)
            else:
                assert not machine.has_history(number, which)  # a layer that does not learn takes no memory


def hold_resume(folder, monkeypatch, form, **fields):
    """Two steps, a snapshot in `form` and two more have the bits of a second solver that goes on from it."""
    whole = make(folder, monkeypatch, snapshot_format=form, **fields)
    whole.step(2)
    _, state = whole.snapshot()
    whole.step(2)
    second = make(folder, monkeypatch, snapshot_format=form, **fields)
    second.restore(state)
    assert second.iter == 2
    second.step(2)
    assert len(second.history.blobs) == whole.histories * len(whole.net.learnable_params)
    for one, other in zip((*whole.net.learnable_params, *whole.history.blobs),
                          (*second.net.learnable_params, *second.history.blobs)):
        assert one.data.tobytes() == other.data.tobytes()


def refuse(folder, monkeypatch, message, **fields):
    """A solver with such fields is an error."""
    with pytest.raises(Error, match=message):
        make(folder, monkeypatch, **fields)
