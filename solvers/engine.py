"""The options of all commands that run a net: how it computes, not what."""

import argparse

from layers.core.cpu import parallel
from layers.core.net import MATH


def add_options(parser):
    """Add --threads and --math."""
    parser.add_argument("--threads", metavar="N", type=positive, help="threads to compute with (default: all cores)")
    parser.add_argument("--math", choices=MATH,
                        help="how convolutions are computed: fast (default; errors to 5e-6 a layer, 7x7 1.4e-5), strict (direct "
                        "sums: 2e-7 to 6e-7, as Caffe's) or caffe (im2col and BLAS); the default is also DEEPJET_MATH's")


def use(options):
    """Use the threads; return the keywords for `Net`."""
    if options.threads is not None:
        parallel.set_threads(options.threads)
    return {"math": options.math}


def positive(word):
    """Return a number of at least 1, for argparse."""
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value
