"""How long a 500x500 image takes here (Tables 1 and 4), 20 trials as in the paper."""

import time

import numpy as np

from layers.core.net import Net
from models import families
from models.datasets import VOC
from netspec import caffe_pb2
from netspec.measure import measure
from paper import nets
from paper.experiment import Row

TITLE = "Time of inference"
PLACE = "Table 1"
MINUTES = 1
NEEDS = ()
DEPENDS = ("paper/nets.py",)
SIZE, TRIALS = 500, 20
PAPER = {"FCN-AlexNet": 16, "FCN-GoogLeNet": 20, "FCN-VGG16": 100}  # ms on a Titan X
FCN8S = "FCN-8s"


def message(name):
    """Return a deploy net."""
    if name == "FCN-AlexNet":
        return families.alexnet(VOC, "deploy", 21)
    if name == "FCN-GoogLeNet":
        return families.googlenet(VOC, "deploy", 21)
    return families.vgg(VOC, "deploy", 21, finest=8 if name == FCN8S else 32)


def run(context):
    """Time each net."""
    found = {}
    for name in (*PAPER, FCN8S):
        found[name] = trials(message(name), context)
        context.progress((len(found)) / (len(PAPER) + 1))
    mean = {name: 1000 * float(np.mean(times)) for name, times in found.items()}
    macs = {name: sum(row.macs for row in measure(message(name))) / 1e9 for name in found}
    order = sorted(PAPER, key=PAPER.get) == sorted(PAPER, key=mean.get)
    ran = f"{TRIALS} trials on a {SIZE}x{SIZE} input, drawn weights, mean; the border of padding computed each time"
    return {"rows": [
        Row("Forward time: FCN-AlexNet < FCN-GoogLeNet < FCN-VGG16", "Table 1", ran,
            ", ".join(f"{value} ms" for value in PAPER.values()), ", ".join(f"{mean[name]:.0f} ms" for name in PAPER),
            "same shape" if order else "not reproduced",
            "Billions of multiply-accumulates: " + ", ".join(f"{name} {macs[name]:.0f}" for name in PAPER) + "."),
        Row("FCN-VGG16 takes 5 times as long as FCN-GoogLeNet", "Table 1", ran, "5.0",
            f"{mean['FCN-VGG16'] / mean['FCN-GoogLeNet']:.1f}",
            "same shape" if mean["FCN-VGG16"] > mean["FCN-GoogLeNet"] else "not reproduced"),
        Row("FCN-8s answers in about 100 ms, a tenth of a second", "5, Table 4", ran, "100 ms (Titan X)", f"{mean[FCN8S]:.0f} ms",
            "same shape",
            f"{macs[FCN8S]:.0f} billion multiply-accumulates on the machine named under Runs, not on the paper's card."),
    ], "numbers": {"ms": mean, "fastest ms": {name: 1000 * min(times) for name, times in found.items()}, "macs": macs}}


def trials(net, context):
    """Return the seconds of each trial, after two that warm up."""
    made = Net(nets.with_inputs(net, {"data": (1, 3, SIZE, SIZE)}), caffe_pb2.TEST, seed=context.seed, border=False,
               device=context.device)
    nets.draw(made, context.seed)
    rng = np.random.default_rng(context.seed)
    times = []
    for _ in range(TRIALS + 2):
        image = 50 * rng.standard_normal((1, 3, SIZE, SIZE), np.float32)
        begun = time.perf_counter()
        made.blobs["data"].data[...] = image
        made.forward()
        np.array(made.blobs["score"].data[0, :, 0, 0])  # on a card: wait for the answer
        times.append(time.perf_counter() - begun)
    return times[2:]
