"""Measure a net from its prototxt alone: shapes, parameters, multiply-accumulates, receptive field, stride, offset.

    python -m netspec.measure models/fcn8s/train.prototxt --input data=1,3,500,500

Nothing of the net is allocated. The field of a blob is the square of input pixels that one of its values depends on:

    window (convolution, pooling)    field' = field + (extent - 1) stride      stride' = stride x the window's stride
    deconvolution                    field' = field + (ceil(extent / s) - 1) stride      stride' = stride / s

`stride` is the distance in input pixels of two neighbours of the blob, `offset` the pixel on which the field of its
first value is centred. Where streams are joined the field covers them all. Behind an inner product or a global pooling
every value sees the whole image: the field is None. All numbers are exact fractions.
"""

import argparse
import collections
import importlib
import math
import sys
from fractions import Fraction

from netspec import caffe_pb2, geometry, graph, recipes, text
from netspec.coord_map import PASS_THROUGH_LAYERS
from netspec.errors import Error, UnknownName, nearest, run_door
from netspec.options import add_allow_unknown, dropped_by, named_shapes, say_dropped

CHANNELS = {"data": 3, "color": 3, "hha": 3, "depth": 1, "label": 1, "sem": 1, "geo": 1}  # of the FCN data layers' tops
SIZE = (500, 500)  # an image of PASCAL VOC, unless --input says otherwise
LOCAL_LAYERS = PASS_THROUGH_LAYERS | {"ArgMax", "Slice"}
EXAMPLES = """examples:
  python -m netspec.measure models/fcn8s/train.prototxt
  python -m netspec.measure models/fcn8s/deploy.prototxt --input data=1,3,375,500
  python -m netspec.measure models/fcn32s/train.prototxt --blob score_fr"""

Row = collections.namedtuple("Row", "layer type tops shapes params learned macs bytes field stride offset rates")
Row.__doc__ = """One layer.

tops, shapes : names and shapes of its tops (lists)
params, learned : count of its own parameters (shared ones count where they are first), those with a rate not 0
macs : multiply-accumulates of one forward pass
bytes : of the tops' data as float32; 0 for a layer in place
field, stride, offset : of its tops, a tuple over the spatial axes, or None
rates : the lr_mult of each of its parameters
"""


