"""Nets written in Python, as pycaffe's NetSpec does: ``n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3)``.

    n = NetSpec()
    n.data, n.label = L.Python(module="voc_layers", layer="VOCSegDataLayer", param_str="{...}", ntop=2)
    n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3, param=[dict(lr_mult=1), dict(lr_mult=2)])
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.loss = L.SoftmaxWithLoss(n.pool1, n.label, loss_param=dict(ignore_label=255))
    message = n.to_proto()

Any name after ``L.`` is a layer type; whether the type exists is the engine's question. A keyword is looked for in the
type's own message (`convolution_param` for Convolution), then in LayerParameter (`name`, `param`, `include`,
`loss_weight`); messages are dicts, repeated fields lists, enums numbers or names. `ntop` is the number of tops (0: the
layer itself is returned), `in_place` gives the tops the bottoms' names. Tops without a name are called by their type
and a number: ``ReLU1``. Layers come out in the order of their names, each after the layers it needs.

Unlike pycaffe a misspelt field is refused with the nearest good one; the errors are still `AttributeError`,
`KeyError` and `TypeError` where pycaffe's are.
"""

import collections
import operator

from netspec import caffe_pb2
from netspec.errors import Error, nearest


class UnknownField(Error, AttributeError):
    """A keyword that is no field of the message it is given to."""


class UnknownTop(Error, AttributeError, KeyError):
    """A name that was not assigned in this NetSpec."""

    def __str__(self):
        return str(self.args[0])


class WrongValue(Error, TypeError):
    """A value that does not fit its field, or a bottom that is not a top."""


def param_name_dict():
    """Return {layer type: prefix of its field in LayerParameter}, such as ``{"Convolution": "convolution"}``.

    The type is the name of the field's message without "Parameter". So a Deconvolution, whose message is named
    otherwise, is given ``convolution_param=dict(...)``.
    """
    fields = [field for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")]
    return {field.message_type.name.removesuffix("Parameter"): field.name.removesuffix("_param") for field in fields}


_PREFIXES = param_name_dict()


def to_proto(*tops):
    """Return a NetParameter of all the layers that `tops` need; tops without a name are numbered."""
    return _net(tops, {})


def assign_proto(message, name, value):
    """Set the field `name` of `message` to a Python `value`: a dict for a message, a list for a repeated field."""
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        names = [f.name for f in message.DESCRIPTOR.fields]
        raise UnknownField(f"unknown field '{name}' in {message.DESCRIPTOR.name}{nearest(name, names)}")
    if _is_repeated(field):
        values = value if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) else [value]
        for item in values:
            if field.message_type:
                _assign_dict(getattr(message, name).add(), field, item)
            else:
                _guard(message, field, item, getattr(message, name).append)
    elif field.message_type:
        _assign_dict(getattr(message, name), field, value)
    else:
        _guard(message, field, value, lambda converted: setattr(message, name, converted))


def _is_repeated(field):
    # protobuf 6 and later say is_repeated and warn about label.
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def _assign_dict(message, field, value):
    if isinstance(value, type(message)):
        message.CopyFrom(value)
        return
    if not isinstance(value, dict):
        raise WrongValue(f"field '{field.name}' is a {message.DESCRIPTOR.name} and takes a dict, not {value!r}")
    for key, item in value.items():
        assign_proto(message, key, item)


def _guard(message, field, value, store):
    """Convert `value` to what the scalar `field` holds and `store` it; what does not fit is refused by name."""
    where = f"{message.DESCRIPTOR.name}.{field.name}"
    try:
        if field.enum_type:
            value = _enum_number(field, value)
        elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
            if isinstance(value, (str, bytes)):
                raise TypeError
            value = float(value)
        elif field.cpp_type == field.CPPTYPE_BOOL:
            if value not in (0, 1):
                raise TypeError
            value = bool(value)
        elif field.cpp_type != field.CPPTYPE_STRING:
            value = operator.index(value)
        store(value)
    except WrongValue:
        raise
    except (TypeError, ValueError) as error:
        kind = {field.CPPTYPE_STRING: "a string", field.CPPTYPE_BOOL: "True or False"}.get(
            field.cpp_type, "a number" if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE) else
            "a whole number in its range")
        raise WrongValue(f"{where} takes {kind}, not {value!r}") from error


