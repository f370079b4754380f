"""Binary nets of Caffe's forks: colliding field numbers, built by hand, byte by byte."""

import struct

import numpy as np
import pytest

from netspec import caffe_pb2, forks, text, upgrade_file
from netspec.weights import read_weights, write_caffemodel
from netspec.wire import BYTES, FOUR_BYTES, GROUP, GROUP_END, VARINT, varint


def tag(number, wire):
    return varint(number << 3 | wire)


def block(number, data):
    """A field that holds bytes: a string or a message."""
    return tag(number, BYTES) + varint(len(data)) + data


def whole(number, value):
    return tag(number, VARINT) + varint(value)


def real(number, value):
    return tag(number, FOUR_BYTES) + struct.pack("<f", value)


def layer(name, kind, *fields):
    return block(100, block(1, name.encode()) + block(2, kind.encode()) + b"".join(fields))


BLOB = block(7, block(7, block(1, varint(2))) + block(5, struct.pack("<2f", 1.5, -2)))  # shape (2), two floats
ONE = block(1, block(1, b"constant") + real(2, 1))  # scale_filler of a bn_param


def read(*layers):
    """Return (the only layer, remarks) of a net of these bytes, or (layers, remarks)."""
    net, remarks = forks.parse(b"".join(layers))
    return (net.layer[0] if len(net.layer) == 1 else net.layer), remarks


def message(prototxt):
    return text.parse(prototxt, caffe_pb2.LayerParameter())


@pytest.mark.parametrize("kind, number, payload, wanted", [
    ("Upsample", 147, whole(1, 2) + whole(6, 45) + whole(7, 60),
     "upsample_param { scale: 2 upsample_h: 45 upsample_w: 60 }"),
    ("Upsample", 137, whole(1, 2) + whole(4, 1), "upsample_param { scale: 2 pad_out_h: true }"),
    ("Swish", 147, real(1, 0.5), "swish_param { beta: 0.5 }"),
    ("Embed", 137, whole(1, 7) + whole(2, 9), "embed_param { num_output: 7 input_dim: 9 }"),
    ("BN", 45, ONE + whole(3, 1), 'bn_param { scale_filler { type: "constant" value: 1 } bn_mode: INFERENCE }'),
    ("BN", 137, ONE + whole(4, 1) + real(5, 0.25),
     'bn_param { scale_filler { type: "constant" value: 1 } moving_average: true decay: 0.25 }'),
    ("BN", 137, real(3, 1e-3) + whole(4, 1), "bn_param { var_eps: 0.001 moving_average: true }"),
    ("BN", 137, ONE + real(3, 0.95) + real(4, 1e-4) + whole(5, 1),
     'bn_param { scale_filler { type: "constant" value: 1 } momentum: 0.95 eps: 1e-4 frozen: true }'),
    ("Interp", 143, whole(3, 8), "interp_param { zoom_factor: 8 }"),
    ("Interp", 163, whole(1, 60) + whole(2, 61), "interp_param { height: 60 width: 61 }"),
    ("Input", 143, block(1, block(1, varint(3))), "input_param { shape { dim: 3 } }"),
    ("ROIPooling", 8266711, whole(1, 7) + whole(2, 7), "roi_pooling_param { pooled_h: 7 pooled_w: 7 }"),
    ("ROIPooling", 147, whole(1, 7) + real(3, 0.0625), "roi_pooling_param { pooled_h: 7 spatial_scale: 0.0625 }"),
    ("Permute", 202, whole(1, 0) + whole(1, 2), "permute_param { order: 0 order: 2 }"),
    ("Normalize", 206, whole(1, 0), "norm_param { across_spatial: false }"),
    ("Normalize", 149, whole(1, 0), "norm_param { across_spatial: false }"),
    ("Scale", 160, whole(4, 1), "scale_param { bias_term: true }"),
    ("ReLU6", 2060, real(1, 0.5), "relu6_param { negative_slope: 0.5 }"),
    ("PriorBox", 203, real(1, 30) + whole(4, 1), "prior_box_param { min_size: 30 flip: true }"),
    ("DetectionOutput", 204, whole(1, 21) + block(4, real(1, 0.45) + whole(2, 400)) + whole(6, 2) + whole(7, 200),
     "detection_output_param { num_classes: 21 nms_param { nms_threshold: 0.45 top_k: 400 } code_type: CENTER_SIZE "
     "keep_top_k: 200 }"),
])
def test_the_layers_type_tells_whose_field_a_number_is(kind, number, payload, wanted):
    found, remarks = read(layer("a", kind, BLOB, block(number, payload)))
    assert remarks == []
    assert list(found.blobs[0].data) == [1.5, -2]
    found.ClearField("blobs")
    assert found == message(f'name: "a" type: "{kind}" {wanted}')


