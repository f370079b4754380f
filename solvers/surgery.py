"""Carry weights from one net to another, fill upsampling kernels, enlarge score layers.

    python -m solvers.surgery transplant vgg16.prototxt vgg16.caffemodel models/fcn32s/train.prototxt --out fcn.h5

Classifiers become FCNs this way: a fully connected layer's weights, (4096, 25088), are those of a 7x7 convolution,
(4096, 512, 7, 7), in the same order (section 3.1 of the paper). Nothing here needs the nets' data sets.

For scripts: `transplant`, `interp`, `upsample_filt` and `expand_score` are called as those of the published surgery.py,
on nets of deepjet or of its pycaffe face; the first two return what they did as rows.
"""

import argparse
import collections
import math
import sys

import numpy as np

from netspec import caffe_pb2, files
from netspec.bilinear import bilinear_kernel, fill_upsampling, why_no_upsampling
from netspec.errors import Error, UnknownName, nearest, run_door
from netspec.options import add_allow_unknown, named_shapes
from netspec.weights import read_weights
from solvers import nets, stand_ins

Row = collections.namedtuple("Row", "layer param action source target note")
Row.__doc__ = """What became of one parameter: layer, param (number), action (copied, coerced, dropped, kept, expanded,
bilinear, skipped), shapes in the source and in the target (tuples or None), and a note that says why."""

# --- on nets in memory -----------------------------------------------------------------------------------------------


def transplant(new_net, net, suffix=""):
    """Copy the parameters of `net` into the layers of `new_net` that have the same name (plus `suffix`).

    A parameter of another shape but as many values is copied in its order ("coerced": fully connected to convolution,
    4-D to 1-D biases); of another count it is dropped. Layers that only `new_net` has keep what they hold.

    Returns the rows, in the order of `net`, then what `new_net` kept. Source: the published surgery.py; where that one
    would repeat or cut values to make them fit, the parameter is dropped here.
    """
    rows, touched = [], set()
    for name, sources in net.params.items():
        new_name = name + suffix
        if new_name not in new_net.params:
            rows += [Row(name, i, "dropped", _shape(source), None, f"no layer '{new_name}' in the new net")
                     for i, source in enumerate(sources)]
            continue
        targets = new_net.params[new_name]
        for i, source in enumerate(sources):
            if source is None:  # HDF5 leaves out what is shared with another layer
                rows.append(Row(name, i, "dropped", None, None, "shared with another layer, not in the file"))
                continue
            shape = _shape(source)
            if i >= len(targets):
                rows.append(Row(name, i, "dropped", shape, None, f"'{new_name}' has {len(targets)} parameters"))
                continue
            wanted = _shape(targets[i])
            if math.prod(shape) != math.prod(wanted):
                rows.append(Row(name, i, "dropped", shape, wanted,
                                f"{math.prod(shape)} values do not fit {math.prod(wanted)}"))
                continue
            _copy(source, targets[i])
            touched.add((new_name, i))
            rows.append(Row(name, i, "copied" if shape == wanted else "coerced", shape, wanted,
                            f"into '{new_name}'" if suffix else ""))
    for name, targets in new_net.params.items():
        rows += [Row(name, i, "kept", None, _shape(target), "zero" if not np.any(target.data) else "as it was")
                 for i, target in enumerate(targets) if (name, i) not in touched]
    return rows


def interp(net, layers):
    """Put bilinear upsampling kernels into the given Deconvolution layers: one a channel, zero across channels.

    The kernel's sides must be equal, and input and output channels too (or, grouped, one output a group). Returns rows.
    """
    rows = []
    for name in layers:
        weights = _params(net, name)[0]
        fill_upsampling(weights.data, name)
        rows.append(Row(name, 0, "bilinear", None, _shape(weights), f"upsamples by {(_shape(weights)[2] + 1) // 2}"))
    return rows


def upsample_filt(size):
    """Return the bilinear kernel of `size` x `size`, see `netspec.bilinear.bilinear_kernel`."""
    return bilinear_kernel(size)


def expand_score(new_net, new_layer, net, layer):
    """Copy the score layer `layer` of `net` into the larger `new_layer` of `new_net`: old classes keep their scores.

    Class k stays class k (background 0); further classes keep what `new_net` holds, usually zeros. The bias may be 1-D
    or (1, 1, 1, N). Returns rows.
    """
    rows = []
    sources, targets = _params(net, layer), _params(new_net, new_layer)
    if len(sources) != len(targets):
        raise Error(f"layer '{layer}' has {len(sources)} parameters, '{new_layer}' has {len(targets)}")
    for i, (source, target) in enumerate(zip(sources, targets)):
        if source is None:
            raise Error(f"layer '{layer}', parameter {i}: shared with another layer, not in the file")
        shape, wanted = _shape(source), _shape(target)
        old, new = _classes_first(shape, i), _classes_first(wanted, i)
        if old[1:] != new[1:] or new[0] < old[0]:
            raise Error(f"layer '{layer}', parameter {i}: {list(shape)} cannot be expanded to {list(wanted)} of "
                        f"'{new_layer}': only the number of classes may grow")
        target.data.reshape(new)[:old[0]] = _values(source).reshape(old)
        rows.append(Row(layer, i, "expanded", shape, wanted, f"{old[0]} classes of {new[0]}"))
    return rows