class Reach:
    """The pixels that the values of a blob see along one axis: value o sees lo + o stride to hi + o stride."""

    def __init__(self, lo=0, hi=0, stride=1):
        self.lo, self.hi, self.stride = Fraction(lo), Fraction(hi), Fraction(stride)

    @property
    def field(self):
        """Return the number of pixels one value sees."""
        return self.hi - self.lo + 1

    @property
    def offset(self):
        """Return the pixel on which the field of value 0 is centred."""
        return (self.lo + self.hi) / 2

    def window(self, kernel, stride, pad, dilation):
        """Return the reach after a convolution or pooling."""
        first = self.lo - pad * self.stride
        return Reach(first, first + self.hi - self.lo + dilation * (kernel - 1) * self.stride, self.stride * stride)

    def upsampled(self, kernel, stride, pad, dilation):
        """Return the reach after a deconvolution; between its outputs the field varies by one, this is the largest."""
        extent = dilation * (kernel - 1) + 1
        seen = -(-extent // stride)
        centre = (pad - Fraction(extent - 1, 2)) / stride
        return Reach(self.lo + (centre - Fraction(seen - 1, 2)) * self.stride,
                     self.hi + (centre + Fraction(seen - 1, 2)) * self.stride, self.stride / stride)

    def shifted(self, offset):
        """Return the reach after a crop."""
        return Reach(self.lo + offset * self.stride, self.hi + offset * self.stride, self.stride)

    def joined(self, other):
        """Return the reach that covers both, None when their strides differ."""
        if self.stride != other.stride:
            return None
        return Reach(min(self.lo, other.lo), max(self.hi, other.hi), self.stride)


def measure(net, inputs=None, phase=caffe_pb2.TEST, level=0, stages=(), places=None):
    """Return a list of `Row`, one for each layer of a NetParameter in the given state.

    Parameters
    ----------
    net : NetParameter
        Upgraded to today's fields.
    inputs : dict
        Blob name -> shape, for the tops of layers whose shapes only the data tells, and instead of what an Input layer
        says. When one top of a data layer is given, the others get its height and width.
    phase, level, stages :
        The state that include and exclude rules are held against.
    places : dict
        Layer name -> "file:line" for errors.
    """
    inputs = {name: check_shape(name, shape) for name, shape in (inputs or {}).items()}
    state = caffe_pb2.NetState(phase=phase, level=level, stage=stages)
    net = graph.filter_net(net, state, places)
    known = {top for layer in net.layer for top in layer.top}
    for name in inputs:
        if name not in known:
            raise UnknownName(f"no blob '{name}' to give a shape{nearest(name, known)}")
    rows, shapes, reaches, counted = [], {}, {}, set()
    for param in net.layer:
        layer = _layer(param, phase, places)
        missing = [name for name in param.bottom if name not in shapes]
        if missing:
            raise Error(f"layer '{param.name}' ({param.type}): bottom '{missing[0]}' is made by no layer before it"
                        f"{nearest(missing[0], shapes)}")
        bottoms = [shapes[name] for name in param.bottom]
        if layer and not (layer.auto_top_blobs and not param.top):
            layer.check_counts(len(param.bottom), len(param.top))
        tops = _top_shapes(layer, param, bottoms, inputs)
        if bottoms:
            reach = _reach(param, bottoms, [reaches[name] for name in param.bottom])
        else:
            reach = (Reach(),) * (len(tops[0]) - 2) if tops and len(tops[0]) > 2 else None
        params, learned, rates = 0, 0, []
        for number, shape in enumerate(layer.param_shapes(bottoms) if layer else []):
            spec = param.param[number] if number < len(param.param) else caffe_pb2.ParamSpec()
            rates.append(spec.lr_mult)
            if not spec.name or spec.name not in counted:
                counted.add(spec.name)
                params += math.prod(shape)
                learned += math.prod(shape) if spec.lr_mult != 0 else 0
        new = [shape for name, shape in zip(param.top, tops) if name not in param.bottom]
        rows.append(Row(
            param.name, param.type, list(param.top), tops[:len(param.top)], params, learned,
            layer.macs(bottoms, tops) if layer else 0, 4 * sum(math.prod(shape) for shape in new), *(
                (None, None, None) if reach is None else
                (tuple(r.field for r in reach), tuple(r.stride for r in reach), tuple(r.offset for r in reach))), tuple(rates)))
        for name, shape in zip(param.top, tops):
            shapes[name], reaches[name] = tuple(shape), reach
    return rows


def check_shape(name, shape):
    """Return `shape` as a tuple of positive ints that a blob can have, or refuse it."""
    shape = tuple(int(size) for size in shape)
    if any(size < 1 for size in shape) or math.prod(shape) > 2**31 - 1:
        raise Error(f"shape {shape} of '{name}': every size must be at least 1 and the product below 2147483648")
    return shape


def _layer(param, phase, places):
    """Return the engine's layer, which says its shapes; None for a Python layer, whose code is not run here."""
    if param.type == "Python":
        return None
    # Looked up at run time: netspec stands below the layers and imports none of them.
    catalogue = importlib.import_module("layers.core.catalogue")
    where = f" at {places[param.name]}" if places and param.name in places else ""
    try:
        layer = catalogue.find(param.type)(param, phase)
    except UnknownName as error:
        raise UnknownName(f"layer '{param.name}'{where}: {error}") from None
    if where:
        layer.where = places[param.name]
    return layer


def _top_shapes(layer, param, bottoms, inputs):
    """Return the tops' shapes: as given, as the layer says, or for a data layer as its tops are named."""
    if all(name in inputs for name in param.top) and param.top and not param.bottom:
        return [inputs[name] for name in param.top]
    if layer and not any(name in inputs for name in param.top):
        try:
            return [tuple(shape) for shape in layer.top_shapes(bottoms)]
        except NotImplementedError:
            pass
        except Error:
            if param.bottom:
                raise  # a data layer may fail for want of its files; then its shapes must be given
    sizes = next((inputs[name][2:] for name in param.top if name in inputs), SIZE)
    shapes = []
    for number, name in enumerate(param.top):
        channels = CHANNELS.get(name) or {0: 3, 1: 1}.get(number if len(param.top) == 2 else None)
        if name in inputs:
            shapes.append(inputs[name])
        elif channels and not param.bottom:
            shapes.append((1, channels, *sizes))
        else:
            raise Error(f"the shape of '{name}', a top of '{param.name}' ({param.type}), is known only from the data; "
                        f"give it: --input {name}=1,3,500,500")
    return shapes


def _reach(param, bottoms, reaches):
    """Return the Reach along each spatial axis of the layer's tops, or None."""
    reach, shape = reaches[0], bottoms[0]
    if reach is None:
        return None
    if param.type in ("Convolution", "DepthwiseConvolution", "Deconvolution"):
        axis = geometry.canonical_axis(param.convolution_param.axis, len(shape))
        if len(shape) - axis - 1 != len(reach):
            return None
        step = Reach.upsampled if param.type == "Deconvolution" else Reach.window
        windows = zip(*geometry.kernel_stride_pad_dilation(param.convolution_param, len(reach)))
        return tuple(step(one, *window) for one, window in zip(reach, windows))
    if param.type == "Pooling":
        if param.pooling_param.global_pooling or len(shape) != 4:
            return None
        windows = zip(*geometry.pool_kernel_stride_pad(param.pooling_param, *shape[2:]))
        return tuple(one.window(*window, 1) for one, window in zip(reach, windows))
    if param.type == "Crop":
        axis = geometry.canonical_axis(param.crop_param.axis, len(shape))
        given = list(param.crop_param.offset) or [0]
        offsets = given * (len(shape) - axis) if len(given) == 1 else given
        offsets = ([0] * axis + offsets)[2:]
        return tuple(one.shifted(offset) for one, offset in zip(reach, offsets))
    if param.type == "LRN" and param.lrn_param.norm_region == caffe_pb2.LRNParameter.WITHIN_CHANNEL:
        size = param.lrn_param.local_size
        return tuple(one.window(size, 1, (size - 1) // 2, 1) for one in reach)
    along = {"Concat": param.concat_param.axis, "Slice": param.slice_param.axis, "Softmax": param.softmax_param.axis,
             "ArgMax": param.argmax_param.axis if param.argmax_param.HasField("axis") else 1}.get(param.type, 1)
    if param.type not in LOCAL_LAYERS or along != 1 or param.type == "MVN":
        return None
    for other in reaches[1:] if param.type in ("Concat", "Eltwise") else []:
        if other is None or None in (reach := [a.joined(b) for a, b in zip(reach, other)]):
            return None
    return tuple(reach)


def table(rows):
    """Return the rows as lines of text, with a line of totals."""
    lines = [("layer", "type", "top", "shape", "parameters", "MACs", "field", "stride", "offset")]
    for row in rows:
        for number, (top, shape) in enumerate(zip(row.tops, row.shapes) if row.tops else [("", ())]):
            first = number == 0
            lines.append((
                row.layer if first else "", row.type if first else "", top, "x".join(map(str, shape)) or "1",
                f"{row.params:,}" if first and row.params else "", f"{row.macs:,}" if first and row.macs else "",
                numbers(row.field), numbers(row.stride), numbers(row.offset)))
    wide = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    right = {4, 5, 6, 7, 8}
    out = []
    for line in lines:
        cells = [f"{cell:>{w}}" if i in right else f"{cell:{w}}" for i, (cell, w) in enumerate(zip(line, wide))]
        out.append("  ".join(cells).rstrip())
    params, learned = sum(row.params for row in rows), sum(row.learned for row in rows)
    out.append(f"parameters {params:,} ({learned:,} learned, {params - learned:,} fixed), {4 * params / 2**20:,.1f} "
               f"MiB; MACs {sum(row.macs for row in rows):,}; blobs {sum(row.bytes for row in rows) / 2**20:,.1f} MiB")
    return out


def numbers(values):
    """Return fractions as text, one when all axes agree: ``404``, ``0.5``, ``1/3``, ``3x5``, or ``-``."""
    if values is None:
        return "-"
    shown = [str(value) if value.denominator not in (2, 4, 8, 16, 32, 64) else f"{float(value):g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else "x".join(shown)


def main(argv=None):
    """Print what a net measures."""
    parser = argparse.ArgumentParser(
        prog="python -m netspec.measure", description="Shapes, parameters, MACs and receptive fields of a net.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", metavar="NET", help="prototxt, its folder, or the name of a model")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE",
                        help="shape of a data layer's top, such as data=1,3,500,500; may be repeated")
    parser.add_argument("--blob", metavar="NAME", help="only this blob")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], default="TEST", help="for include rules (default: TEST)")
    add_allow_unknown(parser)
    options = parser.parse_args(argv)
    path = recipes.find_net(options.net, ("deploy", "val", "test", "train", "trainval"))
    dropped = dropped_by(options)
    net = text.read_net(path, dropped)
    say_dropped(dropped)
    rows = measure(net, named_shapes(options.input), getattr(caffe_pb2, options.phase),
                   places=text.layer_places(path))
    if options.blob is None:
        print("\n".join(table(rows)))
        return 0
    shapes = {name: (row, shape) for row in rows for name, shape in zip(row.tops, row.shapes)}
    if options.blob not in shapes:
        raise UnknownName(f"no blob '{options.blob}'{nearest(options.blob, shapes)}; blobs: {', '.join(shapes)}")
    row, shape = shapes[options.blob]
    below = rows[:1 + next(number for number, one in enumerate(rows) if one is row)]
    for what, value in (("blob", options.blob), ("shape", "x".join(map(str, shape))), ("field", numbers(row.field)),
                        ("stride", numbers(row.stride)), ("offset", numbers(row.offset)),
                        ("parameters up to it", f"{sum(one.params for one in below):,}"),
                        ("MACs up to it", f"{sum(one.macs for one in below):,}")):
        print(f"{what}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(run_door(main))
