"""Convolutional against patchwise computation (section 3.1): one image of 500x500 beside the 100 crops it holds."""

import time

import numpy as np

from netspec import caffe_pb2
from netspec.measure import measure
from netspec.spec import NetSpec
from netspec.spec import layers as L
from paper import nets
from paper.experiment import Row, exact
from paper.experiments import fc_to_conv

TITLE = "One convolutional pass instead of 100 patches"
PLACE = "3.1"
MINUTES = 0.7
NEEDS = ()
DEPENDS = ("paper/nets.py", "paper/experiments/fc_to_conv.py")
IMAGE, CROP, CLASSES = 500, 227, 1000
BATCH = 50  # crops at once
TURNS = 3


def run(context):
    """Count, then measure in turns."""
    grid = [row.shapes[0] for row in measure(fc_to_conv.alexnet(IMAGE, IMAGE, classes=CLASSES)) if row.layer == "fc8"][0][2:]
    crops = grid[0] * grid[1]
    macs = {size: sum(row.macs for row in measure(fc_to_conv.alexnet(size, size, classes=CLASSES))) for size in (IMAGE, CROP)}
    whole, batch, single = (trainer(size, count, context) for size, count in ((IMAGE, 1), (CROP, BATCH), (CROP, 1)))
    # Seconds of forward and of backward, for one image of 500x500 or for all its crops.
    jobs = {"whole": (whole, 1), "batches": (batch, crops / BATCH), "one by one": (single, crops)}
    seconds = {name: [[], []] for name in jobs}
    for turn in range(TURNS + 1):
        for name, (net, times) in jobs.items():
            for kind, taken in enumerate(clock(net)):
                if turn:  # the first is not measured
                    seconds[name][kind].append(taken * times)
        context.progress((turn + 1) / (TURNS + 1))
    best = {name: [min(kind) for kind in both] for name, both in seconds.items()}
    ratio = {name: [best[name][kind] / best["whole"][kind] for kind in (0, 1)] for name in ("batches", "one by one")}
    ran = f"AlexNet on 500x500 beside {crops} crops of 227x227 in batches of {BATCH}, both here; fastest of {TURNS}"
    single_ran = ran.replace(f"in batches of {BATCH}", "one by one")
    share = sum(best["whole"]) / sum(best["batches"])
    return {"rows": [
        exact("A 500x500 image gives a 10x10 grid of outputs", "3.1", "shape of fc8 as a convolution, the image not padded",
              "10x10", f"{grid[0]}x{grid[1]}", tuple(grid) == (10, 10)),
        Row("Forward, the convolutional net is more than 5 times as fast as patches in batches", "3.1", ran,
            "5.5 (22 ms, 100 x 1.2 ms)", said(ratio["batches"][0], best, 0, "batches"), shape(ratio["batches"][0] > 1),
            f"Multiply-accumulates alone: {crops * macs[CROP] / macs[IMAGE]:.1f} times fewer."),
        Row("and nearly 25 times as fast as patches one by one", "3.1", single_ran, "24.5 (22 ms, 100 x 5.4 ms)",
            said(ratio["one by one"][0], best, 0, "one by one"), shape(ratio["one by one"][0] > ratio["batches"][0])),
        Row("Backward, the speedup is similar", "3.1", ran, "6.5 (37 ms, 100 x 2.4 ms)",
            said(ratio["batches"][1], best, 1, "batches"), shape(ratio["batches"][1] > 1)),
        Row("So sampling the loss is faster than training on patches when p is above about 0.2", "4.4",
            "time of the whole image over that of the crops, forward and backward", "0.2", f"{share:.2f}", shape(share < 1)),
    ], "numbers": {"seconds forward and backward": best, "times as fast": ratio, "macs": macs, "all seconds": seconds}}


def trainer(size, batch, context):
    """Return AlexNet with a softmax loss and drawn weights: as convolutions on the image, with InnerProduct layers on crops."""
    message = fc_to_conv.alexnet(size, size, size == CROP, classes=CLASSES, batch=batch)
    shape = next(row.shapes[0] for row in measure(message) if row.layer == "fc8")
    n = NetSpec()
    score = nets.image(n, 1, name="fc8")
    label = nets.image(n, batch, *((1, *shape[2:]) if shape[2:] else ()), name="label")
    n.loss = L.SoftmaxWithLoss(score, label)
    message.layer.extend(n.to_proto().layer[1:])
    rng = np.random.default_rng(context.seed)
    net = nets.make(message, context.seed, caffe_pb2.TRAIN, np.float32)
    net.blobs["data"].data[...] = 50 * rng.standard_normal((batch, 3, size, size), np.float32)
    net.blobs["label"].data[...] = rng.integers(0, CLASSES, net.blobs["label"].shape)
    return net


def clock(net):
    """Return the seconds of one forward and of one backward pass."""
    times = [time.perf_counter()]
    for step in (net.forward, net.backward):
        step()
        times.append(time.perf_counter())
    return times[1] - times[0], times[2] - times[1]


def said(ratio, best, kind, what):
    """Return "5.2 (120 ms, 630 ms)"."""
    return f"{ratio:.1f} ({1000 * best['whole'][kind]:.0f} ms, {1000 * best[what][kind]:.0f} ms)"


def shape(holds):
    """Return the verdict of a measured order."""
    return "same shape" if holds else "not reproduced"
