"""What "SGD with momentum on accumulated gradients" means in numbers (sections 4.1 and 4.2): the real solver on a small net."""

import functools

import numpy as np

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.spec import NetSpec
from netspec.spec import layers as L
from paper import nets
from paper.experiment import difference, exact
from solvers import solver

TITLE = "Accumulation, rates, decay, resuming"
PLACE = "4.2"
MINUTES = 0.1
NEEDS = ()
DEPENDS = ("paper/nets.py",)
IMAGES, STEPS = 20, 6
RATES = ((1, 1), (2, 0))  # rate and decay factors of weights and bias, as in the published nets


def run(context):
    """Accumulate, update, resume."""
    gathered = accumulation(context.seed)
    plain = update_rule(context.seed)
    resumed = resume(context.seed, context.folder)
    return {"rows": [
        exact("Gradients accumulated over 20 images are those of a batch of 20", "4.1, 4.2",
              f"{STEPS} iterations with `iter_size: {IMAGES}` beside a batch of {IMAGES}, a loss summed over pixels, divided by "
              "the images; all weights, float64", "the same step", difference(gathered), gathered < 1e-6,
              "Accumulating respects the dimensions of each image; a batch needs one size. Caffe's 1/20 is a float32."),
        exact("SGD with momentum, weight decay, twice the rate for biases", "4.1",
              f"{STEPS} iterations of the solver beside the rule written out in NumPy, every parameter, float64",
              "momentum x step + rate x (gradient + decay x weight)", difference(plain), plain < 1e-12),
        exact("A training can be stopped and goes on as if it had not been", "4.4", f"{STEPS} iterations beside half of them, a "
              "snapshot, and the rest in another solver; all weights, float32", "not said", difference(resumed), resumed == 0,
              "Caffe's solver state lacks the state of the data and of random numbers; here it is stored beside its fields."),
    ]}


def make(images, batch, seed, folder=None, dtype=np.float64, start=0):
    """Return a solver on a net of two convolutions, fed `batch` images a pass, `images` an update, from iteration `start` on."""
    n = NetSpec()
    nets.image(n, batch, 2, 9, 8)
    nets.image(n, batch, 1, 7, 6, name="label")
    param = [{"lr_mult": rate, "decay_mult": decay} for rate, decay in RATES]
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=3, param=param)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.score = L.Convolution(n.relu1, num_output=3, kernel_size=1, param=param)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param={"normalize": False, "ignore_label": 255})
    made = caffe_pb2.SolverParameter(
        base_lr=0.01, lr_policy="fixed", momentum=0.9, weight_decay=0.05, iter_size=images // batch, max_iter=STEPS, display=0,
        random_seed=1, train_net_param=n.to_proto(), snapshot_after_train=False)
    if folder is not None:
        made.snapshot_prefix = str(folder / "half")
    machine = solver.make(made, net_class=functools.partial(Net, dtype=dtype, device="cpu"))
    nets.draw(machine.net, seed + start)  # a resumed one must not begin with the same weights
    rng = np.random.default_rng(seed)
    pictures = rng.standard_normal((STEPS * images, 2, 9, 8))
    labels = rng.integers(0, 3, (STEPS * images, 1, 7, 6))
    passes = iter(range(start, STEPS * images // batch))

    def feed(layer):
        if layer == 0:
            begin = batch * next(passes)
            machine.net.blobs["data"].data[...] = pictures[begin : begin + batch]
            machine.net.blobs["label"].data[...] = labels[begin : begin + batch]

    machine.net.before_forward(feed)
    return machine


def weights(machine):
    """Return copies of all parameters."""
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in machine.net.params.items()}


def accumulation(seed):
    """Return the difference of the weights after training by accumulation and by batches."""
    found = []
    for batch in (1, IMAGES):
        machine = make(IMAGES, batch, seed)
        machine.step(STEPS)
        found.append(weights(machine))
        machine.close()
    return nets.worst(*found)


def update_rule(seed):
    """Return the largest difference of the weights from the rule written out."""
    machine = make(1, 1, seed)
    param, off = machine.param, 0.0
    history = [np.zeros(blob.shape) for blob in machine.net.learnable_params]
    before = [blob.data.copy() for blob in machine.net.learnable_params]
    gradients = []

    def gradients_ready():
        gradients[:] = [blob.diff.copy() for blob in machine.net.learnable_params]

    machine.add_callback(on_gradients_ready=gradients_ready)
    for _ in range(STEPS):
        machine.step(1)
        for number, blob in enumerate(machine.net.learnable_params):
            rate, decay = RATES[number % 2]
            gradient = gradients[number] + float(np.float32(param.weight_decay)) * decay * before[number]
            history[number] = param.momentum * history[number] + param.base_lr * rate * gradient
            before[number] = before[number] - history[number]
            off = max(off, nets.worst(blob.data.copy(), before[number]))
    machine.close()
    return off


def resume(seed, folder):
    """Return the difference of the weights after an unbroken training and a resumed one, in float32."""
    whole = make(1, 1, seed, dtype=np.float32)
    whole.step(STEPS)
    first = make(1, 1, seed, folder, np.float32)
    first.step(STEPS // 2)
    first.snapshot()
    second = make(1, 1, seed, folder, np.float32, STEPS // 2)
    second.restore(first.last_snapshot[2])
    second.step(STEPS - STEPS // 2)
    found = nets.worst(weights(second), weights(whole))
    for machine in (whole, first, second):
        machine.close()
    return found