def _enum_number(field, value):
    names = field.enum_type.values_by_name
    if isinstance(value, str):
        if value not in names:
            raise WrongValue(f"'{value}' is no value of {field.enum_type.name}{nearest(value, names)} "
                             f"(one of {', '.join(names)})")
        return names[value].number
    number = operator.index(value)
    if number not in field.enum_type.values_by_number:
        good = ", ".join(f"{n}={v.number}" for n, v in names.items())
        raise WrongValue(f"{number} is no value of {field.enum_type.name} ({good})")
    return number


class Top:
    """One output of a layer; what ``L.Type(...)`` returns and what the next layer takes as a bottom."""

    def __init__(self, fn, n):
        self.fn = fn
        self.n = n

    def to_proto(self):
        """Return a NetParameter of the layers that this top needs."""
        return to_proto(self)

    def __repr__(self):
        return f"top {self.n} of {self.fn!r}"


class Function:
    """One layer: its type, bottoms (`inputs`), fields (`params`) and tops."""

    def __init__(self, type_name, inputs, params):
        self.type_name = type_name
        for index, bottom in enumerate(inputs):
            if not isinstance(bottom, Top):
                cure = "; unpack the tops of a layer with several" if isinstance(bottom, (tuple, list)) else ""
                raise WrongValue(f"{type_name} input {index} is not a Top (type is {type(bottom)}){cure}")
        self.inputs = inputs
        params = dict(params)
        self.ntop = params.pop("ntop", 1)
        self.in_place = params.pop("in_place", False)
        self.params = params
        if self.in_place and self.ntop > len(inputs):
            raise WrongValue(f"{type_name}: in_place with {self.ntop} tops needs as many bottoms, not {len(inputs)}")
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def __repr__(self):
        fields = dict(self.params)
        for key in [key for key in fields if key.endswith("_param") and isinstance(fields[key], dict)]:
            fields.update(fields.pop(key))
        shown = [key for key in ("kernel_size", "stride", "pad", "dilation", "offset") if key in fields]
        return f"{self.type_name}({', '.join(f'{key}={fields[key]}' for key in shown)})"

    def to_message(self, name, bottoms, tops):
        """Return the LayerParameter; `name`, `bottoms` and `tops` are strings, the fields come from `params`."""
        layer = caffe_pb2.LayerParameter(name=name, type=self.type_name, bottom=bottoms, top=tops)
        prefix = _PREFIXES.get(self.type_name)
        own = getattr(layer, f"{prefix}_param") if prefix else None
        try:
            for key, value in self.params.items():
                if own is not None and not key.endswith("param") and key in own.DESCRIPTOR.fields_by_name:
                    assign_proto(own, key, value)
                elif key in layer.DESCRIPTOR.fields_by_name:
                    assign_proto(layer, key, value)
                else:
                    self._refuse(key, own)
        except Error as error:
            raise type(error)(f"layer '{layer.name}' ({self.type_name}): {error}") from None
        return layer

    def _refuse(self, key, own):
        names = [field.name for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields]
        if own is not None:
            where = own.DESCRIPTOR.name
            names = [field.name for field in own.DESCRIPTOR.fields] + names
        else:
            where = "LayerParameter"
            holders = [name for prefix, name in ((p, f"{p}_param") for p in _PREFIXES.values())
                       if key in caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[name].message_type.fields_by_name]
            if holders:
                holder = "convolution_param" if "convolution_param" in holders else holders[0]
                raise UnknownField(f"unknown field '{key}' in LayerParameter; give a {self.type_name} its message by "
                                   f"name, such as {holder}=dict({key}=...)")
        raise UnknownField(f"unknown field '{key}' in {where}{nearest(key, names)}")


