"""The pycaffe face: scripts written for Caffe's Python interface run."""

import pathlib

import numpy as np
import pytest

import caffe
from caffe import layers as L
from caffe import params as P
from netspec.errors import Error

NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "net.prototxt").write_text("force_backward: true\n" + NET)
    return str(tmp_path / "net.prototxt")


def test_net_shows_what_pycaffe_shows(path):
    net = caffe.Net(path, caffe.TEST)
    assert list(net.blobs) == ["data", "conv", "ip", "prob"] and list(net.params) == ["conv", "ip"]
    assert net.inputs == ["data"] and net.outputs == ["prob"]
    assert list(net._layer_names) == ["in", "conv", "relu", "ip", "prob"]
    assert [layer.type for layer in net.layers] == ["Input", "Convolution", "ReLU", "InnerProduct", "Softmax"]
    assert net.layer_dict["conv"].blobs[0] is net.params["conv"][0]
    assert net.top_names["relu"] == ["conv"] and net.bottom_names["ip"] == ["conv"]
    assert net.params["conv"][0].data.shape == (4, 3, 3, 3) and net.params["conv"][0].count == 108
    assert net.blobs["data"].num == 2 and list(net.blobs["data"].shape) == [2, 3, 6, 5]
    assert net._inputs == [0] and net._outputs == [3]


def test_forward_takes_inputs_and_gives_outputs(path):
    net = caffe.Net(path, caffe.TEST)
    data = np.random.RandomState(0).randn(2, 3, 6, 5)
    out = net.forward(data=data, blobs=["ip"])
    assert set(out) == {"prob", "ip"} and np.allclose(out["prob"].sum(axis=1), 1)
    assert (net.blobs["data"].data == data.astype("f4")).all()
    assert set(net.forward(end="conv")) == {"conv"}
    assert set(net.forward(start="ip")) == {"prob"}
    with pytest.raises(Error, match="the net takes"):
        net.forward(dota=data)
    with pytest.raises(Error, match="2 samples"):
        net.forward(data=data[:1])
    with pytest.raises(Error, match=r"'data' \[2, 3, 6, 5\] cannot take values of shape \[2, 3, 6, 4\]"):
        net.forward(data=data[..., :4])


def test_weights_may_stand_where_scripts_of_all_ages_put_them(path, tmp_path):
    first = caffe.Net(path, caffe.TEST)
    weights = str(tmp_path / "w.caffemodel")
    first.save(weights)
    for arguments, phase in (((weights, caffe.TEST), caffe.TEST), ((caffe.TRAIN, weights), caffe.TRAIN),
                             ((pathlib.Path(weights), caffe.TRAIN), caffe.TRAIN), ((weights.encode(),), caffe.TEST),
                             ((caffe.TRAIN, 0, (), weights), caffe.TRAIN)):
        net = caffe.Net(path, *arguments)
        assert net.phase == phase
        assert np.array_equal(net.params["ip"][0].data, first.params["ip"][0].data)
    assert caffe.Net(path.encode(), caffe.TEST).source == path
    with pytest.raises(Error, match="the phase is 'train'"):
        caffe.Net(path, phase="train")


def test_backward_gives_gradients_of_inputs(path):
    net = caffe.Net(path, caffe.TRAIN)
    data = np.random.RandomState(0).randn(2, 3, 6, 5)
    net.forward(data=data)
    out = net.backward(prob=np.eye(2, 3), diffs=["conv"])
    assert set(out) == {"data", "conv"} and out["data"].shape == (2, 3, 6, 5) and out["data"].any()


def test_forward_all_cuts_into_batches_and_drops_the_filling(path):
    net = caffe.Net(path, caffe.TEST)
    data = np.random.RandomState(0).randn(5, 3, 6, 5).astype("f4")
    whole = net.forward_all(data=data)["prob"]
    assert whole.shape == (5, 3)
    assert np.allclose(whole[2:4], net.forward(data=data[2:4])["prob"], atol=1e-6)
    outs, diffs = net.forward_backward_all(data=data, prob=np.ones((5, 3), "f4"))
    assert outs["prob"].shape == (5, 3) and diffs["data"].shape == data.shape


