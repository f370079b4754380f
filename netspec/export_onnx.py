"""A net and its weights -> an ONNX model that computes the same in the TEST phase.

    python -m netspec.export_onnx models/fcn8s/deploy.prototxt fcn8s.caffemodel fcn8s.onnx --shape data=1,3,500,500

Every layer becomes the ONNX operators with the same numbers (opset 17); what ONNX rounds or divides differently is written
out: Caffe's poolings round their sizes up and count some of the padding, its crops take their size from a second blob. Blobs
keep their names; a blob that is computed in place carries its name only after its last layer. Dropout is nothing in TEST.

With `--free` the height and width of the inputs stay open: crops then look at the shape of their second blob when they
run. Layers that only work for one size (InnerProduct, Reshape) fix what lies above them.

The package onnx is needed here alone: `pip install onnx`. Operators: onnx.ai/onnx/operators, opset 17.
"""

import argparse
import math
import os
import sys

import numpy as np

from netspec import caffe_pb2, files, geometry, graph, measure, recipes, text, weights
from netspec.errors import Error, UnknownName, nearest, run_door
from netspec.options import add_allow_unknown, dropped_by, named_shapes, say_dropped

OPSET = 17
IR_VERSION = 8  # of the model file, the one that opset 17 came with
LARGEST = 2**31 - 1  # bytes of a protobuf message
EXAMPLES = """examples:
  python -m netspec.export_onnx models/fcn8s/deploy.prototxt fcn8s.caffemodel fcn8s.onnx --shape data=1,3,500,500
  python -m netspec.export_onnx fcn_squeezenet squeezenet.caffemodel squeezenet.onnx --free"""


def to_onnx(net, arrays, shapes=None, outputs=None, free=False):
    """Return the `onnx.ModelProto` of a net in the TEST phase.

    Parameters
    ----------
    net : NetParameter
        Upgraded to today's fields.
    arrays : dict
        Layer name -> list of its parameters (float32 arrays, in Caffe's order); layers without any may be left out.
    shapes : dict, optional
        Blob name -> shape, for the inputs whose shape is not the one that their Input layer says.
    outputs : list of str, optional
        Blobs to give out; by default those that no layer reads.
    free : bool
        Whether height and width of inputs of four axes stay open.

    Raises `errors.Error` for a layer type or a setting that has no equal in ONNX, and without the package onnx.
    """
    onnx = _onnx()
    net = graph.filter_net(net, caffe_pb2.NetState(phase=caffe_pb2.TEST))
    rows = measure.measure(net, shapes)
    export = Exporter(onnx, net, arrays, free)
    for param, row in zip(net.layer, rows):
        export.add(param, row.shapes)
    return export.model(outputs)


