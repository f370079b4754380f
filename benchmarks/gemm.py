"""Our matrix product against numpy's, over the shapes that nets have: equality first, then time in turns.

``python -m benchmarks.gemm [--seconds 3] [name ...]`` prints billions of operations a second (wall time) and the ratios of
the medians, numpy / ours, of wall and of processor time.
"""

import argparse
import sys

import numpy as np

from benchmarks.alternate import alternate
from benchmarks.products import SHAPES, operands, work
from benchmarks.turns import PAUSE
from layers.core.cpu import gemm, parallel
from layers.core.cpu.isa import ISA


def main(argv=None):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(SHAPES))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape")
    args = parser.parse_args(argv)
    print(f"{ISA.name}, {parallel.threads()} threads, numpy {np.__version__}")
    print(f"{'':18} {'ours':>6} {'numpy':>6} GF/s {'wall':>5} {'processor':>9}  error ours, numpy")
    for name, (rows, _, columns, *_) in SHAPES.items():
        if args.names and name not in args.names:
            continue
        a, b = operands(name)
        ours, other = np.empty((2, rows, columns), np.float32)
        gemm.gemm(a, b, ours)
        np.matmul(a, b, out=other)
        some = slice(0, min(columns, 256))
        exact = a.astype(np.float64) @ b[:, some]
        errors = [abs(result[:, some] - exact).max() / abs(exact).max() for result in (ours, other)]
        if errors[0] > 1e-6:
            raise SystemExit(f"error: {name}: our product is off by {errors[0]:.1e} of its largest value")
        pair = [lambda: gemm.gemm(a, b, ours), lambda: np.matmul(a, b, out=other)]  # noqa: B023
        mine, theirs = alternate(pair, args.seconds, pause=PAUSE)
        print(f"{name:18} {work(name) / mine[0]:6.0f} {work(name) / theirs[0]:6.0f}      {theirs[0] / mine[0]:5.2f} "
              f"{theirs[1] / mine[1]:9.2f}  {errors[0]:.1e} {errors[1]:.1e}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
