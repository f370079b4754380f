import numpy as np
import pytest

from layers.core.net import Net
from netspec import import_torch, weights
from netspec.torch_file import read_state
from tests.netspec import torch_files
from tests.solvers import doors

CHANNELS = (2, 3, 4, 4, 5)
SIDE = 7  # of pool5 at 224 x 224


def state_of(stages=import_torch.VGG["vgg16"], timm=False, classes=6):
    """Return a VGG's state with few channels, random."""
    rng = np.random.default_rng(3)
    state, below, at = {}, 3, 0
    for count, channels in zip(stages, CHANNELS):
        for _ in range(count):
            state[f"features.{at}.weight"] = rng.uniform(-0.4, 0.4, (channels, below, 3, 3)).astype(np.float32)
            state[f"features.{at}.bias"] = rng.uniform(-0.1, 0.1, channels).astype(np.float32)
            below, at = channels, at + 2
        at += 1
    sizes = ((8, below * SIDE * SIDE), (7, 8), (classes, 7))
    for which, (outputs, inputs) in enumerate(sizes):
        name = list(import_torch.DENSE.values())[which][timm]
        shape = (outputs, inputs)
        if timm and which < 2:
            shape = (outputs, below, SIDE, SIDE) if which == 0 else (outputs, inputs, 1, 1)
        state[f"{name}.weight"] = rng.uniform(-0.3, 0.3, shape).astype(np.float32)
        state[f"{name}.bias"] = rng.uniform(-0.1, 0.1, outputs).astype(np.float32)
    return state


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scores(prototxt, caffemodel, image):
    net = Net(prototxt, weights=caffemodel)
    net.blobs["data"].data[...] = image
    net.forward()
    return net.blobs["prob"].data.reshape(-1).copy()


@pytest.mark.parametrize("fcn", [False, True])
@pytest.mark.parametrize("timm", [False, True])
def test_the_converted_net_computes_what_the_original_does_on_its_own_pixels(capsys, here, fcn, timm):
    torch_files.save_safetensors(here / "vgg.safetensors", state_of(timm=timm))
    words = ["--fcn"] if fcn else []
    code, _, err = doors.run(capsys, import_torch.main, "vgg.safetensors", "vgg.caffemodel", "--net", "vgg.prototxt", *words)
    assert code == 0 and "vgg16, 16 layers" in err and "BGR, 0 to 255, minus 103.53, 116.28, 123.675" in err
    doors.run(capsys, import_torch.main, "vgg.safetensors", "plain.caffemodel", "--keep-scale", *words)
    rgb = np.random.default_rng(1).integers(0, 256, (3, 224, 224)).astype(np.float64)
    theirs = (rgb / 255 - np.reshape(import_torch.MEAN, (3, 1, 1))) / np.reshape(import_torch.SPREAD, (3, 1, 1))
    caffes = (rgb - 255 * np.reshape(import_torch.MEAN, (3, 1, 1)))[::-1]
    assert np.allclose(scores("vgg.prototxt", "vgg.caffemodel", caffes), scores("vgg.prototxt", "plain.caffemodel", theirs[::-1]),
                       rtol=1e-5)


def test_only_the_order_of_the_first_layers_channels_changes_without_the_scale(here):
    state = state_of()
    torch_files.save(here / "vgg.pth", *torch_files.tensors(state), legacy=True)
    name, net, layers = import_torch.convert(read_state(here / "vgg.pth"), fold=False)
    assert name == "vgg16" and [layer.name for layer in net.layer][:4] == ["data", "conv1_1", "relu1_1", "conv1_2"]
    assert np.array_equal(layers["conv1_1"][0], state["features.0.weight"][:, ::-1])
    assert np.array_equal(layers["conv5_3"][0], state["features.28.weight"])
    assert np.array_equal(layers["fc6"][0], state["classifier.0.weight"])
    assert np.array_equal(layers["fc8"][1], state["classifier.6.bias"])


def test_convolutional_layers_have_the_shapes_of_an_fcn(capsys, here):
    torch_files.save_safetensors(here / "vgg.safetensors", state_of())
    doors.run(capsys, import_torch.main, "vgg.safetensors", "vgg.h5", "--fcn")
    with weights.read_weights("vgg.h5") as source:
        assert [source.layers[name][0].shape for name in ("fc6", "fc7", "fc8")] == [(8, 5, 7, 7), (7, 8, 1, 1), (6, 7, 1, 1)]


@pytest.mark.parametrize("name", import_torch.VGG)
def test_each_vgg_is_told_by_its_layers(here, name):
    stages = import_torch.VGG[name]
    torch_files.save_safetensors(here / "x", {f"module.{key}": one for key, one in state_of(stages).items()})
    found, net, layers = import_torch.convert(read_state(here / "x"))
    assert found == name and sum(stages) + 3 == len(layers)


def test_mistakes_are_said(capsys, here):
    def refused(state):
        torch_files.save_safetensors(here / "x.safetensors", state)
        line = doors.refused(capsys, import_torch.main, "x.safetensors", "out.caffemodel")
        assert not (here / "out.caffemodel").exists()
        return line

    state = state_of()
    assert "has batch normalisation" in refused({**state, "features.1.running_mean": np.zeros(2, np.float32)})
    assert "is none of vgg11, vgg13, vgg16, vgg19" in refused({"conv1.weight": np.zeros((2, 3, 7, 7), np.float32)})
    less = {name: one for name, one in state.items() if name != "features.2.bias"}
    assert "lacks 'features.2.bias', for conv1_2" in refused(less)
    assert "its second size must be 3" in refused({**state, "features.0.weight": np.zeros((2, 1, 3, 3), np.float32)})
    assert "tried: " in doors.refused(capsys, import_torch.main, "none.pth", "out.caffemodel")
