"""Nets without their data sets."""

import pytest

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from solvers import stand_ins
from tests.solvers.prototxts import LOSS, PYTHON, message


def shapes(net):
    return {top: tuple(shape.dim) for layer in net.layer if layer.type == "Input"
            for top, shape in zip(layer.top, layer.input_param.shape)}


def test_inputs_stand_for_data_layers():
    net = stand_ins.without_data(message(PYTHON + LOSS))
    assert shapes(net) == {"data": (1, 3, 224, 224), "label": (1, 1, 224, 224)}
    assert shapes(stand_ins.without_data(net, {"data": (2, 3, 5, 7)}))["data"] == (2, 3, 5, 7)
    assert shapes(stand_ins.without_judges(net)) == {"data": (1, 3, 224, 224)}
    Net(stand_ins.without_judges(net), caffe_pb2.TEST).forward()


def test_stand_ins_have_the_sizes_that_are_said():
    net = message("""
      layer { name: "a" type: "Data" top: "data" top: "label" transform_param { crop_size: 227 } }
      layer { name: "b" type: "MemoryData" top: "m" top: "n"
              memory_data_param { batch_size: 4 channels: 2 height: 5 width: 6 } }
      layer { name: "c" type: "Python" top: "color" top: "depth" top: "sem"
              python_param { module: "m" layer: "L" param_str: "{'tops': ['color', 'depth', 'label']}" } }
      layer { name: "l" type: "SoftmaxWithLoss" bottom: "m" bottom: "sem" }
      layer { name: "k" type: "DummyData" top: "k" dummy_data_param { shape { dim: 1 } } }""")
    assert shapes(stand_ins.without_data(net)) == {
        "data": (1, 3, 227, 227), "label": (1,), "m": (4, 2, 5, 6), "n": (4,), "color": (1, 3, 224, 224),
        "depth": (1, 1, 224, 224), "sem": (1, 1, 224, 224)}
    hdf5 = message('layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "a" batch_size: 2 } }')
    with pytest.raises(Error, match="--input data="):
        stand_ins.without_data(hdf5)
    assert shapes(stand_ins.without_data(hdf5, {"data": (2, 7)})) == {"data": (2, 7)}


def test_one_shape_for_several_inputs():
    net = message('layer { name: "i" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } } }')
    assert shapes(stand_ins.without_data(net, {"b": (4,)})) == {"a": (2, 3), "b": (4,)}
