"""cifar10_quick as Caffe's HDF5 snapshots: weights fill the net, the solver state fits them."""

import h5py
import numpy as np
import pytest

from layers.core.net import Net
from netspec import caffe_pb2, text
from netspec.weights import read_solverstate, read_weights
from tests.real.nets import from_json
from tests.support import shared

NAME = "cifar10_quick_iter_5000"


@pytest.fixture(scope="module")
def folder():
    return shared("real/hdf5_snapshots")


def test_weights_fill_the_net(folder):
    net = Net(from_json(folder / "cifar10_quick_net.json"), caffe_pb2.TEST, weights=folder / f"{NAME}.caffemodel.h5")
    assert net.weights_report.copied == ["conv1", "conv2", "conv3", "ip1", "ip2"]
    with h5py.File(folder / f"{NAME}.caffemodel.h5") as file:
        for name, blobs in net.params.items():
            for i, blob in enumerate(blobs):
                assert np.array_equal(blob.data.reshape(-1), file[f"data/{name}/{i}"][()].reshape(-1))


def test_what_it_answers_is_opencvs(folder, tmp_path):
    cv2 = pytest.importorskip("cv2", reason="OpenCV 4 is an extra of the tests")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("OpenCV 5 has no Caffe importer")
    message = from_json(folder / "cifar10_quick_net.json")
    net = Net(message, caffe_pb2.TEST, weights=folder / f"{NAME}.caffemodel.h5")
    data = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32) * 50
    net.blobs["data"].data[...] = data
    net.forward()
    net.save(tmp_path / "x.caffemodel")
    (tmp_path / "x.prototxt").write_text(text.dump(message))
    other = cv2.dnn.readNetFromCaffe(str(tmp_path / "x.prototxt"), str(tmp_path / "x.caffemodel"))
    other.setInput(data)
    assert np.abs(net.blobs["prob"].data - other.forward().reshape(1, 10)).max() < 1e-4


def test_the_solver_state_fits_the_weights(folder):
    state = read_solverstate(folder / f"{NAME}.solverstate.h5")
    assert state.iter == 5000
    with read_weights(folder / f"{NAME}.caffemodel.h5") as weights:
        counts = [blob.count for blobs in weights.layers.values() for blob in blobs]
    assert [np.size(getattr(one, "data", one)) for one in state.history] == counts
