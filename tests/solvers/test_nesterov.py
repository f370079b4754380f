import numpy as np
import pytest

from netspec import caffe_pb2
from solvers import nesterov
from tests.solvers import rules

FIELDS = {"type": "Nesterov"}
NUMBERS = (0.9, 1.9, 0.013)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gradient", rules.GRADIENTS)
def test_kernel_equals_plain_twin_bit_for_bit(dtype, gradient):
    rules.hold_twins(nesterov.nesterov_cpu, nesterov.nesterov_plain, 1, NUMBERS, dtype, gradient)


@pytest.mark.parametrize("more", [{}, {"iter_size": 3}])
def test_updates_are_those_of_the_formula(tmp_path, monkeypatch, more):
    machine = rules.make(tmp_path, monkeypatch, **FIELDS, **more)
    assert type(machine) is nesterov.NesterovSolver
    expected = reference(machine, 4)
    for t in range(4):
        random = np.random.RandomState(t)
        for blob in machine.net.learnable_params:
            blob.diff[...] = random.randn(*blob.shape)
        machine.apply_update()
        machine.iter += 1
    for number, blob in enumerate(machine.net.learnable_params):
        assert np.allclose(blob.data, expected[number], rtol=2e-5, atol=2e-7)


def reference(machine, iterations):
    """Return the parameters, with the look-ahead written as in the paper: gradients are taken at data - momentum * history."""
    param, net, made = machine.param, machine.net, []
    for number, blob in enumerate(net.learnable_params):
        rate, decay = param.base_lr * net.params_lr[number], param.weight_decay * net.params_weight_decay[number]
        ahead = blob.data.astype(np.float64)  # where the gradient is taken
        history = np.zeros_like(ahead)
        for t in range(iterations):
            random = np.random.RandomState(t)
            diffs = [random.randn(*b.shape).astype(np.float32) for b in net.learnable_params]
            gradient = diffs[number].astype(np.float64) / param.iter_size + decay * ahead
            behind = ahead + param.momentum * history  # the plain path
            history = param.momentum * history + rate * gradient
            behind = behind - history
            ahead = behind - param.momentum * history
        made.append(ahead)
    return made


@pytest.mark.parametrize("form", [caffe_pb2.SolverParameter.BINARYPROTO, caffe_pb2.SolverParameter.HDF5])
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path, monkeypatch, form):
    rules.hold_resume(tmp_path, monkeypatch, form, **FIELDS)


def test_the_old_enum_name_is_understood(tmp_path, monkeypatch):
    fields = {**FIELDS, "type": None, "solver_type": caffe_pb2.SolverParameter.NESTEROV}
    assert type(rules.make(tmp_path, monkeypatch, **fields)) is nesterov.NesterovSolver
