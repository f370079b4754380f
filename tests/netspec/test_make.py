"""The door that makes prototxts: names, splits, classes, data, mistakes."""

import ast
import subprocess
import sys

import pytest

from netspec import caffe_pb2, make, recipes, text
from netspec.errors import Error, UnknownName
from tests.support import ROOT


def door(*arguments):
    return subprocess.run([sys.executable, "-m", "netspec.make", *arguments], capture_output=True, text=True, cwd=ROOT)


def data_layer(prototxt):
    layer = text.parse(prototxt, caffe_pb2.NetParameter()).layer[0]
    return layer.python_param, ast.literal_eval(layer.python_param.param_str)


def test_the_first_split_is_the_default_and_goes_to_stdout():
    result = door("fcn8s")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout == make.make("fcn8s", "train")
    assert make.make("nyud_fcn32s_color") == make.make("nyud_fcn32s_color", "trainval")


@pytest.mark.parametrize("published, name", [
    ("voc-fcn8s", "fcn8s"), ("voc-fcn-alexnet", "fcn_alexnet"), ("voc-fcn8s-atonce", "fcn8s_atonce"),
    ("nyud-fcn32s-color-hha", "nyud_fcn32s_color_hha"), ("siftflow-fcn16s", "siftflow_fcn16s"),
    ("pascalcontext-fcn8s", "pascalcontext_fcn8s"), ("FCN32s", "fcn32s"),
])
def test_published_names_are_known(published, name):
    assert recipes.find(published) == name


def test_all_models_of_the_paper_are_here():
    families = {"fcn": "32s 16s 8s 8s_atonce _alexnet", "nyud_fcn32s_": "color color_d hha color_hha",
                "siftflow_fcn": "32s 16s 8s", "pascalcontext_fcn": "32s 16s 8s"}
    paper = {first + last for first, rest in families.items() for last in rest.split()}
    assert len(paper) == 15 and paper < set(recipes.names())


def test_list_has_a_line_for_each_model(capsys):
    assert make.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert all("deploy solver" in line for line in lines)


def test_classes_and_data_are_set():
    made = make.make("fcn8s", "val", classes=5, data={"voc_dir": "/there", "mean": (1, 2, 3)})
    python, params = data_layer(made)
    assert python.layer == "VOCSegDataLayer"
    assert params == {"voc_dir": "/there", "split": "seg11valid", "mean": (1, 2, 3), "seed": 1337}
    net = text.parse(made, caffe_pb2.NetParameter())
    assert {one.convolution_param.num_output for one in net.layer if one.name.startswith("score")} == {5, 0}


def test_a_solver_names_its_nets_and_where_snapshots_go():
    solver = text.parse(make.make("siftflow_fcn8s", "solver"), caffe_pb2.SolverParameter())
    assert solver.train_net == "trainval.prototxt" and list(solver.test_net) == ["test.prototxt"]
    assert solver.snapshot_prefix == "models/siftflow_fcn8s/snapshot/trainval"
    assert solver.snapshot == 2000  # the published files say none and lose the weights


@pytest.mark.parametrize("arguments, code, says", [
    (["fcn8"], 2, "unknown model 'fcn8'; did you mean 'fcn8s'?; models: fcn16s, "),
    (["fcn8s", "--split", "trainval"], 2,
     "fcn8s has no split 'trainval'; did you mean 'train'?; it has train, val, deploy, solver"),
    ([], 2, "which model?"),
    (["--all", "fcn8s"], 2, "--all none and no model"),
    (["--list", "fcn8s", "--split", "val"], 2, "--list takes no option"),
    (["fcn8s", "--data", "sbd_dir=/x"], 2,
     "SBDDSegDataLayer has no parameter 'sbd_dir' in its train net; did you mean 'sbdd_dir'?; it takes sbdd_dir,"),
    (["fcn8s", "--data", "voc_dir=/x"], 2, "no parameter 'voc_dir'"),
    (["fcn8s", "--split", "deploy", "--data", "voc_dir=/x"], 1, "a deploy net has no data layer"),
    (["fcn8s", "--split", "solver", "--classes", "3"], 1, "a solver has no classes"),
    (["fcn8s", "--classes", "0"], 1, "classes is 0; give 1 to 100000"),
    (["fcn8s", "--classes", "999999999999"], 1, "classes is 999999999999"),
])
def test_mistakes_are_one_line_and_a_code(arguments, code, says):
    result = door(*arguments)
    assert result.returncode == code and result.stdout == ""
    assert says in result.stderr and "Traceback" not in result.stderr


def test_help_shows_an_example():
    result = door("--help")
    assert result.returncode == 0 and "python -m netspec.make fcn8s > models/fcn8s/train.prototxt" in result.stdout


def test_all_writes_only_what_changed(tmp_path, monkeypatch, capsys):
    (tmp_path / "fcn32s").mkdir()
    (tmp_path / "fcn32s" / "net.py").write_text("")
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    assert make.main(["--all"]) == 0
    assert sorted(path.name for path in (tmp_path / "fcn32s").glob("*.prototxt")) == [
        "deploy.prototxt", "solver.prototxt", "train.prototxt", "val.prototxt"]
    assert text.read_net(tmp_path / "fcn32s" / "train.prototxt") == make.recipe("fcn32s").net("train")
    assert make.main(["--all"]) == 0
    assert capsys.readouterr().err.splitlines() == ["1 models, 4 files changed", "1 models, 0 files changed"]


def test_a_recipe_that_lacks_something_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "models.fcn8s.net", sys)
    with pytest.raises(Error, match="models/fcn8s/net.py does not define DESCRIPTION, SPLITS, net, solver"):
        make.make("fcn8s")
    with pytest.raises(UnknownName):
        make.make("nothing")
