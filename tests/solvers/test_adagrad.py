import math

import numpy as np
import pytest

from netspec import caffe_pb2
from solvers import adagrad
from tests.solvers import rules

FIELDS = {"type": "AdaGrad", "momentum": None, "delta": 1e-6}
NUMBERS = (1e-8, 0.013)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gradient", rules.GRADIENTS)
def test_kernel_equals_plain_twin_bit_for_bit(dtype, gradient):
    rules.hold_twins(adagrad.adagrad_cpu, adagrad.adagrad_plain, 1, NUMBERS, dtype, gradient)


def step(gradient, history, t):
    squares = history[0] + gradient**2
    return gradient / (math.sqrt(squares) + 1e-6), [squares]



@pytest.mark.parametrize("more", [{}, {"iter_size": 3}])
def test_updates_are_those_of_the_formula(tmp_path, monkeypatch, more):
    machine = rules.make(tmp_path, monkeypatch, **FIELDS, **more)
    assert type(machine) is adagrad.AdaGradSolver
    rules.hold_training(machine, step, 1)


@pytest.mark.parametrize("form", [caffe_pb2.SolverParameter.BINARYPROTO, caffe_pb2.SolverParameter.HDF5])
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path, monkeypatch, form):
    rules.hold_resume(tmp_path, monkeypatch, form, **FIELDS)


def test_the_old_enum_name_is_understood(tmp_path, monkeypatch):
    fields = {**FIELDS, "type": None, "solver_type": caffe_pb2.SolverParameter.ADAGRAD}
    assert type(rules.make(tmp_path, monkeypatch, **fields)) is adagrad.AdaGradSolver


@pytest.mark.parametrize("fields, message", [
    ({"momentum": 0.9}, 'momentum is 0.9, but AdaGrad has none; remove it'),
    ({"delta": -1}, 'delta is -1; it must be 0 or more'),
])
def test_what_the_rule_cannot_do_is_refused(tmp_path, monkeypatch, fields, message):
    rules.refuse(tmp_path, monkeypatch, message, **{**FIELDS, **fields})


def test_a_delta_of_zero_gives_nan_where_there_is_no_gradient(tmp_path, monkeypatch):
    machine = rules.make(tmp_path, monkeypatch, **{**FIELDS, "delta": 0, "weight_decay": 0})
    blob = machine.net.learnable_params[2]
    blob.diff[...] = 0
    blob.diff.reshape(-1)[0] = 1
    machine.apply_update()
    assert np.isnan(blob.data).sum() == blob.count - 1
