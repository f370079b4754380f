import math

import numpy as np
import pytest

from netspec import caffe_pb2
from solvers import adadelta
from tests.solvers import rules

FIELDS = {"type": "AdaDelta", "momentum": 0.95, "base_lr": 1.0, "delta": 1e-6}
NUMBERS = (0.95, 0.05, 1e-6, 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gradient", rules.GRADIENTS)
def test_kernel_equals_plain_twin_bit_for_bit(dtype, gradient):
    rules.hold_twins(adadelta.adadelta_cpu, adadelta.adadelta_plain, 2, NUMBERS, dtype, gradient)


def step(gradient, history, t):
    squares = 0.95 * history[0] + 0.05 * gradient**2
    change = gradient * math.sqrt((1e-6 + history[1]) / (1e-6 + squares))
    return change, [squares, 0.95 * history[1] + 0.05 * change**2]



@pytest.mark.parametrize("more", [{}, {"iter_size": 3}])
def test_updates_are_those_of_the_formula(tmp_path, monkeypatch, more):
    machine = rules.make(tmp_path, monkeypatch, **FIELDS, **more)
    assert type(machine) is adadelta.AdaDeltaSolver
    rules.hold_training(machine, step, 2)


@pytest.mark.parametrize("form", [caffe_pb2.SolverParameter.BINARYPROTO, caffe_pb2.SolverParameter.HDF5])
def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(tmp_path, monkeypatch, form):
    rules.hold_resume(tmp_path, monkeypatch, form, **FIELDS)


def test_the_old_enum_name_is_understood(tmp_path, monkeypatch):
    fields = {**FIELDS, "type": None, "solver_type": caffe_pb2.SolverParameter.ADADELTA}
    assert type(rules.make(tmp_path, monkeypatch, **fields)) is adadelta.AdaDeltaSolver


@pytest.mark.parametrize("fields, message", [
    ({"momentum": 1.5}, "momentum is 1.5; for type 'AdaDelta' it must be from 0 to 1"),
    ({"delta": -1}, 'delta is -1'),
])
def test_what_the_rule_cannot_do_is_refused(tmp_path, monkeypatch, fields, message):
    rules.refuse(tmp_path, monkeypatch, message, **{**FIELDS, **fields})