def test_what_nothing_tells_is_assumed_and_said():
    found, remarks = read(layer("a", "BN", block(137, real(3, 0.9))))
    assert found.bn_param.momentum == pytest.approx(0.9)
    assert remarks == ["layer 'a' (BN): field 3 of bn_param is 0.9; taken for momentum, going by its size"]
    found, remarks = read(layer("a", "BN", block(137, real(3, 1e-5))))
    assert found.bn_param.var_eps == pytest.approx(1e-5) and "var_eps" in remarks[0]


LOST = "which are not read: classes have equal weights"


def test_segnets_loss_param_is_not_taken_for_caffes():
    weighted = block(101, whole(1, 11) + whole(3, 1) + real(4, 0.2) + real(4, 1.5) + whole(5, 2))
    found, remarks = read(layer("loss", "SoftmaxWithLoss", weighted))
    assert found == message('name: "loss" type: "SoftmaxWithLoss" loss_param { ignore_label: 11 normalization: BATCH_SIZE }')
    assert len(remarks) == 1 and remarks[0].endswith(LOST)
    plain = layer("loss", "SoftmaxWithLoss", block(101, whole(3, 0)))
    found, remarks = read(plain)
    assert found.loss_param.normalization == caffe_pb2.LossParameter.FULL and remarks == []
    found, remarks = read(layer("up", "Upsample", block(147, whole(1, 2))), plain)
    assert not found[1].loss_param.HasField("normalization") and remarks[0].endswith(LOST)


def test_unknown_fields_of_every_wire_type_are_stepped_over():
    odd = (tag(300, GROUP) + tag(301, GROUP) + whole(1, 5) + tag(301, GROUP_END) + tag(300, GROUP_END)
           + tag(302, 1) + bytes(8) + real(303, 1) + whole(304, 1 << 40) + block(305, b"xyz"))
    found, remarks = read(layer("up", "Upsample", odd, block(147, whole(1, 3)), block(4, b"top")))
    assert found.upsample_param.scale == 3 and list(found.top) == ["top"] and remarks == []
    assert odd[:6] in found.SerializeToString()


def test_a_caffemodel_is_written_as_the_forks_read_it(tmp_path):
    data = (layer("up", "Upsample", BLOB, block(147, whole(1, 2) + whole(6, 45)))
            + layer("bn", "BN", block(45, ONE + whole(3, 1)))
            + layer("ps", "BN", block(137, ONE + real(3, 1e-3) + whole(4, 1)))
            + layer("swish", "Swish", block(147, real(1, 0.5))))
    path, copy, upgraded = (tmp_path / f"{name}.caffemodel" for name in ("it", "copy", "upgraded"))
    path.write_bytes(data)
    with read_weights(path) as weights:
        assert weights.remarks == []
        assert weights.net.layer[0].upsample_param.upsample_h == 45
        np.testing.assert_array_equal(weights.layers["up"][0].data, [1.5, -2])
        write_caffemodel(copy, weights.net, weights.layers)
    raw = copy.read_bytes()
    assert block(147, whole(1, 2) + whole(6, 45)) in raw and block(147, real(1, 0.5)) in raw
    assert block(45, ONE + whole(3, 1)) in raw
    assert caffe_pb2.NetParameter.FromString(raw).layer[0].HasField("swish_param")  # as Caffe itself sees SegNet's file
    assert forks.parse(raw) == forks.parse(data)
    assert upgrade_file.main([str(path), str(upgraded)]) == 0
    assert forks.parse(upgraded.read_bytes()) == forks.parse(data)
    assert block(147, whole(1, 2) + whole(6, 45)) in upgraded.read_bytes()


def test_plain_nets_are_bytes_as_protobuf_writes_them():
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(name="a", type="Swish").swish_param.beta = 2
    assert forks.serialize(net) == net.SerializeToString()
    assert forks.parse(net.SerializeToString()) == (net, [])


def test_remarks_reach_who_upgrades_a_file(tmp_path, capsys):
    path = tmp_path / "it.caffemodel"
    path.write_bytes(layer("a", "BN", block(137, real(3, 0.9))))
    assert upgrade_file.main([str(path), str(tmp_path / "new.caffemodel")]) == 0
    assert "layer 'a' (BN): field 3 of bn_param is 0.9" in capsys.readouterr().err
