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


def test_options_of_a_model_are_set_and_said_in_the_first_line():
    made = make.make("fcn16s", "train", settings={"interpolation": "learned", "mirror": True})
    assert "make fcn16s --split train --set interpolation=learned --set mirror=True`;" in made.splitlines()[0]
    layers = {one.name: one for one in text.parse(made, caffe_pb2.NetParameter()).layer}
    assert layers["upscore2"].param[0].lr_mult == 1 and layers["upscore16"].param[0].lr_mult == 0
    assert data_layer(made)[1]["mirror"] is True
    solver = text.parse(make.make("fcn32s", "solver", settings={"learning": "accum", "max_iter": 9}), caffe_pb2.SolverParameter())
    assert (solver.iter_size, solver.max_iter) == (20, 9)


def test_list_of_a_model_prints_its_options(capsys):
    assert make.main(["--list", "voc-fcn8s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(make.recipe("fcn8s").OPTIONS)
    assert any("paper" in line or "4.3" in line for line in lines)


def test_a_variant_is_written_into_a_folder_where_it_can_be_run(tmp_path, capsys):
    folder = tmp_path / "new" / "run"
    assert make.main(["fcn32s", "--set", "learning=accum", "--set", "base_lr=1e-9", "--into", str(folder), "--classes", "5"]) == 0
    assert sorted(one.name for one in folder.iterdir()) == ["deploy.prototxt", "net.py", "solver.prototxt", "train.prototxt",
                                                            "val.prototxt"]
    assert capsys.readouterr().out.splitlines() == [str(folder / one) for one in (
        "train.prototxt", "val.prototxt", "deploy.prototxt", "solver.prototxt", "net.py")]
    solver = text.parse((folder / "solver.prototxt").read_text(), caffe_pb2.SolverParameter())
    assert solver.snapshot_prefix == f"{folder}/snapshot/train" and solver.iter_size == 20
    assert solver.base_lr == pytest.approx(1e-9)
    assert "num_output: 5" in (folder / "train.prototxt").read_text()
    said = {}
    exec((folder / "net.py").read_text(), said)
    assert said["start"] is make.recipe("fcn32s").start
    assert make.main(["fcn32s", "--into", str(folder)]) == 0  # again, over what it has made itself
    assert "iter_size: 1\n" in (folder / "solver.prototxt").read_text()


@pytest.mark.parametrize("file", ["net.py", "val.prototxt"])
def test_files_of_others_are_not_overwritten(tmp_path, file):
    (tmp_path / file).write_text("mine")
    with pytest.raises(Error, match=f"{file}' is there and was not made by this command; nothing is written"):
        make.main(["fcn32s", "--into", str(tmp_path)])
    assert [one.name for one in tmp_path.iterdir()] == [file] and (tmp_path / file).read_text() == "mine"


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
    (["fcn8s", "--set", "interpolation=lerned"], 2, "did you mean 'learned'?; it may be fixed, learned"),
    (["fcn8s", "--set", "finest=16"], 2, "fcn8s has no option 'finest'; it has biases, normalization, "),
    (["fcn8s", "--set", "max_iter=5"], 2, "fcn8s has no option 'max_iter'"),
    (["fcn8s", "--split", "solver", "--set", "max_itr=5"], 2, "did you mean 'max_iter'?; it has biases, "),
    (["fcn8s", "--split", "solver", "--set", "max_iter=many"], 1, "SolverParameter.max_iter takes a whole number"),
    (["fcn8s", "--set", "fusion"], 2, "--set takes KEY=VALUE, such as finest=16; got 'fusion'"),
    (["fcn8s", "--set", "sampling=2"], 1, "sampling is 2; give a probability above 0, at most 1"),
    (["fcn8s", "--into", "x", "--split", "val"], 2, "--into writes every split"),
    (["fcn8s", "--into", "/proc/none"], 1, "error: "),
    (["--list", "fcn9s"], 2, "unknown model 'fcn9s'; did you mean 'fcn8s'?"),
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
    (tmp_path / "fcn16s").mkdir()
    (tmp_path / "fcn16s" / "net.py").write_text("")
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    assert make.main(["--all"]) == 0
    assert sorted(path.name for path in (tmp_path / "fcn16s").glob("*.prototxt")) == [
        "deploy.prototxt", "solver.prototxt", "train.prototxt", "val.prototxt"]
    assert text.read_net(tmp_path / "fcn16s" / "train.prototxt") == make.recipe("fcn16s").net("train")
    assert make.main(["--all"]) == 0
    assert capsys.readouterr().err.splitlines() == ["1 models, 4 files changed", "1 models, 0 files changed"]


def test_a_recipe_that_lacks_something_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "models.fcn8s.net", sys)
    with pytest.raises(Error, match="models/fcn8s/net.py does not define DESCRIPTION, SPLITS, net, solver"):
        make.make("fcn8s")
    with pytest.raises(UnknownName):
        make.make("nothing")
