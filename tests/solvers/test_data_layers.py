"""A net's data layers: their parameters, the sample data set in their place."""

import pytest

from data import sample
from layers.core.net import Net
from netspec import caffe_pb2, text
from netspec.errors import Error, UnknownName
from netspec.options import key_values
from solvers import data_layers, nets
from tests.solvers.prototxts import LOSS, PYTHON, message
from tests.support import ROOT


def test_data_parameters_are_set_by_kind():
    net = message(PYTHON)
    data_layers.set_params(net, key_values(["voc_dir=/a b/c", "randomize=False", "mean=(4, 5, 6)"]))
    assert data_layers.param_dict(net.layer[0]) == {
        "voc_dir": "/a b/c", "split": "seg11valid", "mean": (4, 5, 6), "randomize": False}
    net = message('layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "a" batch_size: 2 } }')
    data_layers.set_params(net, key_values(['source=C:\\x "y"', "batch_size=7"]))
    assert net.layer[0].hdf5_data_param.source == 'C:\\x "y"' and net.layer[0].hdf5_data_param.batch_size == 7
    with pytest.raises(UnknownName, match="did you mean 'batch_size'"):
        data_layers.set_params(net, {"batchsize": 1})
    with pytest.raises(Error, match="batch_size"):
        data_layers.set_params(net, {"batch_size": "many"})
    with pytest.raises(Error, match="no data layer"):
        data_layers.set_params(message(LOSS), {"source": 1})


def test_settings_reach_every_net_and_folders_only_layers_that_have_them():
    settings = data_layers.Settings({"voc_dir": "/v", "sbdd_dir": "/s", "split": "mine"})
    train, test = message(PYTHON.replace("voc_dir", "sbdd_dir")), message(PYTHON)
    settings(train)
    with pytest.raises(UnknownName, match="no data layer takes 'voc_dir'.*folders: sbdd_dir"):
        settings.refuse_unused()
    settings(test)
    settings.refuse_unused()
    found = [data_layers.param_dict(net.layer[0]) for net in (train, test)]
    assert [(one.get("sbdd_dir"), one.get("voc_dir"), one["split"]) for one in found] == [
        ("/s", None, "mine"), (None, "/v", "mine")]


def test_param_str_is_read_as_data_and_never_run():
    net = message(PYTHON.replace("'there'", "__import__('os').getcwd()"))
    with pytest.raises(Error, match="not a dict of Python literals"):
        data_layers.param_dict(net.layer[0])


def test_the_sample_takes_the_place_of_the_data(tmp_path, monkeypatch):
    sample.draw(tmp_path / "sample", 2, 3)
    monkeypatch.setattr(sample, "DEFAULT", str(tmp_path / "sample"))
    net = message(PYTHON)
    data_layers.use_sample(net)
    made = Net(net, caffe_pb2.TEST)
    dataset = data_layers.dataset_of(made)
    assert len(dataset) == 3 and dataset.split == "seg11valid"
    assert nets.class_names(len(sample.CLASSES), dataset) == sample.CLASSES
    made.close()
    with pytest.raises(Error, match="--sample"):
        data_layers.use_sample(message(LOSS))


@pytest.mark.parametrize("path, title", [("nyud_fcn32s_color/test", "NYUDv2"), ("siftflow_fcn8s/trainval", "SIFT Flow"),
                                         ("pascalcontext_fcn8s/train", "PASCAL-Context")])
def test_the_sample_data_set_does_not_stand_for_sets_of_other_layouts(path, title):
    net = text.read_net(str(ROOT / "models" / f"{path}.prototxt"))
    with pytest.raises(Error, match=f"layer 'data' reads {title} .*VOC's layout"):
        data_layers.use_sample(net)
