"""A net and its weights as an ONNX graph that computes the same in the TEST phase (opset 17).

What ONNX rounds or divides differently is written out: Caffe's poolings round their sizes up and count some of the padding, its
crops take their size from a second blob. Blobs keep their names; a blob that is computed in place carries its name only after
its last layer. Dropout is nothing in TEST. With `free` the height and width of the inputs stay open: crops then look at the shape
of their second blob when they run. Layers that only work for one size (InnerProduct, Reshape) fix what lies above them.

How a layer type looks in ONNX stands in its own file: a static method ``onnx(export, param, *sources)`` that takes the
`Exporter`, the LayerParameter and the names of its bottoms' values, and returns those of its tops. Operators:
onnx.ai/onnx/operators, opset 17.
"""

import importlib
import math

import numpy as np

from netspec import caffe_pb2, geometry, graph, measure
from netspec.errors import Error, UnknownName, nearest

OPSET = 17
IR_VERSION = 8  # of the model file, the one that opset 17 came with
LARGEST = 2**31 - 1  # bytes of a protobuf message


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
    onnx = the_package()
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
        form = form_of(param.type)
        if form is None:
            self.fail(f"has no equal in ONNX here; these have: {', '.join(known())}")
        self.tops = tops
        sources = [self.values[name] for name in param.bottom]
        for name, shape, value in zip(param.top, tops, form(self, param, *sources)):
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

    # --- what layers are written with ----------------------------------------------------------------------

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

    # --- what several layers are written with -------------------------------------------------------------------------------

    def number(self, value):
        """Return the name of a float32 constant of no axes."""
        return self.constant(np.float32(value))

    def affine(self, source, factor, shift):
        """Return shift + factor x, without what changes nothing."""
        if factor != 1:
            source = self.node("Mul", source, self.number(factor))
        return self.node("Add", source, self.number(shift)) if shift else source

    def window(self):
        """Return (attributes of a (de)convolution, number of outputs, channels in, group, kernel)."""
        own, shape = self.param.convolution_param, self.bottoms[0]
        if self.axis(own.axis) != 1:
            self.fail(f"has axis {own.axis}; ONNX knows channels along axis 1 only")
        kernel, stride, pad, dilation = geometry.kernel_stride_pad_dilation(own, len(shape) - 2, self.fail)
        attributes = {"kernel_shape": kernel, "strides": stride, "pads": pad + pad, "dilations": dilation, "group": own.group}
        return attributes, own.num_output, shape[1], own.group, kernel

    def free_pads(self, kernel, stride, pad, ceil, average):
        """Return attributes of a pooling that are exact for every size, or refuse."""
        rounds = ceil and max(stride) > 1
        if rounds and max(pad) > 0 and (average or any(p + s - 1 >= k for k, s, p in zip(kernel, stride, pad))):
            self.fail(f"pads by {max(pad)} and rounds up: what ONNX does then depends on the size; export it for one size")
        if rounds and any(s > k for s, k in zip(stride, kernel)):
            self.fail("has a stride above its kernel and rounds up: export it for one size")
        return {"pads": pad + pad, "ceil_mode": int(rounds)}

    def spread(self, own):
        """Return the shape, filled with ones, of an operand that Scale or Bias spreads over its bottom."""
        shape = self.bottoms[0]
        if len(self.bottoms) > 1:
            axis, own_shape = self.axis(own.axis), self.bottoms[1]
        else:
            axis = self.axis(own.axis) if own.num_axes else 0
            own_shape = shape[axis:] if own.num_axes == -1 else shape[axis : axis + own.num_axes]
        if len(own_shape) > 1 or (own_shape and axis > 1):
            self.needs_fixed_size()
        return (*own_shape, *[1] * (len(shape) - axis - len(own_shape)))

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


def form_of(type_name):
    """Return the function (exporter, LayerParameter, values of its bottoms...) -> values of its tops of a layer type, or None."""
    # Looked up at run time: netspec stands below the layers and imports none of them.
    return getattr(_catalogue().find(type_name), "onnx", None)


def known():
    """Return the names of all layer types that have a form in ONNX."""
    return [name for name in _catalogue().types() if name == "Input" or form_of(name) is not None]


def _catalogue():
    return importlib.import_module("layers.core.catalogue")


def the_package():
    """Return the package onnx; without it, `Error` says how to get it."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError:
        raise Error("exporting needs the package onnx: pip install onnx") from None
    return onnx
