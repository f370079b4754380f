"""Our matrix product against numpy's, over the shapes that nets have: equality first, then time in turns.

``python -m benchmarks.gemm [--seconds 3] [name ...]`` prints billions of operations a second (wall time) and the ratios of
the medians, numpy / ours, of wall and of processor time.
"""

import argparse
import sys

import numpy as np

from benchmarks.alternate import alternate
from layers.core.cpu import gemm, parallel
from layers.core.cpu.isa import ISA

# name: (rows, depth, columns, left stored transposed, right stored transposed)
SHAPES = {
    "conv1_1": (64, 27, 487204, 0, 0), "conv1_2 / 4": (64, 576, 121801, 0, 0), "conv2_2": (128, 1152, 121801, 0, 0),
    "conv3_2": (256, 2304, 30625, 0, 0), "conv4_2": (512, 4608, 7744, 0, 0), "conv5": (512, 4608, 1936, 0, 0),
    "fc6 / 4": (1024, 25088, 256, 0, 0), "fc7": (4096, 4096, 256, 0, 0), "score_fr": (21, 4096, 256, 0, 0),
    "2048": (2048, 2048, 2048, 0, 0), "2048, both turned": (2048, 2048, 2048, 1, 1), "batch of 64": (64, 4096, 1000, 0, 1),
    "weight gradient": (512, 1936, 4608, 0, 1), "columns' gradient": (2304, 256, 7656, 1, 0), "small": (64, 64, 64, 0, 0),
}


def main(argv=None):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(SHAPES))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape")
    args = parser.parse_args(argv)
    print(f"{ISA.name}, {parallel.threads()} threads, numpy {np.__version__}")
    print(f"{'':18} {'ours':>6} {'numpy':>6} GF/s {'wall':>5} {'processor':>9}  error ours, numpy")
    for name, (rows, depth, columns, left, right) in SHAPES.items():
        if args.names and name not in args.names:
            continue
        rng = np.random.default_rng(0)
        a = rng.standard_normal((depth, rows) if left else (rows, depth), dtype=np.float32)
        b = rng.standard_normal((columns, depth) if right else (depth, columns), dtype=np.float32)
        a, b = a.T if left else a, b.T if right else b
        ours, other = np.empty((2, rows, columns), np.float32)
        gemm.gemm(a, b, ours)
        np.matmul(a, b, out=other)
        some = slice(0, min(columns, 256))
        exact = a.astype(np.float64) @ b[:, some]
        errors = [abs(result[:, some] - exact).max() / abs(exact).max() for result in (ours, other)]
        if errors[0] > 1e-6:
            raise SystemExit(f"error: {name}: our product is off by {errors[0]:.1e} of its largest value")
        mine, theirs = alternate([lambda: gemm.gemm(a, b, ours), lambda: np.matmul(a, b, out=other)], args.seconds)  # noqa: B023
        work = 2e-9 * rows * depth * columns
        print(f"{name:18} {work / mine[0]:6.0f} {work / theirs[0]:6.0f}      {theirs[0] / mine[0]:5.2f} "
              f"{theirs[1] / mine[1]:9.2f}  {errors[0]:.1e} {errors[1]:.1e}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