def _classes_first(shape, number):
    # A bias of 2014 is (1, 1, 1, N): its classes are the last axis.
    return (math.prod(shape),) if number and math.prod(shape) == max(shape, default=1) else shape


def _params(net, name):
    if name not in net.params:
        raise UnknownName(f"no layer '{name}' with parameters{nearest(name, list(net.params))}; "
                          f"there are: {', '.join(net.params)}")
    return net.params[name]


def _shape(blob):
    # Blobs of files know their shape without reading; those of the pycaffe face by their data.
    return tuple(getattr(blob, "shape", None) or blob.data.shape) if blob is not None else None


def _values(blob):
    return blob.read() if hasattr(blob, "read") else blob.data


def _copy(source, target):
    if hasattr(source, "read_into") and _shape(source) == _shape(target):
        source.read_into(target.data)  # from the file straight into the net
    else:
        target.data[...] = _values(source).reshape(target.data.shape)


# --- the door --------------------------------------------------------------------------------------------------------


def main(argv=None):
    """Run one of the operations."""
    options = _parser().parse_args(argv)
    return options.run(options)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m solvers.surgery", description="Carry weights from one net to another.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
               "  python -m solvers.surgery transplant vgg16.prototxt vgg16.caffemodel models/fcn32s/train.prototxt "
               "--dry-run\n"
               "  python -m solvers.surgery interp models/fcn32s/train.prototxt start.caffemodel --out fcn.caffemodel\n"
               "  python -m solvers.surgery expand_score old.prototxt old.caffemodel new.prototxt --layer score_fr "
               "--out new.caffemodel")
    commands = parser.add_subparsers(metavar="OPERATION", required=True)

    one = commands.add_parser("transplant", help="copy by layer name, fully connected to convolution too",
                              formatter_class=argparse.RawDescriptionHelpFormatter,
                              epilog="example:\n  python -m solvers.surgery transplant vgg16.prototxt vgg16.caffemodel "
                                     "models/fcn32s/train.prototxt --out start.caffemodel")
    _add_nets(one)
    one.add_argument("--suffix", default="", metavar="S", help="appended to the old names to find the new layers")
    one.add_argument("--onto", metavar="WEIGHTS", help="weights that TO_NET starts from (for several sources)")
    one.set_defaults(run=_transplant)

    two = commands.add_parser("interp", help="put bilinear kernels into Deconvolution layers",
                              formatter_class=argparse.RawDescriptionHelpFormatter,
                              epilog="example:\n  python -m solvers.surgery interp models/fcn8s/train.prototxt "
                                     "start.caffemodel --layers upscore2,upscore8 --out ready.caffemodel")
    two.add_argument("net", metavar="NET", help="prototxt or model")
    two.add_argument("weights", metavar="WEIGHTS", help="caffemodel or HDF5")
    two.add_argument("--layers", metavar="A,B", help="which (default: every Deconvolution that can upsample)")
    _add_output(two)
    two.set_defaults(run=_interp)

    three = commands.add_parser("expand_score", help="give a net more classes; the old ones keep their scores",
                                formatter_class=argparse.RawDescriptionHelpFormatter,
                                epilog="example:\n  python -m solvers.surgery expand_score old.prototxt old.caffemodel "
                                       "new.prototxt --layer score_fr,score_pool4 --out new.caffemodel")
    _add_nets(three)
    three.add_argument("--layer", metavar="A,B", required=True, help="the score layers")
    three.add_argument("--std", type=float, default=0.0, metavar="S",
                       help="standard deviation of the weights of new classes (default: 0, as the paper starts scores)")
    three.add_argument("--seed", type=int, default=1337, metavar="N", help="of --std (default: %(default)s)")
    three.set_defaults(run=_expand_score)
    return parser


def _add_nets(parser):
    parser.add_argument("from_net", metavar="FROM_NET", help="prototxt or model whose weights they are")
    parser.add_argument("from_weights", metavar="FROM_WEIGHTS", help="caffemodel (any age) or HDF5")
    parser.add_argument("to_net", metavar="TO_NET", help="prototxt or model that gets them")
    _add_output(parser)


def _add_output(parser):
    parser.add_argument("--out", metavar="FILE", help="weights to write (.caffemodel, or .h5)")
    parser.add_argument("--dry-run", action="store_true", help="only print the table")
    parser.add_argument("--input", metavar="NAME=SHAPE", action="append",
                        help="shape of an input where layers need it, such as data=1,3,227,227; may be repeated")
    add_allow_unknown(parser)


