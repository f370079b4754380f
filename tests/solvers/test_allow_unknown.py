"""--allow-unknown: every command that reads a net drops what neither Caffe nor a known fork has, and says so."""

import re

import numpy as np
import pytest
from PIL import Image

from netspec import caffe_pb2, draw, export_onnx, measure, summary, upgrade_file
from netspec.errors import Error
from solvers import compare, infer, nets, run, surgery
from solvers.solver import make

NET = """layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 }
  shape { dim: 1 dim: 1 dim: 8 dim: 8 } data_filler { type: "uniform" } data_filler { value: 1 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } quantize: true } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param { weight_by_label_freqs: true class_weighting: 0.3 class_weighting: 1.7 } }
"""
DEPLOY = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score" blur { }
  convolution_param { num_output: 21 kernel_size: 1 weight_filler { type: "xavier" } } }
"""
SOLVER = """net: "NET" eval_type: "detection" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 display: 1 random_seed: 1
solver_mode: CPU snapshot_after_train: false
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "deploy.prototxt").write_text(DEPLOY)
    (tmp_path / "solver.prototxt").write_text(SOLVER.replace("NET", str(tmp_path / "net.prototxt")))
    message = nets.read(tmp_path / "deploy.prototxt", allow_unknown=True)
    nets.save(tmp_path / "w.caffemodel", message, nets.open_net(message, tmp_path / "deploy.prototxt", seed=1).params)
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path


def test_training(folder, capsys):
    solver = str(folder / "solver.prototxt")
    with pytest.raises(Error, match="solver.prototxt:1:.*unknown field 'eval_type' in SolverParameter"):
        run.main([solver])
    assert run.main([solver, "--allow-unknown"]) == 0
    said = capsys.readouterr().err
    for line, field in (("solver.prototxt:1", "eval_type"), ("net.prototxt:4", "quantize"),
                        ("net.prototxt:6", "weight_by_label_freqs"), ("net.prototxt:6", "class_weighting")):
        assert re.search(rf"{line}:\d+: dropped unknown field '{field}' in ", said)


def test_nets_that_a_command_edits_first(folder, caplog):
    param = caffe_pb2.SolverParameter(net=str(folder / "net.prototxt"), base_lr=0.01, lr_policy="fixed", max_iter=1,
                                      solver_mode=caffe_pb2.SolverParameter.CPU, random_seed=1)
    seen = []
    with pytest.raises(Error, match="unknown field 'quantize'"):
        make(param, edit=seen.append)
    machine = make(param, edit=seen.append, allow_unknown=True)
    machine.close()
    assert len(seen) == 1 and "dropped unknown field 'quantize'" in caplog.text


@pytest.mark.parametrize("main, arguments", [
    (measure.main, ["{deploy}"]), (upgrade_file.main, ["{deploy}"]), (summary.main, ["{deploy}"]),
    (draw.main, ["{deploy}", "-o", "{out}.html"]),
    (infer.main, ["{deploy}", "{weights}", "{image}", "--out", "{out}", "--mean", "0,0,0"]),
    (compare.main, ["{deploy}", "{weights}", "--dump", "{out}.npz"]),
    (surgery.main, ["transplant", "{deploy}", "{weights}", "{deploy}", "--dry-run"]),
    (export_onnx.main, ["{deploy}", "{weights}", "{out}.onnx"]),
], ids=lambda value: getattr(value, "__module__", ""))
def test_commands(main, arguments, folder, capsys):
    if main is export_onnx.main:
        pytest.importorskip("onnx")
    names = dict(deploy=folder / "deploy.prototxt", weights=folder / "w.caffemodel", image=folder / "a.png", out=folder / "out")
    arguments = [argument.format(**names) for argument in arguments]
    with pytest.raises(Error, match="deploy.prototxt:2:71: unknown field 'blur' in LayerParameter"):
        main(arguments)
    assert main([*arguments, "--allow-unknown"]) == 0
    assert "deploy.prototxt:2:71: dropped unknown field 'blur' in LayerParameter" in capsys.readouterr().err
