import numpy as np
import pytest

from layers.core.cpu import parallel
from netspec import caffe_pb2
from netspec.errors import UnknownName
from solvers import sgd, solver
from tests.solvers import small


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("clip", "scale", "l2", "l1"), [
    (1, 1, 0, 0), (1, 0.05, 5e-4, 0), (0.3, 1 / 3, 0, 1e-3), (0.7, 1, 1e-2, 1e-3)])
def test_kernel_equals_plain_twin_bit_for_bit(dtype, clip, scale, l2, l1):
    random = np.random.RandomState(1)
    arrays = [random.randn(40001).astype(dtype) for _ in range(3)]
    arrays[0][::7] = 0
    numbers = [dtype(v) for v in (0.9, 0.013, clip, scale, l2, l1)]
    plain, fast = [a.copy() for a in arrays], [a.copy() for a in arrays]
    sgd.sgd_plain(*plain, *numbers)
    parallel.run(sgd.sgd_cpu, 40001, *fast, *numbers)
    for a, b in zip(plain, fast):
        assert np.array_equal(a, b)
    assert np.array_equal(fast[1], fast[2])  # the diff is what was subtracted, as in Caffe
    for number in range(len(arrays)):
        assert not np.array_equal(fast[number], arrays[number])


def test_history_expands_into_powers_of_the_momentum():
    # With gradients that do not depend on the weights, history = sum of p^j g_(t-j) (PAMI paper, section 6.2).
    random = np.random.RandomState(2)
    gradients = random.randn(6, 10)
    data, history = np.zeros(10), np.zeros(10)
    for gradient in gradients:
        diff = gradient.copy()
        sgd.sgd_cpu(0, 10, data, diff, history, 0.99, 0.5, 1.0, 1.0, 0.0, 0.0)
    expected = sum(0.5 * 0.99 ** (5 - t) * gradients[t] for t in range(6))
    assert np.allclose(history, expected, rtol=1e-13)


def make(folder, monkeypatch, net=small.NET, **fields):
    path = small.write(folder, net=net)
    monkeypatch.chdir(folder)
    param = solver._read(path)[0]
    for name, value in fields.items():
        setattr(param, name, value)
    return solver.make(param, path=str(path))


def set_diffs(machine, seed):
    random = np.random.RandomState(seed)
    for blob in machine.net.learnable_params:
        blob.diff[...] = random.randn(*blob.shape)


def reference(machine, iterations=3):
    """Run the update in plain loops over arrays, in double precision; return the parameters."""
    param, net = machine.param, machine.net
    data = [b.data.astype(np.float64) for b in net.learnable_params]
    history = [np.zeros_like(d) for d in data]
    for iteration in range(iterations):
        random = np.random.RandomState(iteration)
        diffs = [random.randn(*b.shape).astype(np.float32).astype(np.float64) for b in net.learnable_params]
        norm = np.sqrt(sum((d**2).sum() for d in diffs))
        if 0 <= param.clip_gradients < norm:
            diffs = [d * (param.clip_gradients / norm) for d in diffs]
        for i, diff in enumerate(diffs):
            gradient = diff / param.iter_size
            decay = param.weight_decay * net.params_weight_decay[i]
            gradient = gradient + decay * (np.sign(data[i]) if param.regularization_type == "L1" else data[i])
            history[i] = param.momentum * history[i] + param.base_lr * net.params_lr[i] * gradient
            data[i] = data[i] - history[i]
    return data


@pytest.mark.parametrize("fields", [
    {}, {"iter_size": 4}, {"clip_gradients": 0.5, "iter_size": 3}, {"regularization_type": "L1", "weight_decay": 0.02},
    {"momentum": 0.99, "base_lr": 1e-3}, {"clip_gradients": 1e6}])
def test_update_is_clip_normalise_regularise_momentum(tmp_path, monkeypatch, fields):
    machine = make(tmp_path, monkeypatch, **fields)
    expected = reference(machine)
    for iteration in range(3):
        set_diffs(machine, iteration)
        machine.apply_update()
        machine.iter += 1
    for blob, values in zip(machine.net.learnable_params, expected):
        assert np.allclose(blob.data, values, rtol=1e-5, atol=1e-7)


def test_frozen_parameters_take_no_memory_and_do_not_move(tmp_path, monkeypatch):
    machine = make(tmp_path, monkeypatch)
    before = [b.data.copy() for b in machine.net.params["frozen"]]
    machine.step(3)
    assert machine.history[0] is None and machine.history[1] is None
    assert machine.history[2] is not None
    for blob, values in zip(machine.net.params["frozen"], before):
        assert np.array_equal(blob.data, values)
        assert not blob.has_diff


def test_clipping_is_logged(tmp_path, monkeypatch, capfd):
    machine = make(tmp_path, monkeypatch, clip_gradients=0.5)
    set_diffs(machine, 1)
    machine.apply_update()
    assert "Gradient clipping: scaling down gradients (L2 norm " in capfd.readouterr().err


def test_unknown_solver_type_names_the_nearest(monkeypatch):
    with pytest.raises(UnknownName, match="did you mean 'SGD'"):
        solver.find("SGDD")
    monkeypatch.setattr(solver, "CAFFE", ("FutureRule",))
    with pytest.raises(UnknownName, match="solver type 'FutureRule' of Caffe is not built here yet"):
        solver.find("FutureRule")
    assert solver.find("SGD") is sgd.SGDSolver


def test_old_solver_type_field_is_understood(tmp_path, monkeypatch):
    machine = make(tmp_path, monkeypatch, solver_type=caffe_pb2.SolverParameter.SGD)
    assert type(machine) is sgd.SGDSolver
