"""Write the mean picture of a database, as Caffe's tool of this name does.

    python -m data.compute_image_mean train_lmdb mean.binaryproto

All records must have one size. The mean of each channel is printed too. Sums are taken in float64 and rounded once; Caffe's
float32 ones lose the last digits from some 65,000 pictures on.
"""

import argparse
import sys

import numpy as np

from data import database, datum, flags
from netspec import binaryproto, files
from netspec.errors import Error, run_door

SAID = 10000  # records from one line of the log to the next


def main(argv=None):
    """Compute."""
    options = _parser().parse_args(argv)
    database.check(options.backend, to_write=False)
    source = database.open_database(files.find(options.database, what="database"), options.backend)
    print("Starting iteration", file=sys.stderr)
    total, count = None, 0
    for key, value in source.read():
        where = f"key '{key.decode('utf-8', 'replace')}' of {source.title}"
        values = datum.array(datum.parse(value, where), where)
        if total is None:
            total, first = np.zeros(values.shape), where
        if values.shape != total.shape:
            raise Error(f"{where} is {_times(values.shape)} (channels x height x width), but {first} is {_times(total.shape)}; a "
                        "mean needs records of one size")
        total += values
        count += 1
        if count % SAID == 0:
            print(f"Processed {count} files.", file=sys.stderr)
    if not count:
        raise Error(f"{source.title}: holds no record")
    print(f"Processed {count} files.", file=sys.stderr)
    mean = total / count
    if options.output:
        print(f"Write to {options.output}", file=sys.stderr)
        binaryproto.write_mean(options.output, mean[None])
    print(f"Number of channels: {len(mean)}", file=sys.stderr)
    for number, channel in enumerate(mean):
        print(f"mean_value channel [{number}]: {channel.mean():.6g}")
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m data.compute_image_mean", description="Compute the mean picture of an LMDB or LevelDB database.",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        epilog="example:\n  python -m data.compute_image_mean -backend=lmdb train_lmdb mean.binaryproto")
    parser.add_argument("database", metavar="INPUT_DB", help="the database's folder")
    parser.add_argument("output", metavar="OUTPUT_FILE", nargs="?", help="a .binaryproto file to write, for mean_file")
    flags.add_value(parser, "backend", "lmdb or leveldb (default: %(default)s)", default="lmdb")
    return parser


def _times(shape):
    return "x".join(map(str, shape))


if __name__ == "__main__":
    sys.exit(run_door(main))
