"""Time and memory of loading a large caffemodel, beside reading the file and copying it once.

First equality (the arrays read are the ones written), then time: each way runs in a process of its own, in turn, so
that none profits from the other's memory; the file is in the page cache for all. The goal is a ratio of at most 2.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from netspec import caffe_pb2, weights

SMALL_LAYERS = 24


def layer_sizes(megabytes):
    """Values of each layer: like VGG16's, one layer has three quarters of all."""
    values = megabytes * 1_000_000 // 4
    return [values // 4 // SMALL_LAYERS] * SMALL_LAYERS + [values * 3 // 4]


def layer_values(index, size):
    return np.random.default_rng(index).random(size, dtype=np.float32)


def write_file(path, megabytes):
    net = caffe_pb2.NetParameter(name="large")
    layers = {}
    for index, size in enumerate(layer_sizes(megabytes)):
        net.layer.add(name=f"conv{index}", type="Convolution")
        layers[f"conv{index}"] = [(layer_values(index, size), None)]
    start = time.perf_counter()
    weights.write_caffemodel(path, net, layers)
    return time.perf_counter() - start


def read_and_copy(path, _):
    # Into NumPy's memory, which comes in huge pages: open(path).read() is several times slower for its page faults.
    return np.fromfile(path, np.uint8).copy()


def open_only(path, _):
    return weights.read_weights(path)


def read_data(path, _):
    return [blob.data for blobs in weights.read_weights(path).layers.values() for blob in blobs]


def read_into(path, memory):
    for blobs, array in zip(weights.read_weights(path).layers.values(), memory):
        blobs[0].read_into(array)


def parse_with_protobuf(path, _):
    # What a plain reader does: protobuf holds every float, then they become an array.
    with open(path, "rb") as file:
        net = caffe_pb2.NetParameter.FromString(file.read())
    return [np.array(layer.blobs[0].data, np.float32) for layer in net.layer]


WAYS = {
    "read the file, copy it once": read_and_copy,
    "read_weights, nothing read yet": open_only,
    "read_weights, all .data": read_data,
    "read_weights, into a net's memory": read_into,
    "protobuf alone": parse_with_protobuf,
}


def peak_memory():
    """Largest resident memory of this process so far, in bytes (getrusage would count that of the parent, too)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def child(way, path, megabytes):
    """Run one way; print its seconds and its peak memory above what was there before."""
    memory = []
    if way == "read_weights, into a net's memory":
        memory = [np.ones(size, np.float32) for size in layer_sizes(megabytes)]  # a net's memory is there already
    before = peak_memory()
    start = time.perf_counter()
    result = WAYS[way](path, memory)
    seconds = time.perf_counter() - start
    peak = peak_memory() - before
    del result
    print(json.dumps([seconds, peak / 1e6]))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example: python -m benchmarks.load_caffemodel --megabytes 500 --rounds 5")
    parser.add_argument("--megabytes", type=int, default=500, help="size of the file (default 500)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each way (default 5)")
    parser.add_argument("--folder", help="where the file is made for the time of the run (default: the temporary one)")
    parser.add_argument("--child", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        child(*args.child, args.megabytes)
        return 0

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = os.path.join(folder, "large.caffemodel")
        written = write_file(path, args.megabytes)
        megabytes = os.path.getsize(path) / 1e6
        for index, blobs in enumerate(weights.read_weights(path).layers.values()):
            if not np.array_equal(blobs[0].read(), layer_values(index, blobs[0].count)):
                print(f"error: layer {index} differs from what was written", file=sys.stderr)
                return 1
        runs = {way: [] for way in WAYS}
        for turn in range(args.rounds):
            for way in WAYS:
                if way == "protobuf alone" and turn:
                    continue  # slow, and known by one run
                command = [sys.executable, "-m", "benchmarks.load_caffemodel", "--megabytes", str(args.megabytes),
                           "--child", way, path]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[way].append(json.loads(done.stdout))

    print(f"{megabytes:.0f} MB caffemodel; all arrays equal to what was written; written in {written:.2f} s "
          "(synced to disk)")
    print(f"{'':34}{'median s':>9}{'min':>8}{'max':>8}{'ratio':>8}{'peak MB':>9}")
    base = statistics.median(seconds for seconds, _ in runs["read the file, copy it once"])
    for way, results in runs.items():
        seconds = [seconds for seconds, _ in results]
        median = statistics.median(seconds)
        print(f"{way:34}{median:9.3f}{min(seconds):8.3f}{max(seconds):8.3f}{median / base:8.2f}"
              f"{statistics.median(peak for _, peak in results):9.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
