"""Time and peak memory of the full-width FCN-8s on one 500x500 image: forward, forward + backward, whole training step.

``python -m benchmarks.fcn8s [--size 500x500] [--repeat 5] [--torch PYTHON]`` prints a table: medians, and the largest
resident memory of a process that did only that; PyTorch's beside them where an interpreter has it. Caffe's column is
recorded: 1.0 with OpenBLAS on two cores of another such machine.
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
    """Print the table; every figure is measured in processes of its own, ours and PyTorch's in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="500x500", help="height x width of the image")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each, in turn; the median counts")
    parser.add_argument("--torch", metavar="PYTHON", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--one", choices=WHAT, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    height, width = (int(n) for n in args.size.split("x"))
    if args.one:
        print(measure(args.one, (height, width), args.repeat), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return 0
    with_torch = subprocess.run([args.torch, "-c", "import torch"], capture_output=True).returncode == 0
    print(f"FCN-8s, 1x3x{height}x{width}, {len(os.sched_getaffinity(0))} cores, median of {args.rounds} x {args.repeat}; "
          "seconds (peak GiB)")
    print(f"{'':20} {'deepjet':>13} {'PyTorch':>13} {'channels last':>13}  ratio to the better   Caffe 1.0")
    for what, caffe in WHAT.items():
        commands = [[sys.executable, "-m", "benchmarks.fcn8s", "--one", what, "--size", args.size, "--repeat", str(args.repeat)]]
        if with_torch:
            shape = [str(height), str(width), str(args.repeat)]
            commands += [[args.torch, "-m", "benchmarks.torch_fcn8s", what, *shape, layout]
                         for layout in ("contiguous", "channels_last")]
        runs = [[run(command) for command in commands] for _ in range(args.rounds)]
        columns = [[statistics.median(one) for one in zip(*column)] for column in zip(*runs)]
        cells = [f"{seconds:6.2f} ({peak:4.2f})" for seconds, peak in columns] + ["-"] * (3 - len(columns))
        ratio = f"{columns[0][0] / min(c[0] for c in columns[1:]):.2f}" if with_torch else "-"
        print(f"{what:20} " + " ".join(f"{cell:>13}" for cell in cells) + f"  {ratio:>19}   {caffe or '-':>9}")
    return 0


def run(command):
    """Run one measurement; return (seconds, peak GiB)."""
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]]


if __name__ == "__main__":
    sys.exit(main())
