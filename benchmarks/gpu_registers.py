"""Print what every kernel for NVIDIA cards takes: registers, spills, shared memory, blocks at once. Needs no card.

Example: python -m benchmarks.gpu_registers --capability 9.0
"""

import argparse
import sys

from layers.core.cuda import resources
from netspec.errors import Error


def main(argv=None):
    """Print the table; return 1 if a kernel spills or is refused."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=__doc__.strip().split("\n")[-1])
    parser.add_argument("--capability", action="append", metavar="X.Y",
                        help="of a card; any number of times (default: 7.5, 8.0, 9.0)")
    parser.add_argument("--kernels", default="", metavar="TEXT", help="only kernels whose name holds this")
    options = parser.parse_args(argv)
    try:
        capabilities = [_capability(text) for text in options.capability or ()] or resources.CAPABILITIES
        bad = 0
        print(f"{'kernel':64} {'for':>4} {'registers':>9} {'stack':>6} {'spilled':>8} {'shared':>7} {'blocks':>7}")
        for capability in capabilities:
            for kernel in resources.all_kernels(capability):
                if options.kernels not in kernel.name:
                    continue
                took = resources.resources(kernel, capability)
                bad += took.spilled > 0
                print(f"{kernel.name.removeprefix('layers.'):64} {capability[0]}.{capability[1]:<2} {took.registers:9} "
                      f"{took.stack:6} {took.spilled:8} {took.shared:7} {took.blocks(kernel.threads):7}", flush=True)
    except Error as error:
        print(f"gpu_registers: {error}", file=sys.stderr)
        return 1
    return int(bad > 0)


def _capability(text):
    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise Error(f"--capability {text}: give it as 9.0")
    return int(major), int(minor)


if __name__ == "__main__":
    sys.exit(main())
