"""Fields of Caffe's forks in binary nets: the forks' numbers <-> those of our schema.

Each fork gave its new fields the next free numbers, and so did Caffe: one number means several things. A text has names, so
it needs none of this. In a binary net the layer's type tells whose field a number is (`NUMBERS`), and within bn_param and
loss_param the wire types and the company do (`_bn`, `_loss`). Where nothing tells, a remark says what was assumed.

=============  ===============  ===========================================================
number         Caffe's field    forks' fields
=============  ===============  ===========================================================
137            embed_param      PSPNet's bn_param, upsample_param of the first SegNet
143            input_param      DeepLab's interp_param
147            swish_param      SegNet's upsample_param, R-FCN's roi_pooling_param
149, 150, 154  none             norm_param, upsample_param, roi_pooling_param of various
160, 161       none             PSPNet's scale_param, bias_param
=============  ===============  ===========================================================

Source: the caffe.proto files of the forks (SegNet, caffe-segnet-cudnn5, PSPNet, DeepLab, SSD, R-FCN), as facts.
"""

import struct

from google.protobuf.message import DecodeError

from netspec import caffe_pb2
from netspec.wire import BYTES, EIGHT_BYTES, FOUR_BYTES, GROUP, GROUP_END, VARINT, header, varint

BN, PSPNET_BN, UPSAMPLE, SEGNET_UPSAMPLE = 45, 137, 1147, 147
NUMBERS = {  # layer type -> (number in our schema, numbers that forks have for the same field)
    "BN": (BN, (PSPNET_BN, 1137)),
    "Bias": (141, (161,)),
    "Interp": (163, (143, 2143)),
    "Normalize": (206, (149,)),
    "ReLU6": (100000, (2060,)),
    "ROIPooling": (8266711, (147, 150, 154)),
    "Scale": (142, (160,)),
    "Upsample": (UPSAMPLE, (SEGNET_UPSAMPLE, 137, 149, 150)),
}
SEGNET_TYPES = ("Upsample", "DenseImageData")
LAYER, TYPE, LOSS = 100, 2, 101  # numbers in NetParameter and LayerParameter


def parse(data):
    """Return (NetParameter, remarks) of a binary net; as protobuf's ``FromString`` otherwise."""
    remarks = []
    try:
        net = caffe_pb2.NetParameter.FromString(data)
    except DecodeError as refusal:
        try:
            net = caffe_pb2.NetParameter.FromString(without_strangers(data, remarks))
        except (DecodeError, IndexError):  # not a question of forks: the bytes are damaged
            raise refusal from None
    return net, remarks + mend(net)


def without_strangers(data, remarks):
    """Return a net's bytes without the layers' fields that are no messages of their kind: yet other forks have their numbers.

    `remarks` grows by a sentence for each. The bytes must be whole down to the layers' fields.
    """
    known = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_number
    parts = []
    for number, wire, value, raw in fields(data):
        if (number, wire) == (LAYER, BYTES):
            inner = list(fields(value))
            names = {at: one.decode("utf-8", "replace") for at, kind, one, _ in inner if at in (1, TYPE) and kind == BYTES}
            kept = []
            for at, kind, one, whole in inner:
                field = known.get(at)
                if kind == BYTES and field is not None and field.message_type and at >= BN and not _is_one(one, field):
                    remarks.append(f"layer '{names.get(1, '')}' ({names.get(TYPE, '')}): field {at}, {field.name} here, holds "
                                   "something else and is not read")
                else:
                    kept.append(whole)
            value = b"".join(kept)
            raw = header(LAYER, len(value)) + value
        parts.append(raw)
    return b"".join(parts)


def _is_one(data, field):
    try:
        getattr(caffe_pb2, field.message_type.name).FromString(data)
    except DecodeError:
        return False
    return True


def serialize(net):
    """Return `net` as the bytes of a binary net, with the forks' numbers."""
    if not any(layer.type in NUMBERS for layer in net.layer):
        return net.SerializeToString()
    rest = type(net)()
    rest.CopyFrom(net)
    rest.ClearField("layer")
    parts = [rest.SerializeToString()]
    for layer in net.layer:
        data = theirs(layer.SerializeToString(), layer.type)
        parts += [header(LAYER, len(data)), data]
    return b"".join(parts)


def mend(net):
    """Put the forks' fields of a net that protobuf has parsed where our schema has them; return remarks, sentences.

    The remarks say what was assumed or could not be read. Fields that nobody knows stay as protobuf keeps them.
    """
    remarks = []
    segnet = any(layer.type in SEGNET_TYPES for layer in net.layer)
    for layer in net.layer:
        if layer.type in NUMBERS or layer.HasField("loss_param"):
            data = layer.SerializePartialToString()
            said = []
            mended = ours(data, layer.type, segnet, said.append)
            remarks += [f"layer '{layer.name}' ({layer.type}): {text}" for text in said]
            if mended != data:
                layer.Clear()
                layer.MergeFromString(mended)
    return remarks


