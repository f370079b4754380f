"""Memory of a training step of the whole FCN-8s on a 500x500 image (section 4.4), beside Caffe's by formula.

Caffe holds each parameter three times (data, gradient, history of the momentum), each blob twice (data, gradient; a layer in
place shares its bottom's), and for each convolution that is not 1x1 a buffer of im2col. Splits share the data, not the gradient.
"""

import functools
import json
import math
import subprocess
import sys

import numpy as np

from layers.core.net import Net
from models import families
from models.datasets import VOC
from netspec import caffe_pb2, files, graph
from netspec.errors import Error
from netspec.measure import measure
from paper import nets
from paper.experiment import Row
from solvers import solver

TITLE = "Memory of training"
PLACE = "4.4"
MINUTES = 0.8
NEEDS = ()
DEPENDS = ("paper/nets.py",)
SIZE, IMAGES = 500, 20
GIB = 2**30


def run(context):
    """Measure in a process of its own, count Caffe's."""
    params, blobs, buffers = caffe_bytes()
    formula = 3 * params + blobs
    steps = []
    for low_memory in (False, True):
        steps.append(measured(context.seed, low_memory))
        context.progress(0.5 * len(steps))
    ours, lean = (step["peak"] - step["before"] for step in steps)
    gib = {name: value / GIB for name, value in (
        ("parameters", params), ("blobs", blobs), ("buffers", buffers), ("formula", formula), ("ours", ours),
        ("low memory", lean),
        ("process before", steps[0]["before"]), ("process", steps[0]["peak"]))}
    return {"rows": [
        Row("All models are trained in Caffe: memory of a step of the whole FCN-8s on a 500x500 image", "4.4",
            "two iterations of the solver in a process of its own: its largest resident memory less what it had before the net "
            f"was made ({gib['process']:.2f} less {gib['process before']:.2f} GiB); the same with `low_memory`",
            f"Caffe: {(formula + buffers) / GIB:.2f} GiB, without its im2col buffers {gib['formula']:.2f}",
            f"{gib['ours']:.2f} GiB; {gib['low memory']:.2f} with low_memory",
            "same shape" if ours <= formula + buffers and lean <= formula else "not reproduced",
            f"Caffe's by formula: {params // 4:,} parameters of 4 bytes three times (data, gradient, history: "
            f"{3 * gib['parameters']:.2f} GiB), data and gradient of every blob ({gib['blobs']:.2f}), and a buffer of im2col for "
            f"each convolution beyond 1x1 ({gib['buffers']:.2f}). The two more copies of each parameter that its solver "
            "declares are never written by SGD."),
        Row("Accumulation reduces the memory required", "4.2",
            f"data and gradients of FCN-8s's blobs at 500x500, counted: {IMAGES} images one by one beside a batch of {IMAGES}",
            "reduces", f"{gib['blobs']:.1f} instead of {IMAGES * gib['blobs']:.0f} GiB", "same shape",
            "Parameters are held once either way."),
    ], "numbers": gib}


def training_net():
    """Return FCN-8s's training net with inputs."""
    return nets.with_inputs(families.vgg(VOC, "train", 21, finest=8), {"data": (1, 3, SIZE, SIZE), "label": (1, 1, SIZE, SIZE)})


def caffe_bytes():
    """Return the bytes of (parameters once, all blobs' data and gradient, im2col buffers) in Caffe."""
    net = graph.insert_splits(training_net())
    rows = measure(net)
    shapes = {top: shape for row in rows for top, shape in zip(row.tops, row.shapes)}
    blobs = buffers = 0
    for layer, row in zip(net.layer, rows):
        own = 4 * sum(math.prod(shape) for top, shape in zip(row.tops, row.shapes) if top not in layer.bottom)
        blobs += own if layer.type == "Split" else 2 * own
        if layer.type in ("Convolution", "Deconvolution"):
            kernel = layer.convolution_param.kernel_size[0]
            inside, outside = (shapes[names[0]] for names in (layer.bottom, layer.top))
            if layer.type == "Deconvolution":
                inside, outside = outside, inside
            if kernel > 1:
                buffers += 4 * inside[1] * kernel * kernel * math.prod(outside[2:])
    return 4 * sum(row.params for row in rows), blobs, buffers


def measured(seed, low_memory):
    """Return {"before", "peak"}: bytes resident in a new process before the net is made, and at most in two iterations."""
    code = f"import json; from paper.experiments import memory; print(json.dumps(memory.train({int(seed)}, {bool(low_memory)})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=files.ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def train(seed, low_memory):
    """Train two iterations in this process; see `measured`."""
    before = resident()
    param = caffe_pb2.SolverParameter(base_lr=1e-14, lr_policy="fixed", momentum=0.99, weight_decay=5e-4, max_iter=2, display=0,
                                      random_seed=1, train_net_param=training_net(), snapshot_after_train=False)
    machine = solver.make(param, net_class=functools.partial(Net, device="cpu", low_memory=low_memory))
    for name, blobs in machine.net.params.items():
        if machine.net.layer_dict[name].type == "Convolution":
            blobs[0].data[...] = np.sqrt(2 / blobs[0].data[0].size)  # any values: memory that was never written is not resident
    machine.net.blobs["data"].data[...] = np.random.default_rng(seed).standard_normal((1, 3, SIZE, SIZE), np.float32)
    machine.step(2)
    peak = resident()
    machine.close()
    if peak - before < 4 * sum(blob.count for blob in machine.net.learnable_params):
        raise Error(f"the process grew by {(peak - before) / GIB:.2f} GiB, less than its parameters: the measurement is wrong")
    return {"before": before, "peak": peak}


def resident():
    """Return the most bytes that this process had resident so far.

    Of the program that runs: what getrusage says includes the process that started it.
    """
    for line in files.read_text("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise Error("/proc/self/status does not say VmHWM; this measurement is for Linux")