class Exporter:
    """The graph while it grows.

    Attributes
    ----------
    shapes : dict
        Blob name -> its shape, a tuple.
    values : dict
        Blob name -> the ONNX value that holds it now; a layer in place puts another one there.
    """

    def __init__(self, onnx, net, arrays, free):
        self.onnx, self.net, self.arrays, self.free = onnx, net, arrays, free
        self.shapes, self.values = {}, {}
        self.nodes, self.constants, self.inputs, self.read = [], {}, [], set()

    def add(self, param, tops):
        """Add a layer whose tops have the shapes `tops`."""
        self.param, self.bottoms = param, [self.shapes[name] for name in param.bottom]
        self.read.update(param.bottom)
        if not param.bottom:
            for name, shape in zip(param.top, tops):
                self._add_input(name, shape)
            return
        if param.type not in OPERATORS:
            self.fail(f"has no equal in ONNX here; these have: Input, {', '.join(sorted(OPERATORS))}")
        self.tops = tops
        sources = [self.values[name] for name in param.bottom]
        for name, shape, value in zip(param.top, tops, OPERATORS[param.type](self, param, *sources)):
            self.shapes[name], self.values[name] = tuple(shape), value

    def fail(self, what):
        """Raise an `Error` about the layer that is being added."""
        raise Error(f"layer '{self.param.name}' ({self.param.type}) {what}")

    def _add_input(self, name, shape):
        self.shapes[name], self.values[name] = tuple(shape), name
        self.inputs.append(self._described(name, name))

    def _described(self, name, blob):
        """Return the ValueInfo of value `name` that holds a blob; open sizes have names and no numbers."""
        shape = list(self.shapes[blob])
        if self.free and len(shape) == 4:
            shape[2:] = f"{blob}.height", f"{blob}.width"
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)

    # --- what the operators below are written with ----------------------------------------------------------------------

    def node(self, kind, *sources, outputs=1, **attributes):
        """Add an operator; return the name of its value (a list of `outputs` names where there are several)."""
        label = f"{self.param.name}/{kind}/{len(self.nodes)}"
        names = [f"{label}/{number}" for number in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(sources), names, name=label, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array, name=None):
        """Return the name of a constant: float32 for floats, int64 for whole numbers."""
        array = np.asarray(array)
        array = np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else np.int64)
        name = name or f"{self.param.name}/constant/{len(self.constants)}"
        self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def parameter(self, number, *shape):
        """Return parameter `number` of the layer as a constant of `shape`; its absence or another count is refused."""
        own = self.arrays.get(self.param.name, ())
        if number >= len(own):
            self.fail(f"needs parameter {number}, the weights hold {len(own)} for it{nearest(self.param.name, self.arrays)}")
        if own[number].size != math.prod(shape):
            self.fail(f"needs a parameter {number} of shape {list(shape)}, the weights hold {list(own[number].shape)}")
        values = np.reshape(own[number], shape).astype(np.float32, copy=False)
        return self.constant(values, f"{self.param.name}/parameter/{number}")

    def axis(self, axis, number=0):
        """Return an axis of bottom `number` counted from the front."""
        return geometry.canonical_axis(axis, len(self.bottoms[number]), fail=self.fail)

    def needs_fixed_size(self):
        """Refuse a layer whose numbers depend on a size that is left open."""
        if self.free:
            self.fail(f"depends on the size of its bottom {list(self.bottoms[0])}; export it for one size (without --free)")

    # --- the model ---------------------------------------------------------------------------------------------------------

    def model(self, outputs=None):
        """Return the checked ModelProto."""
        helper = self.onnx.helper
        outputs = outputs or [name for name in self.shapes if name not in self.read or self._written_after_reading(name)]
        for name in outputs:
            if name not in self.values:
                raise UnknownName(f"no blob '{name}' to give out{nearest(name, self.values)}")
        self._name_blobs(outputs)
        given = [self._described(self.values[name], name) for name in outputs]
        body = helper.make_graph(self.nodes, self.net.name or "net", self.inputs, given, list(self.constants.values()))
        model = helper.make_model(body, producer_name="deepjet", ir_version=IR_VERSION,
                                  opset_imports=[helper.make_opsetid("", OPSET)])
        if model.ByteSize() < LARGEST:
            self.onnx.checker.check_model(model)
        return model

    def _name_blobs(self, outputs):
        """Give each blob's last value the blob's name; an output whose value has another blob's name becomes a copy."""
        taken = {value.name for value in self.inputs}
        names = {}
        for blob, value in self.values.items():
            if value not in names and value not in taken and blob not in taken:
                names[value] = blob
        for node in self.nodes:
            for values in (node.input, node.output):
                values[:] = [names.get(value, value) for value in values]
        for blob, value in self.values.items():
            self.values[blob] = names.get(value, value)
            if blob in outputs and self.values[blob] != blob and blob not in taken:
                self.nodes.append(self.onnx.helper.make_node("Identity", [self.values[blob]], [blob], name=f"{blob}/copy"))
                self.values[blob] = blob

    def _written_after_reading(self, name):
        # A blob that its last layer changes in place is read by that layer and is an output all the same.
        users = [param for param in self.net.layer if name in param.bottom or name in param.top]
        return name in users[-1].top


def _onnx():
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError:
        raise Error("exporting needs the package onnx: pip install onnx") from None
    return onnx


# --- windows ---------------------------------------------------------------------------------------------------------------


def _window(export, param):
    """Return (attributes of a (de)convolution, number of outputs, channels in, group, kernel)."""
    own, shape = param.convolution_param, export.bottoms[0]
    if export.axis(own.axis) != 1:
        export.fail(f"has axis {own.axis}; ONNX knows channels along axis 1 only")
    kernel, stride, pad, dilation = geometry.kernel_stride_pad_dilation(own, len(shape) - 2, export.fail)
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": pad + pad, "dilations": dilation, "group": own.group}
    return attributes, own.num_output, shape[1], own.group, kernel


