"""SqueezeNet v1.0 with its ImageNet weights: every blob is within 1e-4 of what Caffe computed."""

import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2, text
from solvers import compare
from tests.real.nets import from_json
from tests.solvers.doors import run, write
from tests.support import shared


@pytest.fixture(scope="module")
def folder():
    return shared("real/squeezenet_v1.0")


def test_every_blob_is_caffes(folder, tmp_path, capsys):
    net = from_json(folder / "net.json")
    path = write(tmp_path / "deploy.prototxt", text.dump(net))
    code, out, err = run(capsys, compare.main, path, folder / "squeezenet_v1.0.caffemodel", "--against",
                         folder / "caffe_blobs.npz", "--tolerance", "1e-4")
    assert code == 0, out + err
    with np.load(folder / "caffe_blobs.npz") as dump:
        known = {name.split("/", 1)[1] for name in dump.files if name.startswith("moments/")} | {"data"}
    assert f"{len(known)} blobs compared, 0 depart" in out
    assert "only in the reference" not in out


def test_weights_fill_every_layer(folder):
    net = Net(from_json(folder / "net.json"), caffe_pb2.TEST, weights=folder / "squeezenet_v1.0.caffemodel")
    assert net.weights_report.untouched == []
    assert sum(blob.count for blob in net.learnable_params) == 1_248_424
    assert all(np.isfinite(blob.data).all() and blob.data.any() for blob in net.learnable_params)


def test_opencv_agrees_too(folder, tmp_path, capsys):
    pytest.importorskip("cv2", reason="OpenCV 4 is an extra of the tests")
    path = write(tmp_path / "deploy.prototxt", text.dump(from_json(folder / "net.json")))
    code, out, err = run(capsys, compare.main, path, folder / "squeezenet_v1.0.caffemodel", "--against", "opencv",
                         "--input", folder / "caffe_blobs.npz")
    assert code == 0, out + err
    assert " 0 depart" in out
