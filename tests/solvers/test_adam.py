import math

import numpy as np
import pytest

from netspec import caffe_pb2
from solvers import adam
from tests.solvers import rules

FIELDS = {"type": "Adam", "momentum": 0.9, "momentum2": 0.99, "delta": 1e-6}
NUMBERS = (0.9, 0.1, 0.999, 0.001, 1e-8, 0.013)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gradient", rules.GRADIENTS)
def test_kernel_equals_plain_twin_bit_for_bit(dtype, gradient):
    rules.hold_twins(adam.adam_cpu, adam.adam_plain, 2, NUMBERS, dtype, gradient)


def step(gradient, history, t):
    mean = 0.9 * history[0] + 0.1 * gradient
    squares = 0.99 * history[1] + 0.01 * gradient**2
    correction = math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    return correction * mean / (math.sqrt(squares) + 1e-6), [mean, squares]



@pytest.mark.parametrize("more", [{}, {"iter_size": 3}])
def test_updates_are_those_of_the_formula(tmp_path, monkeypatch, more):
    machine = rules.make(tmp_path, monkeypatch, **FIELDS, **more)
    assert type(machine) is adam.AdamSolver
    rules.hold_training(machine, step, 2)


@pytest.mark.parametrize("form", [caffe_pb2.SolverParameter.BINARYPROTO, caffe_pb2.SolverParameter.HDF5])
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path, monkeypatch, form):
    rules.hold_resume(tmp_path, monkeypatch, form, **FIELDS)


def test_the_old_enum_name_is_understood(tmp_path, monkeypatch):
    fields = {**FIELDS, "type": None, "solver_type": caffe_pb2.SolverParameter.ADAM}
    assert type(rules.make(tmp_path, monkeypatch, **fields)) is adam.AdamSolver


@pytest.mark.parametrize("fields, message", [
    ({"momentum": 1}, "momentum is 1; for type 'Adam' it must be from 0 to below 1"),
    ({"momentum2": 1}, "momentum2 is 1; for type 'Adam'"),
    ({"delta": -1}, 'delta is -1'),
])
def test_what_the_rule_cannot_do_is_refused(tmp_path, monkeypatch, fields, message):
    rules.refuse(tmp_path, monkeypatch, message, **{**FIELDS, **fields})


def test_the_correction_is_gone_after_many_iterations(tmp_path, monkeypatch):
    machine = rules.make(tmp_path, monkeypatch, **FIELDS)
    machine.iter = 10**6
    blob = machine.net.learnable_params[2]
    blob.diff[...] = 1
    machine.apply_update()
    assert np.isfinite(blob.data).all()