def _convolution(export, param, *sources):
    attributes, outputs, channels, group, kernel = _window(export, param)
    operands = [export.parameter(0, outputs, channels // group, *kernel)]
    if param.convolution_param.bias_term:
        operands.append(export.parameter(1, outputs))
    return [export.node("Conv", source, *operands, **attributes) for source in sources]


def _deconvolution(export, param, *sources):
    attributes, outputs, channels, group, kernel = _window(export, param)
    operands = [export.parameter(0, channels, outputs // group, *kernel)]
    if param.convolution_param.bias_term:
        operands.append(export.parameter(1, outputs))
    return [export.node("ConvTranspose", source, *operands, **attributes) for source in sources]


def _pooling(export, param, source):
    own, shape = param.pooling_param, export.bottoms[0]
    if len(export.tops) > 1:
        export.fail("has a second top (the winners' places), which has no equal in ONNX")
    if own.pool == own.STOCHASTIC:
        export.fail("draws its values; only MAX and AVE have an equal in ONNX")
    if own.global_pooling:
        return [export.node("GlobalMaxPool" if own.pool == own.MAX else "GlobalAveragePool", source)]
    kernel, stride, pad = geometry.pool_kernel_stride_pad(own, *shape[2:], export.fail)
    ceil = own.round_mode == own.CEIL
    attributes = {"kernel_shape": kernel, "strides": stride}
    if export.free:
        attributes.update(_free_pads(export, kernel, stride, pad, ceil, own.pool == own.AVE))
        more = 0
    else:
        # Caffe's size in plain numbers: what the last window reaches beyond the image is padding at the end.
        reach = [(out - 1) * s + k - size - p for out, s, k, size, p in zip(export.tops[0][2:], stride, kernel, shape[2:], pad)]
        end = tuple(max(0, more) for more in reach)
        if any(e >= k for e, k in zip(end, kernel)):
            export.fail(f"has windows wholly outside its bottom {list(shape)}; ONNX has none")
        more = max(e - p for e, p in zip(end, pad))
        attributes["pads"] = pad + end
    if own.pool == own.MAX:
        return [export.node("MaxPool", source, **attributes)]
    if max(pad) == 0:
        return [export.node("AveragePool", source, count_include_pad=0, **attributes)]
    if more <= 0:
        return [export.node("AveragePool", source, count_include_pad=1, **attributes)]
    # Of the padding one pad is counted by Caffe and what is beyond is not: pad by one pad first, then count what is there.
    padded = export.node("Pad", source, export.constant([0, 0, *pad, 0, 0, *pad]))
    attributes["pads"] = (0, 0, *(max(0, e - p) for e, p in zip(end, pad)))
    return [export.node("AveragePool", padded, count_include_pad=0, **attributes)]


def _free_pads(export, kernel, stride, pad, ceil, average):
    """Return attributes that are exact for every size, or refuse."""
    rounds = ceil and max(stride) > 1
    if rounds and max(pad) > 0 and (average or any(p + s - 1 >= k for k, s, p in zip(kernel, stride, pad))):
        export.fail(f"pads by {max(pad)} and rounds up: what ONNX does then depends on the size; export it for one size")
    if rounds and any(s > k for s, k in zip(stride, kernel)):
        export.fail("has a stride above its kernel and rounds up: export it for one size")
    return {"pads": pad + pad, "ceil_mode": int(rounds)}


def _lrn(export, param, source):
    own = param.lrn_param
    if own.norm_region == own.ACROSS_CHANNELS:
        return [export.node("LRN", source, size=own.local_size, alpha=own.alpha, beta=own.beta, bias=own.k)]
    size, half = own.local_size, own.local_size // 2
    squares = export.node("Mul", source, source)
    mean = export.node("AveragePool", squares, kernel_shape=(size, size), pads=(half,) * 4, count_include_pad=1)
    base = export.node("Add", export.node("Mul", mean, export.constant(np.float32(own.alpha))), export.constant(np.float32(1)))
    return [export.node("Div", source, export.node("Pow", base, export.constant(np.float32(own.beta))))]


# --- products and shapes -----------------------------------------------------------------------------------------------------


def _inner_product(export, param, source):
    own, shape = param.inner_product_param, export.bottoms[0]
    axis = export.axis(own.axis)
    count = math.prod(shape[axis:])
    weight = export.parameter(0, *((count, own.num_output) if own.transpose else (own.num_output, count)))
    operands = [weight, export.parameter(1, own.num_output)] if own.bias_term else [weight]
    product = export.node("Gemm", export.node("Flatten", source, axis=axis), *operands, transB=int(not own.transpose))
    if axis != 1:
        product = export.node("Reshape", product, export.constant(export.tops[0]))
    return [product]


def _reshape(export, param, source):
    own = getattr(param, "flatten_param" if param.type == "Flatten" else "reshape_param")
    shape = export.bottoms[0]
    if param.type == "Flatten" and export.axis(own.axis) == 1 and export.axis(own.end_axis) == len(shape) - 1:
        return [export.node("Flatten", source, axis=1)]
    export.needs_fixed_size()
    return [export.node("Reshape", source, export.constant(export.tops[0]))]


def _crop(export, param, source, reference):
    own, shape = param.crop_param, export.bottoms[0]
    axis = export.axis(own.axis)
    offsets = list(own.offset) or [0]
    offsets = np.array(offsets * (len(shape) - axis) if len(offsets) == 1 else offsets)
    axes = export.constant(np.arange(axis, len(shape)))
    if export.free:
        size = export.node("Shape", reference, start=axis)
        ends = export.node("Add", size, export.constant(offsets))
    else:
        ends = export.constant(offsets + export.bottoms[1][axis:])
    return [export.node("Slice", source, export.constant(offsets), ends, axes)]


def _concat(export, param, *sources):
    own = param.concat_param
    axis = own.concat_dim if own.HasField("concat_dim") else export.axis(own.axis)
    return [export.node("Concat", *sources, axis=axis)]


def _slice(export, param, source):
    own = param.slice_param
    axis = own.slice_dim if own.HasField("slice_dim") else export.axis(own.axis)
    lengths = export.constant([shape[axis] for shape in export.tops])
    values = export.node("Split", source, lengths, outputs=len(export.tops), axis=axis)
    return [values] if len(export.tops) == 1 else values


def _eltwise(export, param, *sources):
    own = param.eltwise_param
    if own.operation == own.MAX:
        return [export.node("Max", *sources)]
    terms = list(sources)
    if own.operation == own.SUM:
        terms = [term if factor == 1 else export.node("Mul", term, export.constant(np.float32(factor)))
                 for term, factor in zip(sources, list(own.coeff) or [1] * len(sources))]
    total = terms[0]
    for term in terms[1:]:
        total = export.node("Mul" if own.operation == own.PROD else "Add", total, term)
    return [total]


def _spread(export, own):
    """Return the shape, filled with ones, of an operand that Scale or Bias spreads over its bottom."""
    shape = export.bottoms[0]
    if len(export.bottoms) > 1:
        axis, own_shape = export.axis(own.axis), export.bottoms[1]
    else:
        axis = export.axis(own.axis) if own.num_axes else 0
        own_shape = shape[axis:] if own.num_axes == -1 else shape[axis : axis + own.num_axes]
    if len(own_shape) > 1 or (own_shape and axis > 1):
        export.needs_fixed_size()
    return (*own_shape, *[1] * (len(shape) - axis - len(own_shape)))


def _scale(export, param, source, factor=None):
    own = param.scale_param
    shape = _spread(export, own)
    number = 0 if factor else 1
    factor = export.node("Reshape", factor, export.constant(shape)) if factor else export.parameter(0, *shape)
    product = export.node("Mul", source, factor)
    return [export.node("Add", product, export.parameter(number, *shape)) if own.bias_term else product]


def _bias(export, param, source, term=None):
    shape = _spread(export, param.bias_param)
    return [export.node("Add", source, export.node("Reshape", term, export.constant(shape)) if term
                        else export.parameter(0, *shape))]


# --- value by value --------------------------------------------------------------------------------------------------------


def _relu(export, param, source):
    slope = param.relu_param.negative_slope
    return [export.node("LeakyRelu", source, alpha=slope) if slope else export.node("Relu", source)]


def _prelu(export, param, source):
    shape = export.bottoms[0]
    slopes = (1,) if param.prelu_param.channel_shared else (shape[1], *[1] * (len(shape) - 2))
    return [export.node("PRelu", source, export.parameter(0, *slopes))]


def _affine(export, source, factor, shift):
    """Return shift + factor x, without what changes nothing."""
    if factor != 1:
        source = export.node("Mul", source, export.constant(np.float32(factor)))
    return export.node("Add", source, export.constant(np.float32(shift))) if shift else source


def _power(export, param, source):
    own = param.power_param
    base = _affine(export, source, own.scale, own.shift)
    return [base if own.power == 1 else export.node("Pow", base, export.constant(np.float32(own.power)))]


def _exp(export, param, source):
    own = param.exp_param
    log = 1.0 if own.base == -1 else math.log(own.base)
    return [export.node("Exp", _affine(export, source, own.scale * log, own.shift * log))]


def _log(export, param, source):
    own = param.log_param
    value = export.node("Log", _affine(export, source, own.scale, own.shift))
    return [value if own.base == -1 else _affine(export, value, 1 / math.log(own.base), 0)]


def _clip(export, param, source):
    own = param.clip_param
    return [export.node("Clip", source, export.constant(np.float32(own.min)), export.constant(np.float32(own.max)))]


def _swish(export, param, source):
    return [export.node("Mul", source, export.node("Sigmoid", _affine(export, source, param.swish_param.beta, 0)))]


def _softmax(export, param, source):
    return [export.node("Softmax", source, axis=export.axis(param.softmax_param.axis))]


def _simple(kind):
    return lambda export, param, *sources: [export.node(kind, source) for source in sources]


def _passed_on(export, param, source):
    return [source] * max(1, len(param.top))


def _nothing(export, param, *sources):
    return []


# Caffe's type -> function(exporter, layer, values of its bottoms...) -> values of its tops.
OPERATORS = {
    "AbsVal": _simple("Abs"), "BNLL": _simple("Softplus"), "Bias": _bias, "Clip": _clip, "Concat": _concat,
    "Convolution": _convolution, "Crop": _crop, "Deconvolution": _deconvolution, "Dropout": _passed_on,
    "ELU": lambda export, param, source: [export.node("Elu", source, alpha=param.elu_param.alpha)],
    "Eltwise": _eltwise, "Exp": _exp, "Flatten": _reshape, "InnerProduct": _inner_product, "LRN": _lrn, "Log": _log,
    "PReLU": _prelu, "Pooling": _pooling, "Power": _power, "ReLU": _relu, "Reshape": _reshape, "Scale": _scale,
    "Sigmoid": _simple("Sigmoid"), "Silence": _nothing, "Slice": _slice, "Softmax": _softmax, "Split": _passed_on,
    "Swish": _swish, "TanH": _simple("Tanh"),
}


# --- the door ----------------------------------------------------------------------------------------------------------------


def main(argv=None):
    """Write an ONNX file."""
    parser = argparse.ArgumentParser(
        prog="python -m netspec.export_onnx", description="Write a net and its weights as an ONNX model.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", metavar="NET", help="prototxt, its folder, or the name of a model")
    parser.add_argument("weights", metavar="WEIGHTS", help="caffemodel or HDF5")
    parser.add_argument("out", metavar="OUT", help="the ONNX file to write")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=SHAPE",
                        help="shape of an input, such as data=1,3,375,500; may be repeated")
    parser.add_argument("--output", action="append", default=[], metavar="BLOB",
                        help="a blob to give out (default: those that no layer reads); may be repeated")
    parser.add_argument("--free", action="store_true", help="leave the inputs' height and width open")
    add_allow_unknown(parser)
    options = parser.parse_args(argv)
    onnx = _onnx()
    dropped = dropped_by(options)
    net = text.read_net(recipes.find_net(options.net, ("deploy", "val", "test")), dropped)
    say_dropped(dropped)
    with weights.read_weights(files.find(options.weights, what="weights")) as source:
        arrays = {name: [blob.data for blob in blobs if blob is not None] for name, blobs in source.layers.items()}
    model = to_onnx(net, arrays, named_shapes(options.shape, "--shape"), options.output, options.free)
    size = model.ByteSize()
    if size >= LARGEST:
        raise Error(f"the model has {size / 2**30:.1f} GiB, an ONNX file holds 2; give fewer layers or narrower ones")
    os.makedirs(os.path.dirname(os.path.abspath(options.out)), exist_ok=True)
    with files.atomic(options.out) as file:
        file.write(model.SerializeToString())
    given = ", ".join(f"{value.name} {_shape_of(value)}" for value in (*model.graph.input, *model.graph.output))
    print(f"{options.out}: {len(model.graph.node)} operators, opset {OPSET}, onnx {onnx.__version__}; {given}", file=sys.stderr)
    return 0


def _shape_of(value):
    return "x".join(dim.dim_param or str(dim.dim_value) for dim in value.type.tensor_type.shape.dim)


if __name__ == "__main__":
    sys.exit(run_door(main))
