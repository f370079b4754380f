import math

import numpy as np
import pytest

from netspec import caffe_pb2
from netspec.errors import Error, UnknownName
from solvers import policy

FIELDS = {"base_lr": 0.02, "gamma": 0.1, "power": 0.5, "stepsize": 10, "max_iter": 100, "stepvalue": [5, 20]}


def rates(name, count=40, **fields):
    param = caffe_pb2.SolverParameter(lr_policy=name, **{**FIELDS, **fields})
    found, step = [], 0
    for iteration in range(count):
        rate, step = policy.learning_rate(param, iteration, step)
        found.append(rate)
    return np.array(found, np.float64)


# Written out a second time, by hand, in plain Python.
FORMULAS = {
    "fixed": lambda i: 0.02,
    "step": lambda i: 0.02 * 0.1 ** (i // 10),
    "exp": lambda i: 0.02 * 0.1**i,
    "inv": lambda i: 0.02 / math.sqrt(1 + 0.1 * i),
    "multistep": lambda i: 0.02 * 0.1 ** ((i >= 5) + (i >= 20)),
    "poly": lambda i: 0.02 * math.sqrt(1 - i / 100),
    "sigmoid": lambda i: 0.02 / (1 + math.exp(-0.1 * (i - 10))),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_policy_is_caffes_formula(name):
    expected = [FORMULAS[name](i) for i in range(40)]
    assert np.allclose(rates(name), expected, rtol=2e-6, atol=1e-44)


def test_rate_is_float32():
    rate, _ = policy.learning_rate(caffe_pb2.SolverParameter(lr_policy="fixed", base_lr=1e-14), 0)
    assert type(rate) is np.float32
    assert rate == np.float32(1e-14)


def test_step_counts_and_multistep_takes_one_step_an_iteration():
    param = caffe_pb2.SolverParameter(lr_policy="step", **FIELDS)
    assert policy.learning_rate(param, 25)[1] == 2
    # Caffe looks at one step value an iteration, so that equal values take effect one after the other.
    param = caffe_pb2.SolverParameter(lr_policy="multistep", base_lr=1, gamma=0.5, stepvalue=[3, 3])
    rate, step = policy.learning_rate(param, 3, 0)
    assert (rate, step) == (0.5, 1)
    assert policy.learning_rate(param, 4, step) == (0.25, 2)


def test_unknown_policy_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'multistep'") as error:
        rates("multi_step")
    assert "sigmoid" in str(error.value)
    with pytest.raises(Error, match="no lr_policy"):
        rates("")


@pytest.mark.parametrize(("name", "fields", "text"), [
    ("step", {"stepsize": 0}, "stepsize above 0"),
    ("exp", {"gamma": -1}, "gamma of 0 or more"),
    ("poly", {"max_iter": 0}, "max_iter above 0"),
    ("poly", {"max_iter": 10}, "gives a rate of nan in iteration 11"),
    ("exp", {"gamma": 1e30}, "gives a rate of inf"),
])
def test_impossible_rates_are_refused(name, fields, text):
    with pytest.raises(Error, match=text):
        rates(name, **fields)


def test_sigmoid_far_from_its_step_does_not_overflow():
    assert rates("sigmoid", 3, stepsize=100000)[0] == 0
