"""Rewrite an old net, solver or caffemodel with today's fields: `python -m netspec.upgrade_file OLD [NEW]`."""

import argparse
import sys

from google.protobuf.message import DecodeError

from netspec import caffe_pb2, files, forks, text, upgrade
from netspec.errors import Error, run_door
from netspec.options import add_allow_unknown, dropped_by, say_dropped


def main(argv=None):
    """Upgrade a net, its weights or a solver; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m netspec.upgrade_file",
        description="Rewrite an old net, solver (text) or .caffemodel (binary) with today's fields.",
        epilog="example:\n  python -m netspec.upgrade_file lenet_2013.prototxt lenet.prototxt\n"
               "  python -m netspec.upgrade_file old.caffemodel new.caffemodel",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", help="a prototxt of a net or a solver, or a .caffemodel; told apart by what they hold")
    parser.add_argument("new", nargs="?", help="where to write; a text goes to stdout when this is not given")
    add_allow_unknown(parser)
    args = parser.parse_args(argv)
    dropped = dropped_by(args)

    data = files.read_bytes(args.old)
    if text.is_text(data):
        solver_fields = set(caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name)
        net_fields = set(caffe_pb2.NetParameter.DESCRIPTOR.fields_by_name)
        fields = text.top_level_fields(text.decode(data, args.old))
        # The names that only one of the two has decide; a misspelt one is for the parser to complain of.
        is_solver = sum(f in solver_fields - net_fields for f in fields) > sum(f in net_fields for f in fields)
        if is_solver:
            message = text.read(args.old, caffe_pb2.SolverParameter, dropped)
            said = upgrade.upgrade_solver_said(message, "")
        else:
            message = text.read(args.old, caffe_pb2.NetParameter, dropped)
            said = upgrade.upgrade_said(message, args.old, text.layer_lines(args.old))
        if args.new:
            files.write_text(args.new, text.dump(message))
        else:
            print(text.dump(message), end="")
    else:
        if not args.new:
            parser.error(f"'{args.old}' is binary: say where to write")
        message, remarks = _read_binary(data, args.old)
        said = remarks + upgrade.upgrade_said(message, args.old, ())
        with files.atomic(args.new) as file:
            file.write(forks.serialize(message))
    say_dropped(dropped)
    for sentence in said or ["is up to date; written as it was"]:
        print(f"{args.old}: {sentence}", file=sys.stderr)
    return 0


def _read_binary(data, path):
    """Return (NetParameter, remarks) of a .caffemodel's bytes."""
    try:
        net, remarks = forks.parse(data)
    except DecodeError as error:
        raise Error(f"'{path}' is not a .caffemodel, or is damaged: {error}") from None
    if not net.layer and not net.layers:
        raise Error(f"'{path}' holds no layers: it is not a .caffemodel")
    return net, remarks


if __name__ == "__main__":
    sys.exit(run_door(main))
