"""The options of all commands that run a net: how it computes, not what."""

import argparse
import sys

from layers.core.cpu import parallel
from layers.core.net import MATH


def add_options(parser, low_memory=True):
    """Add --threads, --math, --plan, --no-border, and --low-memory unless the command reads blobs that others do not."""
    parser.add_argument("--threads", metavar="N", type=positive, help="threads to compute with (default: all cores)")
    parser.add_argument("--math", choices=MATH,
                        help="how convolutions are computed: fast (default; errors to 5e-6 a layer, 7x7 1.4e-5), strict (direct "
                        "sums: 2e-7 to 6e-7, as Caffe's), caffe (im2col and BLAS) or, on NVIDIA cards only, tf32 (tensor cores, "
                        "errors to 1e-3 a layer); the default is also DEEPJET_MATH's")
    parser.add_argument("--plan", action="store_true",
                        help="print how the net will be run (steps, kernels and why, layouts, MACs, memory) to stderr")
    parser.add_argument("--no-border", action="store_true",
                        help="compute again for each image what padding alone makes, instead of keeping it (same bits)")
    if low_memory:
        parser.add_argument("--low-memory", action="store_true",
                            help="keep no transformed weights and, in TEST, no blob that no layer will read any more; slower")


def use(options):
    """Use the threads; return the keywords for `Net`."""
    if options.threads is not None:
        parallel.set_threads(options.threads)
    return {"math": options.math, "low_memory": getattr(options, "low_memory", False), "border": not options.no_border}


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
