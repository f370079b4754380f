import math

import numpy as np
import pytest

from netspec import caffe_pb2
from solvers import rmsprop
from tests.solvers import rules

FIELDS = {"type": "RMSProp", "momentum": None, "rms_decay": 0.9, "delta": 1e-6}
NUMBERS = (0.95, 0.05, 1e-8, 0.013)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gradient", rules.GRADIENTS)
def test_kernel_equals_plain_twin_bit_for_bit(dtype, gradient):
    rules.hold_twins(rmsprop.rmsprop_cpu, rmsprop.rmsprop_plain, 1, NUMBERS, dtype, gradient)


def step(gradient, history, t):
    squares = 0.9 * history[0] + 0.1 * gradient**2
    return gradient / (math.sqrt(squares) + 1e-6), [squares]



@pytest.mark.parametrize("more", [{}, {"iter_size": 3}])
def test_updates_are_those_of_the_formula(tmp_path, monkeypatch, more):
    machine = rules.make(tmp_path, monkeypatch, **FIELDS, **more)
    assert type(machine) is rmsprop.RMSPropSolver
    rules.hold_training(machine, step, 1)


@pytest.mark.parametrize("form", [caffe_pb2.SolverParameter.BINARYPROTO, caffe_pb2.SolverParameter.HDF5])
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path, monkeypatch, form):
    rules.hold_resume(tmp_path, monkeypatch, form, **FIELDS)


def test_the_old_enum_name_is_understood(tmp_path, monkeypatch):
    fields = {**FIELDS, "type": None, "solver_type": caffe_pb2.SolverParameter.RMSPROP}
    assert type(rules.make(tmp_path, monkeypatch, **fields)) is rmsprop.RMSPropSolver


@pytest.mark.parametrize("fields, message", [
    ({"momentum": 0.9}, 'momentum is 0.9, but RMSProp has none; remove it'),
    ({"rms_decay": 1}, "rms_decay is 1; for type 'RMSProp' it must be from 0 to below 1"),
    ({"rms_decay": -0.5}, 'rms_decay is -0.5'),
    ({"delta": -1}, 'delta is -1'),
])
def test_what_the_rule_cannot_do_is_refused(tmp_path, monkeypatch, fields, message):
    rules.refuse(tmp_path, monkeypatch, message, **{**FIELDS, **fields})
