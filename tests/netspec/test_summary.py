import pytest

from netspec import summary
from tests.solvers import doors

NET = """
name: "small: <b>"
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } shape { dim: 2 dim: 1 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" relu_param { negative_slope: 0.1 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "both" type: "Eltwise" bottom: "pool1" bottom: "pool1" top: "both" eltwise_param { coeff: 0.5 coeff: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "both" top: "fc" param { lr_mult: 0 } param { lr_mult: 0 }
  inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    doors.write(tmp_path / "net.prototxt", NET)


def test_every_layer_has_a_line_and_the_columns_are_aligned(capsys):
    code, out, _ = doors.run(capsys, summary.main, "net.prototxt")
    lines = out.splitlines()
    assert code == 0
    rows = {line.split()[0]: " ".join(line.split()) for line in lines if line[:1].strip()}
    assert rows["conv1"] == "conv1 Convolution 5 3x3 pad 1 data conv1 2x5x8x8 140 1 2 17.3 k"
    assert rows["relu1"] == "relu1 ReLU negative_slope 0.1 conv1 conv1 2x5x8x8"
    assert rows["pool1"] == "pool1 Pooling 2x2 /2 AVE conv1 pool1 2x5x4x4"
    assert rows["both"] == "both Eltwise coeff 0.5 0.5 pool1, pool1 both 2x5x4x4"
    assert rows["fc"] == "fc InnerProduct 4 both fc 2x4 324 fixed 640"
    assert lines[-1] == "7 layers, 464 parameters (140 learned; 0.0 MiB), 17.9 k MACs, blobs 0.0 MiB"
    tops = lines[0].index("top ")
    assert all(line[tops - 1] == " " and line[tops] != " " for line in lines[2:-1])


def test_the_second_top_has_a_line_of_its_own(capsys):
    _, out, _ = doors.run(capsys, summary.main, "net.prototxt")
    assert [line.split() for line in out.splitlines()][3] == ["label", "2x1"]


def test_models_have_names_and_typos_are_met(capsys):
    code, out, _ = doors.run(capsys, summary.main, "fcn_sample")
    assert code == 0 and "upscore8" in out
    assert "did you mean 'fcn_sample'?" in doors.refused(capsys, summary.main, "fcn_sampl", code=2)
