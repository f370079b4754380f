"""LeNet as Caffe wrote it in 2014 (V1 layers, 4-D blobs): 0.9918 of the 10,000 MNIST test digits, as Caffe scores."""

import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2, text
from netspec.weights import read_weights
from solvers import compare, score
from tests.real.nets import LENET
from tests.solvers.doors import run, write
from tests.support import shared


@pytest.fixture(scope="module")
def folder():
    return shared("real/lenet_mnist")


def lenet(folder, extra=""):
    net = text.parse(LENET + extra, caffe_pb2.NetParameter())
    return Net(net, caffe_pb2.TEST, weights=folder / "lenet_iter_10000.caffemodel")


def digits(folder):
    with np.load(folder / "mnist_test.npz") as mnist:
        return mnist["X"].astype(np.float32) / 256, mnist["Y"]


def test_every_layer_finds_its_weights(folder):
    net = lenet(folder)
    assert net.weights_report.copied == ["conv1", "conv2", "ip1", "ip2"]
    assert net.weights_report.untouched == []
    with read_weights(folder / "lenet_iter_10000.caffemodel") as weights:
        assert weights.net.layers and not weights.net.layer  # V1
        assert weights.layers["conv1"][1].shape == (1, 1, 1, 20)


def test_ten_thousand_digits(folder):
    net = lenet(folder)
    images, labels = digits(folder)
    right = 0
    for first in range(0, len(images), 500):
        net.blobs["data"].data[...] = images[first:first + 500]
        net.forward()
        right += int((net.blobs["prob"].data.argmax(1) == labels[first:first + 500]).sum())
    assert right / len(images) == 0.9918


def test_probabilities_are_caffes(folder):
    net = lenet(folder)
    net.blobs["data"].data[...] = digits(folder)[0][:500]
    net.forward()
    with np.load(folder / "caffe_prob_first500.npz") as caffe:
        assert np.abs(net.blobs["prob"].data - caffe["prob"]).max() < 1e-5


def test_scoring_counts_a_classifier_too(folder):
    label = 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 500 } } }\n'
    net = lenet(folder, label)
    images, labels = digits(folder)
    net.blobs["data"].data[...], net.blobs["label"].data[...] = images[:500], labels[:500]
    hist, _ = score.score_net(net, 1, "ip2", "label")
    assert hist.sum() == 500 and np.trace(hist) == (net.blobs["ip2"].data.argmax(1) == labels[:500]).sum()


def test_compare_against_opencv(folder, tmp_path, capsys):
    pytest.importorskip("cv2", reason="OpenCV 4 is an extra of the tests")
    path = write(tmp_path / "lenet.prototxt", LENET.replace("dim: 500 dim: 1", "dim: 2 dim: 1"))
    np.savez(tmp_path / "in.npz", data=digits(folder)[0][:2])
    code, out, err = run(capsys, compare.main, path, folder / "lenet_iter_10000.caffemodel", "--against", "opencv",
                         "--input", tmp_path / "in.npz")
    assert code == 0, out + err
    assert "7 blobs compared, 0 depart" in out