def ours(data, layer_type, segnet, remark):
    """Return the bytes of a LayerParameter with our numbers.

    Parameters
    ----------
    data : bytes
        A LayerParameter of any fork.
    layer_type : str
    segnet : bool
        Whether other layers of the net show that it is SegNet's.
    remark : callable
        Gets a sentence for each thing that was assumed or is not read.
    """
    number, others = NUMBERS.get(layer_type, (None, ()))
    parts = []
    for at, wire, value, raw in fields(data):
        if wire == BYTES and (at == number or at in others):
            value = _bn(value, remark) if layer_type == "BN" else value
            raw = header(number, len(value)) + value
        elif wire == BYTES and at == LOSS:
            value = _loss(value, segnet, remark)
            raw = header(LOSS, len(value)) + value
        parts.append(raw)
    return b"".join(parts)


def theirs(data, layer_type):
    """Return the bytes of a LayerParameter (or of a part of one) with the forks' numbers, for a file that others will read."""
    if layer_type == "Upsample":
        return b"".join(header(SEGNET_UPSAMPLE, len(value)) + value if at == UPSAMPLE else raw
                        for at, _, value, raw in fields(data))
    if layer_type == "BN":
        return b"".join(_their_bn(value) if at == BN else raw for at, _, value, raw in fields(data))
    return data


def fields(data):
    """Yield (number, wire type, value, the whole field) of a message's bytes, which protobuf has parsed or written."""
    at = 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        wire, begin = tag & 7, at
        if wire == VARINT:
            _, at = _varint(data, at)
        elif wire == BYTES:
            length, begin = _varint(data, at)
            at = begin + length
        elif wire == GROUP:
            for _, inner, _, raw in fields(data[at:]):  # groups in it come whole
                at += len(raw)
                if inner == GROUP_END:
                    break
        else:
            at += {EIGHT_BYTES: 8, FOUR_BYTES: 4}.get(wire, 0)
        yield tag >> 3, wire, data[begin:at], data[start:at]


def _varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _renumbered(parts, numbers):
    """Return fields as bytes, those in `numbers` under other numbers."""
    return b"".join(varint(numbers.get(at, at) << 3 | wire) + (varint(len(value)) if wire == BYTES else b"") + value
                    for at, wire, value, _ in parts)


def _bn(data, remark):
    """Return the bytes of a bn_param with our numbers.

    Field 3 is SegNet's bn_mode (an enum), or PSPNet's var_eps or its forerunner's momentum (floats). The forerunner goes on
    with eps (4, a float), frozen (5), engine (6); PSPNet with moving_average (4, a bool), decay (5, a float) and more.
    """
    parts = list(fields(data))
    kinds = {(at, wire) for at, wire, _, _ in parts}
    if (3, FOUR_BYTES) not in kinds and not kinds & {(4, FOUR_BYTES), (5, VARINT)}:
        return data  # SegNet's, or PSPNet's without var_eps
    pspnet = kinds & {(4, VARINT), (5, FOUR_BYTES)} or max(kinds)[0] >= 7
    forerunner = kinds & {(4, FOUR_BYTES), (5, VARINT)}
    if not pspnet and not forerunner:
        value = next(struct.unpack("<f", value)[0] for at, _, value, _ in parts if at == 3)
        forerunner = value > 0.1
        remark(f"field 3 of bn_param is {value:g}; taken for {'momentum' if forerunner else 'var_eps'}, going by its size")
    return _renumbered(parts, {3: 7, 4: 8, 5: 9, 6: 12} if forerunner else {3: 1003})


def _their_bn(data):
    """Return a whole bn_param field: SegNet's where it has nothing but SegNet's fields, PSPNet's otherwise."""
    parts = list(fields(data))
    if all(at <= 3 for at, _, _, _ in parts):
        return header(BN, len(data)) + data
    data = _renumbered(parts, {1001: 1, 1002: 2, 1003: 3})
    return header(PSPNET_BN, len(data)) + data


def _loss(data, segnet, remark):
    """Return the bytes of a loss_param with our numbers: SegNet's 3 is weight_by_label_freqs and Caffe's normalization.

    In SegNet class_weighting (4) goes with it, and normalization is 5. Both have the wire type of an enum.
    """
    parts = list(fields(data))
    numbers = {at for at, _, _, _ in parts}
    if not numbers & {4, 5} and not (segnet and 3 in numbers):
        return data
    if 4 in numbers or 3 in numbers:
        remark("loss_param has SegNet's weight_by_label_freqs or class_weighting, which are not read: classes have equal weights")
    return _renumbered([part for part in parts if part[0] not in (3, 4)], {5: 3})
