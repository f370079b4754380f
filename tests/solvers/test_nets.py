"""Which prototxt is meant, data layers and what stands for them."""

import numpy as np
import pytest

from data import sample
from layers.core.net import Net
from netspec import caffe_pb2, files, text
from netspec.errors import Error, UnknownName
from netspec.weights import read_weights
from solvers import nets
from tests.solvers.doors import write

PYTHON = """layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "voc_layers"
  layer: "VOCSegDataLayer" param_str: "{'voc_dir': 'there', 'split': 'seg11valid', 'mean': (1, 2, 3)}" } }
"""
LOSS = """layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""


def message(prototxt):
    return text.parse(prototxt, caffe_pb2.NetParameter())


def shapes(net):
    return {top: tuple(shape.dim) for layer in net.layer if layer.type == "Input"
            for top, shape in zip(layer.top, layer.input_param.shape)}


def test_models_are_found_by_name_and_by_their_published_name(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for split in ("val", "deploy"):
        write(tmp_path / "models" / "fcn8s" / f"{split}.prototxt", PYTHON)
    write(tmp_path / "models" / "fcn8s" / "net.py", "")
    place = str(tmp_path / "models" / "fcn8s" / "{}.prototxt")
    assert nets.find("fcn8s", ("val", "test")) == place.format("val")
    assert nets.find("voc-fcn8s", ("test", "val")) == place.format("val")
    assert nets.find("fcn8s", ("deploy",)) == place.format("deploy")
    assert nets.find("models/fcn8s/val.prototxt", ("deploy",)) == place.format("val")
    with pytest.raises(UnknownName, match="did you mean 'fcn8s'"):
        nets.find("fcn8", ("val",))
    with pytest.raises(Error, match="python -m netspec.make fcn8s --split train"):
        nets.find("fcn8s", ("train",))


def test_phase_rules_are_applied(tmp_path):
    path = write(tmp_path / "x.prototxt", PYTHON + LOSS.replace(
        'type: "SoftmaxWithLoss"', 'type: "SoftmaxWithLoss" include { phase: TRAIN }'))
    assert [layer.name for layer in nets.read(path).layer] == ["data", "score"]
    assert [layer.name for layer in nets.read(path, caffe_pb2.TRAIN).layer] == ["data", "score", "loss"]


def test_data_parameters_are_set_by_kind():
    net = message(PYTHON)
    nets.set_data(net, nets.key_values(["voc_dir=/a b/c", "randomize=False", "mean=(4, 5, 6)"]))
    assert nets.param_dict(net.layer[0]) == {
        "voc_dir": "/a b/c", "split": "seg11valid", "mean": (4, 5, 6), "randomize": False}
    net = message('layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "a" batch_size: 2 } }')
    nets.set_data(net, nets.key_values(['source=C:\\x "y"', "batch_size=7"]))
    assert net.layer[0].hdf5_data_param.source == 'C:\\x "y"' and net.layer[0].hdf5_data_param.batch_size == 7
    with pytest.raises(UnknownName, match="did you mean 'batch_size'"):
        nets.set_data(net, {"batchsize": 1})
    with pytest.raises(Error, match="batch_size"):
        nets.set_data(net, {"batch_size": "many"})
    with pytest.raises(Error, match="no data layer"):
        nets.set_data(message(LOSS), {"source": 1})


def test_param_str_is_read_as_data_and_never_run():
    net = message(PYTHON.replace("'there'", "__import__('os').getcwd()"))
    with pytest.raises(Error, match="not a dict of Python literals"):
        nets.param_dict(net.layer[0])


def test_inputs_stand_for_data_layers():
    net = nets.without_data(message(PYTHON + LOSS))
    assert shapes(net) == {"data": (1, 3, 224, 224), "label": (1, 1, 224, 224)}
    assert shapes(nets.without_data(net, {"data": (2, 3, 5, 7)}))["data"] == (2, 3, 5, 7)
    assert shapes(nets.without_judges(net)) == {"data": (1, 3, 224, 224)}
    Net(nets.without_judges(net), caffe_pb2.TEST).forward()


def test_stand_ins_have_the_sizes_that_are_said():
    net = message("""
      layer { name: "a" type: "Data" top: "data" top: "label" transform_param { crop_size: 227 } }
      layer { name: "b" type: "MemoryData" top: "m" top: "n"
              memory_data_param { batch_size: 4 channels: 2 height: 5 width: 6 } }
      layer { name: "c" type: "Python" top: "color" top: "depth" top: "sem"
              python_param { module: "m" layer: "L" param_str: "{'tops': ['color', 'depth', 'label']}" } }
      layer { name: "l" type: "SoftmaxWithLoss" bottom: "m" bottom: "sem" }
      layer { name: "k" type: "DummyData" top: "k" dummy_data_param { shape { dim: 1 } } }""")
    assert shapes(nets.without_data(net)) == {
        "data": (1, 3, 227, 227), "label": (1,), "m": (4, 2, 5, 6), "n": (4,), "color": (1, 3, 224, 224),
        "depth": (1, 1, 224, 224), "sem": (1, 1, 224, 224)}
    hdf5 = message('layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "a" batch_size: 2 } }')
    with pytest.raises(Error, match="--input data="):
        nets.without_data(hdf5)
    assert shapes(nets.without_data(hdf5, {"data": (2, 7)})) == {"data": (2, 7)}


def test_one_shape_for_several_inputs():
    net = message('layer { name: "i" type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } } }')
    assert shapes(nets.without_data(net, {"b": (4,)})) == {"a": (2, 3), "b": (4,)}


def test_the_sample_takes_the_place_of_the_data(tmp_path, monkeypatch):
    sample.draw(tmp_path / "sample", 2, 3)
    monkeypatch.setattr(sample, "DEFAULT", str(tmp_path / "sample"))
    net = message(PYTHON)
    nets.use_sample(net)
    made = Net(net, caffe_pb2.TEST)
    dataset = nets.dataset_of(made)
    assert len(dataset) == 3 and dataset.split == "seg11valid"
    assert nets.class_names(len(sample.CLASSES), dataset) == sample.CLASSES
    made.close()
    with pytest.raises(Error, match="--sample"):
        nets.use_sample(message(LOSS))


def test_saved_weights_have_caffes_split_layers(tmp_path):
    two = message(PYTHON.replace(' top: "label"', "") + LOSS.split("layer { name: \"loss\"")[0]
                  + 'layer { name: "s" type: "Silence" bottom: "data" }')
    net = Net(nets.without_data(two), caffe_pb2.TEST)
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
    small = nets.without_data(message(PYTHON + LOSS))
    Net(small, caffe_pb2.TEST).save(tmp_path / "w.caffemodel")
    net = nets.without_data(nets.read(path))
    nets.open_net(net, path, caffe_pb2.TEST, tmp_path / "w.caffemodel")
    line, = capsys.readouterr().err.splitlines()
    assert line.endswith("has no weights for: zero, new")
    other = message("".join((PYTHON, LOSS)).replace('name: "score"', 'name: "other"'))
    Net(nets.without_data(other), caffe_pb2.TEST).save(tmp_path / "o.caffemodel")
    with pytest.raises(Error, match="matches no layer"):
        nets.open_net(net, path, caffe_pb2.TEST, tmp_path / "o.caffemodel")


def test_wrong_options_are_refused():
    with pytest.raises(UnknownName, match="--mean"):
        nets.three_numbers("1,2,x")
    with pytest.raises(UnknownName, match="--mean"):
        nets.three_numbers("1,2,nan")
    for option in ("data", "data=", "=1,2", "data=1,0", "data=1,a"):
        with pytest.raises(UnknownName, match="--input"):
            nets.input_shapes([option])
