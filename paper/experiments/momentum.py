"""Momentum and batch size (section 6.2): the real solver's steps beside the sum with geometric coefficients."""

import functools

import numpy as np

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.spec import NetSpec
from netspec.spec import layers as L
from netspec.spec import params as P
from paper import nets
from paper.experiment import difference, exact
from solvers import solver

TITLE = "Momentum and batch size"
PLACE = "6.2"
MINUTES = 0.1
NEEDS = ()
DEPENDS = ("paper/nets.py",)
REGIMES = ((20, 0.9), (1, 0.9), (1, 0.99), (5, 0.8))  # images of an update, momentum
UPDATES = 30


def run(context):
    """Train a linear loss, expand its steps."""
    off = {f"{batch} images, {momentum}": error_of_expansion(batch, momentum, context.seed) for batch, momentum in REGIMES}
    worst = max(off.values())
    root = 0.9 ** (1 / 20)
    places = np.arange(400)
    curves = {
        "accum": {"y": 0.9 ** (places // 20), "label": "accumulation: 20 images, momentum 0.9"},
        "heavy": {"y": 0.99**places, "label": "heavy: 1 image, momentum 0.99"},
        "root": {"y": root**places, "label": "1 image, momentum 0.9^(1/20)"},
        "online": {"y": 0.9**places, "label": "online: 1 image, momentum 0.9"},
    }
    for curve in curves.values():
        curve.update(x=places[:200], y=curve["y"][:200], x_label="images ago", figure="Weight of an image in the step")
    floor = max(abs(0.9 ** (places // 20) / root**places - 1))
    return {"rows": [
        exact("Expanded, the step of SGD with momentum p on batches of k is a sum in which the example j images ago has the "
              "coefficient p^floor(j/k)", "6.2", f"{UPDATES} updates of the real solver on a linear loss, batches and momenta "
              + ", ".join(f"{batch}/{momentum}" for batch, momentum in REGIMES) + "; its history beside the sum, float64",
              "exact", difference(worst), worst < 1e-12,
              "The paper sums the k gradients, Caffe's iter_size takes their mean: its rate must be k times the formula's (20 "
              "times for FCN-accum)."),
        exact("The geometric sum drops the floor where p^(1/k) = p'^(1/k')", "6.2",
              "0.9^floor(j/20) beside (0.9^(1/20))^j for j up to 400", "similar",
              f"the first is at most {100 * floor:.0f} % larger, never smaller", 0 < floor < 1 / 0.9 - 1 + 1e-9,
              "The factor lies between 1 and 1/p^((k-1)/k)."),
        exact("Momentum 0.9 on batches of 20 is like 0.9^(1/20), about 0.99, on single images", "6.2", "the number", "0.99",
              f"{root:.5f}", round(root, 2) == 0.99,
              f"Not the same: all coefficients sum to {20 / (1 - 0.9):.0f} for accumulation, {1 / (1 - root):.0f} with 0.9947, "
              f"{1 / (1 - 0.99):.0f} with 0.99 and {1 / (1 - 0.9):.0f} online with 0.9."),
    ], "numbers": {"off": off, "root": root}, "curves": curves}


def error_of_expansion(batch, momentum, seed):
    """Return how far the solver's last step is from the sum over all examples, of its largest value."""
    n = NetSpec()
    nets.image(n, 1, 7)
    n.linear = L.InnerProduct(n.data, num_output=1, bias_term=False)
    n.loss = L.Reduction(n.linear, operation=P.Reduction.SUM, loss_weight=1)
    param = caffe_pb2.SolverParameter(base_lr=0.01, lr_policy="fixed", momentum=momentum, iter_size=batch, max_iter=UPDATES,
                                      display=0, random_seed=1, train_net_param=n.to_proto(), snapshot_after_train=False)
    machine = solver.make(param, net_class=functools.partial(Net, dtype=np.float64, device="cpu"))
    examples = list(np.random.default_rng(seed).standard_normal((UPDATES * batch, 7)))
    waiting = iter(examples)

    def feed(layer):
        if layer == 0:
            machine.net.blobs["data"].data[0] = next(waiting)

    machine.net.before_forward(feed)
    machine.step(UPDATES)
    # The loss is linear: the gradient for an example is the example. The solver's numbers are float32 in its file.
    want = sum(param.momentum ** (age // batch) * example for age, example in enumerate(examples[::-1]))
    got = np.asarray(machine.history[0]).reshape(-1) / (param.base_lr * float(np.float32(1) / np.float32(batch)))
    machine.close()
    return float(abs(got - want).max() / abs(want).max())