def test_reshape_copy_save_and_share(path, tmp_path):
    caffe.set_random_seed(3)
    net = caffe.Net(path, caffe.TEST)
    net.save(str(tmp_path / "w.caffemodel"))
    net.save_hdf5(str(tmp_path / "w.h5"))
    for file in ("w.caffemodel", "w.h5"):
        old_order = caffe.Net(path, str(tmp_path / file), caffe.TEST)
        by_keyword = caffe.Net(path, caffe.TEST, weights=str(tmp_path / file))
        for other in (old_order, by_keyword):
            assert (other.params["ip"][0].data == net.params["ip"][0].data).all()
    shared = caffe.Net(path, caffe.TRAIN)
    shared.share_with(net)
    net.params["conv"][0].data[...] = 0.5
    assert (shared.params["conv"][0].data == 0.5).all() and shared.phase == caffe.TRAIN
    net.blobs["data"].reshape(1, 3, 6, 5)
    net.reshape()
    assert net.blobs["prob"].data.shape == (1, 3)


def test_same_random_seed_same_nets(path):
    caffe.set_random_seed(11)
    first = [caffe.Net(path, caffe.TRAIN).params["conv"][0].data.copy() for _ in range(2)]
    caffe.set_random_seed(11)
    again = [caffe.Net(path, caffe.TRAIN).params["conv"][0].data.copy() for _ in range(2)]
    assert (first[0] == again[0]).all() and (first[1] == again[1]).all() and (first[0] != first[1]).any()


def test_python_layer_written_for_caffe(tmp_path, monkeypatch):
    (tmp_path / "my_layers.py").write_text(
        "import caffe\n"
        "class Twice(caffe.Layer):\n"
        "    def setup(self, bottom, top): self.factor = eval(self.param_str)['factor']\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)\n"
        "    def forward(self, bottom, top): top[0].data[...] = self.factor * bottom[0].data\n"
        "    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = self.factor * top[0].diff\n")
    (tmp_path / "net.prototxt").write_text(
        'force_backward: true layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 } } }\n'
        'layer { name: "twice" type: "Python" bottom: "data" top: "out"\n'
        '  python_param { module: "my_layers" layer: "Twice" param_str: "{\'factor\': 2}" } }')
    monkeypatch.chdir(tmp_path)
    net = caffe.Net("net.prototxt", caffe.TRAIN)
    assert net.forward(data=np.arange(4))["out"].tolist() == [0, 2, 4, 6]
    assert net.backward(out=np.ones(4))["data"].tolist() == [2, 2, 2, 2]


def test_net_spec_makes_nets_that_run(tmp_path):
    n = caffe.NetSpec()
    n.data = L.DummyData(dummy_data_param=dict(shape=dict(dim=[1, 3, 8, 8]), data_filler=dict(type="gaussian")))
    n.conv = L.Convolution(n.data, num_output=2, kernel_size=3, weight_filler=dict(type="msra"))
    n.relu = L.ReLU(n.conv, in_place=True)
    n.pool = L.Pooling(n.relu, pool=P.Pooling.AVE, kernel_size=2, stride=2)
    (tmp_path / "n.prototxt").write_text(str(n.to_proto()))
    net = caffe.Net(str(tmp_path / "n.prototxt"), caffe.TEST)
    assert net.forward()["pool"].shape == (1, 2, 3, 3)


def test_solver_steps_snapshots_and_restores(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET.replace('type: "Input" top: "data" input_param',
                                                       'type: "DummyData" top: "data" top: "label" dummy_data_param')
                                           .replace("dim: 5 }", "dim: 5 } shape { dim: 2 }")
                                           .replace('layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }',
                                                    'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" '
                                                    'bottom: "label" top: "loss" }'))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 10 '
        f'snapshot_prefix: "{tmp_path}/s" random_seed: 1')
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    assert isinstance(solver.net, caffe.Net) and solver.iter == 0
    before = solver.net.params["ip"][1].data.copy()
    solver.step(3)
    assert solver.iter == 3 and (solver.net.params["ip"][1].data != before).any()
    solver.snapshot()
    again = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    again.restore(str(tmp_path / "s_iter_3.solverstate"))
    solver.step(2)
    again.step(2)
    assert again.iter == 5
    for name, blobs in solver.net.params.items():
        for ours, theirs in zip(blobs, again.net.params[name]):
            assert (ours.data == theirs.data).all()


def test_messages_are_the_same_under_both_names():
    from caffe.proto import caffe_pb2 as face
    from netspec import caffe_pb2 as words

    assert face.NetParameter is words.NetParameter and caffe.TRAIN == words.TRAIN


def test_layer_type_list_is_the_catalogue():
    assert {"Convolution", "SoftmaxWithLoss", "Crop"} <= set(caffe.layer_type_list())
