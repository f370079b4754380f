"""NetSpec behaves as pycaffe's, and names the nearest field where pycaffe gives a bare error."""

import numpy as np
import pytest
from google.protobuf import text_format

from netspec import caffe_pb2
from netspec.errors import Error
from netspec.spec import NetSpec, to_proto
from netspec.spec import layers as L
from netspec.spec import params as P


def net(text):
    return text_format.Parse(text, caffe_pb2.NetParameter())


def test_lenet_comes_out_as_it_is_written_by_hand():
    n = NetSpec()
    n.data, n.label = L.DummyData(shape=[{"dim": [2, 1, 28, 28]}, {"dim": [2]}], transform_param={"scale": 0.5}, ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler={"type": "xavier"},
                            param=[{"lr_mult": 1}, {"lr_mult": 2, "decay_mult": 0}])
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.relu1 = L.ReLU(n.pool1, in_place=True)
    n.ip2 = L.InnerProduct(n.relu1, num_output=10)
    n.loss = L.SoftmaxWithLoss(n.ip2, n.label, loss_param={"ignore_label": 255}, loss_weight=2)
    assert n.to_proto() == net("""
        layer { name: "data" type: "DummyData" top: "data" top: "label" transform_param { scale: 0.5 }
                dummy_data_param { shape { dim: 2 dim: 1 dim: 28 dim: 28 } shape { dim: 2 } } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 }
                param { lr_mult: 2 decay_mult: 0 }
                convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
                pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
        layer { name: "relu1" type: "ReLU" bottom: "pool1" top: "pool1" }
        layer { name: "ip2" type: "InnerProduct" bottom: "pool1" top: "ip2" inner_product_param { num_output: 10 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" loss_weight: 2
                loss_param { ignore_label: 255 } }""")


def test_tops_without_a_name_are_numbered_by_type():
    data, label = L.Data(ntop=2)
    both = L.Eltwise(L.ReLU(data), L.ReLU(data))
    message = to_proto(L.SoftmaxWithLoss(both, label))
    assert [(one.name, list(one.bottom), list(one.top)) for one in message.layer] == [
        ("Data1", [], ["Data1", "Data2"]), ("ReLU1", ["Data1"], ["ReLU1"]), ("ReLU2", ["Data1"], ["ReLU2"]),
        ("Eltwise1", ["ReLU1", "ReLU2"], ["Eltwise1"]),
        ("SoftmaxWithLoss1", ["Eltwise1", "Data2"], ["SoftmaxWithLoss1"])]
    assert both.to_proto() == to_proto(both)


def test_a_layer_used_twice_is_written_once_and_in_order():
    n = NetSpec()
    n.a = L.Input()
    n.c = L.Eltwise(n.a, n.a)
    n.b = L.ReLU(n.a)
    assert [one.name for one in n.to_proto().layer] == ["a", "c", "b"]
    assert list(n.to_proto().layer[1].bottom) == ["a", "a"]


def test_unnamed_layers_between_named_ones_are_kept():
    n = NetSpec()
    n.data = L.Input()
    n.score = L.Convolution(L.ReLU(L.ReLU(n.data), in_place=True), num_output=1, kernel_size=1)
    assert [(one.name, one.bottom[0] if one.bottom else "", one.top[0]) for one in n.to_proto().layer] == [
        ("data", "", "data"), ("ReLU1", "data", "ReLU1"), ("ReLU2", "ReLU1", "ReLU1"), ("score", "ReLU1", "score")]


def test_no_tops():
    n = NetSpec()
    n.data = L.Input()
    n.quiet = L.Silence(n.data, ntop=0)
    message = n.to_proto()
    assert message.layer[1].name == "quiet" and not message.layer[1].top
    assert to_proto(L.Silence(n.data, ntop=0)).layer[1].name == "Silence1"


def test_name_top_and_include_are_fields_of_the_layer():
    layer = L.Accuracy(L.Input(), name="accuracy", include={"phase": caffe_pb2.TEST}, top=["extra"]).to_proto().layer[1]
    assert layer.name == "accuracy" and layer.top == ["Accuracy1", "extra"]
    assert layer.include[0].phase == caffe_pb2.TEST and layer.include[0].HasField("phase")


def test_enums_by_name_or_number_and_repeated_fields_by_value_or_list():
    data = L.Input()
    message = to_proto(L.Pooling(data, pool="AVE"), L.Pooling(data, pool=1),
                       L.Convolution(data, kernel_size=[3, 5], pad=1))
    assert [one.pooling_param.pool for one in message.layer[1:3]] == [P.Pooling.AVE] * 2
    assert list(message.layer[3].convolution_param.kernel_size) == [3, 5]
    assert list(message.layer[3].convolution_param.pad) == [1]