def _net(values, names):
    """Lay the layers of `values` (tops or functions) in order, bottoms first; `names` says what they are called."""
    layers = {}  # Function -> LayerParameter
    counts = collections.Counter()
    names = dict(names)

    def name_of(thing, type_name):
        if thing not in names:
            counts[type_name] += 1
            names[thing] = f"{type_name}{counts[type_name]}"
        return names[thing]

    def lay(fn):
        bottoms = [layers[bottom.fn].top[bottom.n] for bottom in fn.inputs]
        if fn.in_place:
            tops = bottoms
        else:
            tops = [name_of(top, fn.type_name) for top in fn.tops]
        if fn not in names and fn.tops:
            names[fn] = name_of(fn.tops[0], fn.type_name)
        layers[fn] = fn.to_message(name_of(fn, fn.type_name), bottoms, tops)

    for value in values:
        # Depth first without recursion: a net may be deeper than Python's stack.
        stack = [value.fn if isinstance(value, Top) else value]
        while stack:
            fn = stack[-1]
            missing = [bottom.fn for bottom in fn.inputs if bottom.fn not in layers]
            if fn in layers:
                stack.pop()
            elif missing:
                stack.append(missing[0])
            else:
                lay(stack.pop())
    net = caffe_pb2.NetParameter()
    net.layer.extend(layers.values())
    return net


class NetSpec:
    """Names for tops, in the order they were given; ``n.x`` and ``n["x"]`` are the same."""

    def __init__(self):
        super().__setattr__("tops", {})

    def __setattr__(self, name, value):
        if not isinstance(value, (Top, Function)):
            cure = f"; give {len(value)} names for {len(value)} tops" if isinstance(value, (tuple, list)) else ""
            raise WrongValue(f"'{name}' must be a top such as L.ReLU(...) returns, not {type(value)}{cure}")
        self.tops[name] = value

    def __getattr__(self, name):
        tops = self.__dict__.get("tops", {})
        if name in tops:
            return tops[name]
        raise UnknownTop(f"no top is named '{name}'{nearest(name, tops)}")

    def __delattr__(self, name):
        self[name]  # an unknown name is refused as when it is read
        del self.tops[name]

    __setitem__ = __setattr__
    __getitem__ = __getattr__
    __delitem__ = __delattr__

    def __contains__(self, name):
        return name in self.tops

    def keys(self):
        """Return the names in order."""
        return list(self.tops)

    def vals(self):
        """Return the tops in the order of their names."""
        return list(self.tops.values())

    def update(self, other):
        """Take the names and tops of another NetSpec or dict."""
        for name, value in (other.tops if isinstance(other, NetSpec) else other).items():
            self[name] = value

    def to_proto(self):
        """Return the NetParameter; the layers are named as their first tops."""
        return _net(self.tops.values(), {top: name for name, top in self.tops.items()})


class Layers:
    """``L.Type(bottom, ..., field=value)`` makes a layer: returns its top, several tops, or with ntop=0 itself."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def layer(*bottoms, **params):
            fn = Function(name, bottoms, params)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        layer.__name__ = name
        return layer


class Parameters:
    """``P.Pooling.MAX`` is the number of an enum value in PoolingParameter."""

    def __getattr__(self, name):
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if name.startswith("__") or message is None:
            names = [m.removesuffix("Parameter") for m in dir(caffe_pb2) if m.endswith("Parameter")]
            raise UnknownField(f"no message is named '{name}Parameter'{nearest(name, names)}")
        return _Values(message)


class _Values:
    def __init__(self, message):
        self._message = message

    def __getattr__(self, name):
        try:
            return getattr(self._message, name)
        except AttributeError:
            descriptor = self._message.DESCRIPTOR
            values = [value for enum in descriptor.enum_types for value in enum.values_by_name]
            raise UnknownField(f"{descriptor.name} has no value '{name}'{nearest(name, values)}") from None


layers = Layers()
params = Parameters()
