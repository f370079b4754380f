"""Learning rate policies: the rate of an iteration.

========== ==========================================================  ==================================
policy     rate                                                        fields
========== ==========================================================  ==================================
fixed      base_lr
step       base_lr * gamma ^ floor(iter / stepsize)                    gamma, stepsize
exp        base_lr * gamma ^ iter                                      gamma
inv        base_lr * (1 + gamma * iter) ^ -power                       gamma, power
multistep  base_lr * gamma ^ (stepvalues passed)                       gamma, stepvalue (several)
poly       base_lr * (1 - iter / max_iter) ^ power                     power, max_iter
sigmoid    base_lr / (1 + exp(-gamma * (iter - stepsize)))             gamma, stepsize
========== ==========================================================  ==================================

As in Caffe `multistep` passes at most one step value an iteration, and counts from what the snapshot says
(`current_step`). Computed in double precision and rounded to float32 once.
"""

import numpy as np

from netspec.errors import Error, UnknownName, nearest


def learning_rate(param, iteration, current_step=0):
    """Return (rate, current_step) of an iteration.

    Parameters
    ----------
    param : SolverParameter
        lr_policy, base_lr and the policy's own fields.
    iteration : int
        Iterations done so far: the first one has number 0.
    current_step : int
        Steps taken before this iteration (`step` and `multistep` give back how many it is now).

    Returns a numpy.float32 and an int. An unknown policy is an `UnknownName`; a rate that is not finite an `Error`.
    """
    check(param)
    with np.errstate(all="ignore"):
        rate, current_step = POLICIES[param.lr_policy](param, iteration, current_step)
        rate = np.float32(rate)
    if not np.isfinite(rate):
        raise Error(f"lr_policy '{param.lr_policy}' gives a rate of {rate:g} in iteration {iteration} "
                    f"(base_lr {param.base_lr:g}, gamma {param.gamma:g}, power {param.power:g}, "
                    f"max_iter {param.max_iter})")
    return rate, current_step


def check(param):
    """Refuse a policy that cannot work; the solver asks before it starts."""
    if not param.lr_policy:
        raise Error(f"the solver has no lr_policy; choose one of {', '.join(POLICIES)}")
    if param.lr_policy not in POLICIES:
        raise UnknownName(f"unknown lr_policy '{param.lr_policy}'{nearest(param.lr_policy, POLICIES)}; "
                          f"known: {', '.join(POLICIES)}")
    if param.lr_policy == "step" and param.stepsize <= 0:
        raise Error(f"lr_policy 'step' needs a stepsize above 0, got {param.stepsize}")
    if param.lr_policy in ("step", "exp", "inv", "multistep") and param.gamma < 0:
        raise Error(f"lr_policy '{param.lr_policy}' needs a gamma of 0 or more, got {param.gamma:g}")
    if param.lr_policy == "poly" and param.max_iter <= 0:
        raise Error(f"lr_policy 'poly' needs a max_iter above 0, got {param.max_iter}")


def fixed(param, iteration, current_step):
    """Always base_lr."""
    return param.base_lr, current_step


def step(param, iteration, current_step):
    """Times gamma every stepsize iterations."""
    current_step = iteration // param.stepsize
    return param.base_lr * np.power(param.gamma, float(current_step)), current_step


def exp(param, iteration, current_step):
    """Times gamma every iteration."""
    return param.base_lr * np.power(param.gamma, float(iteration)), current_step


def inv(param, iteration, current_step):
    """Falls with a power of the iteration."""
    return param.base_lr * np.power(1 + param.gamma * iteration, -param.power), current_step


def multistep(param, iteration, current_step):
    """Times gamma at each of the step values."""
    if current_step < len(param.stepvalue) and iteration >= param.stepvalue[current_step]:
        current_step += 1
    return param.base_lr * np.power(param.gamma, float(current_step)), current_step


def poly(param, iteration, current_step):
    """Falls to 0 at max_iter."""
    return param.base_lr * np.power(1 - iteration / param.max_iter, param.power), current_step


def sigmoid(param, iteration, current_step):
    """Falls (gamma below 0) or grows around stepsize."""
    return param.base_lr / (1 + np.exp(-param.gamma * (iteration - param.stepsize))), current_step


POLICIES = {rule.__name__: rule for rule in (fixed, step, exp, inv, multistep, poly, sigmoid)}