def _transplant(options):
    message, net = _new_net(options.to_net, options, options.onto)
    source = _Source(options.from_net, options.from_weights, options.allow_unknown)
    rows = source.dropped + transplant(net, source, options.suffix)
    if not any(row.action in ("copied", "coerced") for row in rows):
        print_rows(rows)
        raise Error(f"nothing of '{options.from_weights}' fits '{options.to_net}'; the table says why")
    return _finish(options, message, net, rows)


def _interp(options):
    message, net = _new_net(options.net, options, options.weights)
    rows = []
    if options.layers:
        for name in options.layers.split(","):
            _params(net, name)
            if net.layer_dict[name].type != "Deconvolution":
                raise Error(f"layer '{name}' is a {net.layer_dict[name].type} layer; interp fills Deconvolution: "
                            f"{', '.join(_deconvolutions(net)) or 'there are none'}")
        rows = interp(net, options.layers.split(","))
    else:
        if not _deconvolutions(net):
            raise Error(f"net '{options.net}' has no Deconvolution layer")
        for name in _deconvolutions(net):
            shape = _shape(net.params[name][0])
            why = why_no_upsampling(shape)
            rows += [Row(name, 0, "skipped", None, shape, why)] if why else interp(net, [name])
    return _finish(options, message, net, rows)


def _expand_score(options):
    layers = options.layer.split(",")
    if not 0 <= options.std < math.inf:
        raise UnknownName(f"--std must be 0 or more, got {options.std}")
    message, net = _new_net(options.to_net, options, None)
    source = _Source(options.from_net, options.from_weights, options.allow_unknown)
    for name in layers:
        _params(source, name), _params(net, name)
    rows = source.dropped + transplant(net, source)
    rows = [row for row in rows if row.layer not in layers]
    generator = np.random.default_rng(options.seed)
    for name in layers:
        if options.std:
            weights = net.params[name][0].data
            weights[...] = generator.standard_normal(weights.shape) * options.std
        rows += expand_score(net, name, source, name)
    # Upsampling of C classes is C x C kernels, so it does not fit more classes; but it is known what it must be.
    empty = [name for name in _deconvolutions(net) if not np.any(net.params[name][0].data)
             and not why_no_upsampling(_shape(net.params[name][0]))]
    rows = [row for row in rows if row.layer not in empty] + interp(net, empty)
    return _finish(options, message, net, rows)


class _Source:
    # The parameters in a weights file that FROM_NET has; no Net is made, so neither data nor known types are needed.
    def __init__(self, name, path, allow_unknown):
        message = nets.read(nets.find(name, ("deploy", "val", "test", "train")), allow_unknown=allow_unknown)
        layers = read_weights(files.find(path, what="weights")).layers
        known = {layer.name for layer in message.layer}
        self.params = {layer: blobs for layer, blobs in layers.items() if blobs and layer in known}
        # The shapes in the file are checked when they are asked for: all of them now, before anything is done.
        self.dropped = [Row(layer, i, "dropped", _shape(blob), None, f"no such layer in {name}")
                        for layer, blobs in layers.items() if layer not in known for i, blob in enumerate(blobs)]
        if not self.params:
            raise Error(f"'{path}' holds no parameters of '{name}': all layer names differ; in the file: "
                        f"{', '.join(list(layers)[:6])}, ...")


def _new_net(name, options, weights):
    # (message, Net) of TO_NET; Input layers stand for its data layers.
    path = nets.find(name, ("train", "trainval", "val", "test", "deploy"))
    message = nets.read(path, allow_unknown=options.allow_unknown)
    shapes = named_shapes(options.input)
    weights = files.find(weights, what="weights") if weights else None
    if not options.dry_run and not options.out:
        raise UnknownName("--out FILE is missing (or --dry-run, to see only what would be done)")
    stand_in = stand_ins.without_data(message, shapes)
    net = nets.open_net(stand_ins.without_judges(stand_in), path, caffe_pb2.TEST, weights)
    return message, net


def _deconvolutions(net):
    return [name for name in net.params if net.layer_dict[name].type == "Deconvolution"]


def _finish(options, message, net, rows):
    print_rows(rows)
    zero = [name for name in _deconvolutions(net) if not np.any(net.params[name][0].data)]
    if zero:
        print(f"warning: upsampling kernels are zero, so the net would answer zero everywhere: {', '.join(zero)}; fill "
              "them with: python -m solvers.surgery interp", file=sys.stderr)
    if options.dry_run:
        print("dry run: nothing written", file=sys.stderr)
        return 0
    nets.save(options.out, message, net.params)
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


def print_rows(rows):
    """Print rows as a table, with a sum of each action."""
    lines = [("layer", "param", "what", "from", "to", "")]
    lines += [(row.layer, str(row.param), row.action, _show(row.source), _show(row.target), row.note) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, [*widths, 0])).rstrip())
    counts = collections.Counter(row.action for row in rows)
    print(", ".join(f"{count} {action}" for action, count in counts.items()) or "nothing to do")


def _show(shape):
    return "-" if shape is None else "x".join(map(str, shape)) or "()"


if __name__ == "__main__":
    sys.exit(run_door(main))
