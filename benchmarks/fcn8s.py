"""Time and peak memory of the full-width FCN-8s on one 500x500 image: forward, forward + backward, whole training step.

``python -m benchmarks.fcn8s [--size 500x500] [--repeat 5]`` prints a table: medians, and the largest resident memory of a
process that did only that. Caffe 1.0 (OpenBLAS) on two cores of this class: forward 3.0 s, forward and backward 6.0 s.
"""

import argparse
import functools
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

WHAT = {"forward": 3.0, "forward + backward": 6.0, "training step": None}  # Caffe's seconds


def describe(size, train):
    """Return a full FCN-8s over Input layers as a message."""
    from models.fcn8s import net as recipe

    param = recipe.net("train" if train else "deploy")
    data = param.layer[0]
    data.Clear()
    data.name, data.type = "data", "Input"
    for top, channels in [("data", 3), ("label", 1)][: 1 + train]:
        data.top.append(top)
        data.input_param.shape.add().dim.extend([1, channels, *size])
    return param


def seed(net):
    """Draw weights, an image and labels."""
    from models.fcn8s import net as recipe

    rng = np.random.default_rng(1)
    for name, blobs in net.params.items():
        weight = blobs[0].data
        if net.layer_dict[name].type == "Convolution":
            rng.standard_normal(out=weight, dtype=np.float32)
            weight *= np.float32(np.sqrt(2 / np.prod(weight.shape[1:])))
    recipe.start(net)
    net.blobs["data"].data[...] = rng.standard_normal(net.blobs["data"].shape, dtype=np.float32) * 50
    if "label" in net.blobs:
        net.blobs["label"].data[...] = rng.integers(0, 21, net.blobs["label"].shape)


def measure(what, size, repeat):
    """Run `what` once to warm up and `repeat` times; return the median seconds."""
    from layers.core.net import Net
    from netspec import caffe_pb2
    from solvers import solver

    param = describe(size, what != "forward")
    if what == "training step":
        trainer = solver.make(caffe_pb2.SolverParameter(
            train_net_param=param, base_lr=1e-14, lr_policy="fixed", momentum=0.99, weight_decay=5e-4, max_iter=1000,
            snapshot_prefix="unused"))
        net, step = trainer.net, functools.partial(trainer.step, 1)
    else:
        net = Net(param, caffe_pb2.TEST if what == "forward" else caffe_pb2.TRAIN)
        step = net.forward if what == "forward" else net.forward_backward
    seed(net)
    seconds = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main(argv=None):
    """Print the table; each row is measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="500x500", help="height x width of the image")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--one", choices=WHAT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    size = tuple(int(n) for n in args.size.split("x"))
    if args.one:
        seconds = measure(args.one, size, args.repeat)
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return 0
    print(f"FCN-8s, 1x3x{size[0]}x{size[1]}, {len(os.sched_getaffinity(0))} cores, median of {args.repeat}")
    print(f"{'':20} {'seconds':>8} {'Caffe':>6} {'peak GiB':>9}")
    for what, caffe in WHAT.items():
        command = [sys.executable, "-m", "benchmarks.fcn8s", "--one", what, "--size", args.size, "--repeat", str(args.repeat)]
        seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
        print(f"{what:20} {float(seconds):8.2f} {caffe or '':>6} {float(peak):9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