def test_numpy_numbers_and_messages_are_values():
    filler = caffe_pb2.FillerParameter(type="constant", value=2)
    layer = L.Convolution(L.Input(), kernel_size=np.array([3, 5]), num_output=np.int64(4), weight_filler=filler,
                          bias_term=np.bool_(False), loss_weight=np.float32(0.5)).to_proto().layer[1]
    assert list(layer.convolution_param.kernel_size) == [3, 5] and layer.convolution_param.num_output == 4
    assert layer.convolution_param.weight_filler == filler and not layer.convolution_param.bias_term
    assert list(layer.loss_weight) == [0.5]


def test_types_that_nobody_knows_are_written():
    layer = L.MyLayer(L.Input(), convolution_param={"num_output": 3}).to_proto().layer[1]
    assert layer.type == "MyLayer" and layer.convolution_param.num_output == 3


def test_names_as_attributes_and_items():
    n = NetSpec()
    n["fire2/concat"] = L.Input()
    n.b = n["fire2/concat"]
    assert n.b is n.tops["fire2/concat"] and n.keys() == ["fire2/concat", "b"] and "b" in n and n.vals() == [n.b, n.b]
    del n.b
    assert list(n.tops) == ["fire2/concat"]
    other = NetSpec()
    other.update(n)
    assert other.to_proto() == n.to_proto()


def test_a_name_assigned_again_means_the_new_top():
    n = NetSpec()
    n.data = L.Input()
    n.x = L.ReLU(n.data)
    n.y = L.TanH(n.x)
    n.x = L.Sigmoid(n.y)
    assert [(one.name, one.type) for one in n.to_proto().layer] == [
        ("data", "Input"), ("ReLU1", "ReLU"), ("y", "TanH"), ("x", "Sigmoid")]


def test_a_net_deeper_than_pythons_stack():
    top = L.Input()
    for _ in range(5000):
        top = L.ReLU(top)
    assert len(top.to_proto().layer) == 5001


@pytest.mark.parametrize("make, kind, says", [
    (lambda d: L.Convolution(d, kernal_size=3), AttributeError,
     r"layer 'Convolution1' \(Convolution\): unknown field 'kernal_size' in Conv.*; did you mean 'kernel_size'"),
    (lambda d: L.Deconvolution(d, kernel_size=3), AttributeError, r"such as convolution_param=dict\(kernel_size=...\)"),
    (lambda d: L.Convolution(d, weight_filler={"typ": "msra"}), AttributeError,
     "'typ' in FillerParameter; did you mean 'type'"),
    (lambda d: L.Convolution(d, weight_filler="msra"), TypeError, "FillerParameter and takes a dict, not 'msra'"),
    (lambda d: L.Pooling(d, pool="MAXX"), TypeError, "'MAXX' is no value of PoolMethod; did you mean 'MAX'"),
    (lambda d: L.Pooling(d, pool=7), TypeError, "7 is no value of PoolMethod"),
    (lambda d: L.Pooling(d, kernel_size=-1), TypeError, "kernel_size takes a whole number in its range, not -1"),
    (lambda d: L.Pooling(d, kernel_size=2.5), TypeError, "not 2.5"),
    (lambda d: L.Convolution(d, bias_term="no"), TypeError, "takes True or False, not 'no'"),
    (lambda d: L.Dropout(d, dropout_ratio="half"), TypeError, "takes a number, not 'half'"),
    (lambda d: L.ReLU(d, name=3), TypeError, "takes a string, not 3"),
])
def test_wrong_fields_are_named_with_the_cure(make, kind, says):
    with pytest.raises(Error, match=says) as raised:
        make(L.Input()).to_proto()
    assert isinstance(raised.value, kind)


def test_wrong_names_are_named_with_the_nearest():
    n = NetSpec()
    n.pool4 = L.Input()
    with pytest.raises(KeyError, match="no top is named 'pol4'; did you mean 'pool4'"):
        n["pol4"]
    assert not hasattr(n, "pool5")
    with pytest.raises(AttributeError, match="did you mean 'Pooling'"):
        P.Poling  # noqa: B018
    with pytest.raises(AttributeError, match="PoolingParameter has no value 'MAXI'; did you mean 'MAX'"):
        P.Pooling.MAXI  # noqa: B018


def test_what_is_no_top_is_refused():
    n = NetSpec()
    with pytest.raises(TypeError, match="give 2 names for 2 tops"):
        n.data = L.Python(ntop=2)
    with pytest.raises(TypeError, match="ReLU input 0 is not a Top.*unpack"):
        L.ReLU(L.Python(ntop=2))
    with pytest.raises(TypeError, match="in_place with 1 tops needs as many bottoms"):
        L.ReLU(in_place=True)
