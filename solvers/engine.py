"""The options of all commands that run a net: how it computes, not what."""

import argparse
import os
import sys

from layers.core.cpu import parallel
from layers.core.cuda import card as cards
from layers.core.net import MATH
from netspec import caffe_pb2
from netspec.errors import Error
from netspec.options import add_allow_unknown
from solvers import log


def add_options(parser, low_memory=True):
    """Add --gpu, --threads, --math, --plan, --no-border, --allow-unknown.

    And --low-memory, unless the command reads blobs that others do not.
    """
    parser.add_argument("--gpu", metavar="N",
                        help="compute on NVIDIA card N, counted from 0 as nvidia-smi -L does; 'none': the CPU, whatever a solver "
                        "file says (default: DEEPJET_DEVICE, such as 'gpu:0', or the CPU)")
    parser.add_argument("--threads", metavar="N", type=positive, help="threads to compute with (default: all cores)")
    parser.add_argument("--math", choices=MATH,
                        help="how convolutions are computed: fast (default; errors to 5e-6 a layer, 7x7 1.4e-5), strict (direct "
                        "sums: 2e-7 to 6e-7, as Caffe's), caffe (im2col and BLAS) or, on NVIDIA cards only, tf32 (tensor cores, "
                        "errors to 1e-3 a layer); the default is also DEEPJET_MATH's")
    parser.add_argument("--plan", action="store_true",
                        help="print how the net will be run (steps, kernels and why, layouts, MACs, memory) to stderr")
    parser.add_argument("--no-border", action="store_true",
                        help="compute again for each image what padding alone makes, instead of keeping it (same bits)")
    add_allow_unknown(parser)
    if low_memory:
        parser.add_argument("--low-memory", action="store_true",
                            help="keep no transformed weights (slower in TEST), in TEST no blob and in TRAIN no blob's gradient "
                            "that no layer will read any more")


def use(options, solver=None):
    """Use the threads and find the card; return the keywords for `Net`. `solver`: the SolverParameter, if one is run."""
    if options.threads is not None:
        parallel.set_threads(options.threads)
    return {"math": options.math, "low_memory": getattr(options, "low_memory", False), "border": not options.no_border,
            "device": device(options.gpu, solver)}


def device(gpu, solver=None):
    """Return what `Net` takes as device: for --gpu, else DEEPJET_DEVICE, else a solver file's solver_mode and device_id.

    Only the file may name a card that is not there: most published ones say GPU, and then the CPU computes and the log says why.
    """
    if gpu is not None:
        return cards.find("cpu" if gpu in ("none", "cpu") else gpu if gpu.startswith("gpu") else f"gpu:{gpu}") or "cpu"
    if os.environ.get("DEEPJET_DEVICE"):
        return None
    if solver is None or not solver.HasField("solver_mode") or solver.solver_mode != caffe_pb2.SolverParameter.GPU:
        return None
    try:
        return cards.find(solver.device_id)
    except Error as error:
        log.warning("engine.py:1", f"solver_mode: GPU, but the CPU computes (the same results, slower): {error}")
        return None


def say_plan(options, net):
    """Print the net's plan to stderr, if it is wanted: for the shapes that its blobs have now."""
    if options.plan:
        print(net.plan, file=sys.stderr)


def positive(word):
    """Return a number of at least 1, for argparse."""
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value
