"""Which prototxt is meant, opening and saving nets."""

import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from netspec.weights import read_weights
from solvers import nets, stand_ins
from tests.solvers.doors import write
from tests.solvers.prototxts import LOSS, PYTHON, message


def test_phase_rules_are_applied(tmp_path):
    path = write(tmp_path / "x.prototxt", PYTHON + LOSS.replace(
        'type: "SoftmaxWithLoss"', 'type: "SoftmaxWithLoss" include { phase: TRAIN }'))
    assert [layer.name for layer in nets.read(path).layer] == ["data", "score"]
    assert [layer.name for layer in nets.read(path, caffe_pb2.TRAIN).layer] == ["data", "score", "loss"]


def test_saved_weights_have_caffes_split_layers(tmp_path):
    two = message(PYTHON.replace(' top: "label"', "") + LOSS.split("layer { name: \"loss\"")[0]
                  + 'layer { name: "s" type: "Silence" bottom: "data" }')
    net = Net(stand_ins.without_data(two), caffe_pb2.TEST)
    nets.save(tmp_path / "x.caffemodel", two, net.params)
    with read_weights(tmp_path / "x.caffemodel") as weights:
        assert [layer.name for layer in weights.net.layer] == ["data", "data_data_0_split", "score", "s"]
        assert np.array_equal(weights.layers["score"][0].data, net.params["score"][0].data)


SCALE = """layer { name: "NAME" type: "Scale" bottom: "data" top: "NAME" param { lr_mult: RATE }
  scale_param { filler { value: VALUE } } }
"""


def test_layers_without_weights_are_said(tmp_path, capsys):
    scales = "".join(SCALE.replace("NAME", name).replace("RATE", rate).replace("VALUE", value) for name, rate, value in (
        ("fixed", "0", "2"), ("zero", "0", "0"), ("new", "1", "2")))
    path = write(tmp_path / "x.prototxt", PYTHON + LOSS + scales)
    small = stand_ins.without_data(message(PYTHON + LOSS))
    Net(small, caffe_pb2.TEST).save(tmp_path / "w.caffemodel")
    net = stand_ins.without_data(nets.read(path))
    nets.open_net(net, path, caffe_pb2.TEST, tmp_path / "w.caffemodel")
    line, = capsys.readouterr().err.splitlines()
    assert line.endswith("has no weights for: zero, new")
    other = message("".join((PYTHON, LOSS)).replace('name: "score"', 'name: "other"'))
    Net(stand_ins.without_data(other), caffe_pb2.TEST).save(tmp_path / "o.caffemodel")
    with pytest.raises(Error, match="matches no layer"):
        nets.open_net(net, path, caffe_pb2.TEST, tmp_path / "o.caffemodel")
