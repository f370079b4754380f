"""LeNet of 2014 fed by a database of MNIST's test digits, as Caffe's example feeds it: 0.9918 of them right."""

import numpy as np
import pytest

from data import datum
from layers.core.net import Net
from netspec import caffe_pb2, text
from tests.data import records
from tests.real.nets import LENET
from tests.support import shared

DATA = """layer {{ name: "mnist" type: "Data" top: "data" top: "label" transform_param {{ scale: 0.00390625 }}
  data_param {{ source: "{path}" batch_size: 500 backend: {backend} }} }}
"""
ACCURACY = 'layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" }\n'


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_digits_from_a_database_score_as_in_caffe(tmp_path, backend):
    records.need(backend)
    folder = shared("real/lenet_mnist")
    with np.load(folder / "mnist_test.npz") as mnist:
        digits, labels = mnist["X"], mnist["Y"]
    path = records.write(tmp_path / "mnist_test", backend, (
        (b"%08d" % number, datum.make(digit.astype(np.uint8).reshape(1, 28, 28), label).SerializeToString())
        for number, (digit, label) in enumerate(zip(digits, labels))))
    net = text.parse(LENET, caffe_pb2.NetParameter())
    inputs = [layer for layer in net.layer if layer.type == "Input"]
    for layer in inputs:
        net.layer.remove(layer)
    given = text.parse(DATA.format(path=path, backend=backend.upper()) + ACCURACY, caffe_pb2.NetParameter())
    layers = [given.layer[0], *net.layer, given.layer[1]]
    made = caffe_pb2.NetParameter(name="LeNet", layer=layers)
    net = Net(made, caffe_pb2.TEST, weights=folder / "lenet_iter_10000.caffemodel")
    right = []
    for _ in range(20):
        net.forward()
        right.append(float(net.blobs["accuracy"].data))
    assert np.mean(right) == pytest.approx(0.9918, abs=1e-6)
    net.close()
