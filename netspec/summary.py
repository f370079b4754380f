"""A net as an aligned table: `python -m netspec.summary models/fcn8s/deploy.prototxt`."""

import argparse
import sys

from netspec import caffe_pb2, describe, graph, measure, recipes, text
from netspec.errors import run_door
from netspec.options import add_allow_unknown, dropped_by, named_shapes, say_dropped

EXAMPLES = """examples:
  python -m netspec.summary fcn8s
  python -m netspec.summary models/fcn8s/train.prototxt --phase TRAIN --input data=1,3,375,500
Receptive fields and offsets are in: python -m netspec.measure
"""
HEAD = ("layer", "type", "settings", "from", "top", "shape", "parameters", "lr", "MACs")
RIGHT = (6, 8)


def main(argv=None):
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m netspec.summary", description="Layers, settings, shapes and costs of a net.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", metavar="NET", help="prototxt, its folder, or the name of a model")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE",
                        help="shape of a data layer's top, such as data=1,3,500,500; may be repeated")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="for include rules (default: TEST)")
    add_allow_unknown(parser)
    options = parser.parse_args(argv)
    path = recipes.find_net(options.net, ("deploy", "val", "test", "train", "trainval"))
    phase = getattr(caffe_pb2, options.phase)
    dropped = dropped_by(options)
    net, places = text.read_net(path, dropped), text.layer_places(path)
    say_dropped(dropped)
    rows = measure.measure(net, named_shapes(options.input), phase, places=places)
    print("\n".join(table(graph.filter_net(net, caffe_pb2.NetState(phase=phase), places), rows)))
    return 0


def table(net, rows):
    """Return lines of text for the layers of `net` (rules applied) and their `measure.Row`s, with a line of totals."""
    lines = [HEAD]
    for layer, row in zip(net.layer, rows, strict=True):
        tops = list(zip(row.tops, row.shapes)) or [("", ())]
        for number, (top, shape) in enumerate(tops):
            first = number == 0
            lines.append((
                layer.name if first else "", layer.type if first else "", describe.settings(layer) if first else "",
                ", ".join(layer.bottom) if first else "", top, "x".join(map(str, shape)),
                f"{row.params:,}" if first and row.params else "", describe.rates(row.rates) if first else "",
                describe.count(row.macs) if first and row.macs else ""))
    wide = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    out = ["  ".join(f"{cell:>{width}}" if column in RIGHT else f"{cell:{width}}"
                     for column, (cell, width) in enumerate(zip(line, wide))).rstrip() for line in lines]
    out.insert(1, "  ".join("-" * width for width in wide))
    params, learned = sum(row.params for row in rows), sum(row.learned for row in rows)
    out.append(f"{len(rows)} layers, {params:,} parameters ({learned:,} learned; {4 * params / 2**20:,.1f} MiB), "
               f"{describe.count(sum(row.macs for row in rows))} MACs, blobs {sum(row.bytes for row in rows) / 2**20:,.1f} MiB")
    return out


if __name__ == "__main__":
    sys.exit(run_door(main))
