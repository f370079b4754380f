"""The data layer: what it delivers, its parameters, exact resume."""

import json

import numpy as np
import pytest

from data.voc import VOCSegDataLayer
from netspec.errors import Error
from tests.data import folders

MEAN = (104.0, 117.0, 123.0)


def test_reshaping_again_keeps_the_sample(tmp_path):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path), split="seg11valid", mean=MEAN)
    for number in range(4):
        for _ in range(3):
            layer.reshape([], tops)
        assert layer.current is None if number == 0 else layer.current.endswith(str(number - 1))
        layer.forward([], tops)
        assert layer.current.endswith(str(number)) and layer.current in layer.current_files[0]
    layer.close()


@pytest.mark.parametrize("prefetch", [0, 1, 4])
@pytest.mark.parametrize("params", [{"split": "train", "seed": 3}, {"split": "train"}, {"split": "seg11valid"}])
def test_twenty_equals_ten_restore_ten(tmp_path, prefetch, params):
    folder = folders.voc(tmp_path)
    first, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, mean=MEAN, prefetch=prefetch, **params)
    for _ in range(10):
        folders.step(first, tops)
    state = json.loads(json.dumps(first.get_state()))
    rest = [folders.step(first, tops) for _ in range(10)]
    second, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, mean=MEAN, prefetch=prefetch, **params)
    second.reshape([], tops)  # a net reshapes when it is made, before the state comes
    folders.step(second, tops)
    second.set_state(state)
    for name, data, label in rest:
        again = folders.step(second, tops)
        assert again[0] == name and np.array_equal(again[1], data) and np.array_equal(again[2], label)
    first.set_state(state)
    assert [folders.step(first, tops)[0] for _ in range(10)] == [name for name, _, _ in rest]
    first.close()
    second.close()


@pytest.mark.parametrize("change, message", [
    ({"voc_dri": "x"}, "unknown key 'voc_dri' in param_str; did you mean 'voc_dir'"),
    ({"mean": (1, 2)}, "'mean' in param_str must be three numbers"),
    ({"mean": (1, 2, "a")}, "three numbers"),
    ({"mean": (1, 2, 1e999)}, "not a Python literal|three numbers"),
    ({"mean": None}, "lacks 'mean'"),
    ({"split": None}, "lacks 'split'"),
    ({"split": 3}, "'split' in param_str must be the name of a list"),
    ({"seed": "a"}, "'seed' in param_str must be an integer or None, got 'a'"),
    ({"classes": 0}, "classes must be an integer from 1 to 256, got 0"),
    ({"prefetch": -1}, "'prefetch'"),
    ({"draws": "dice"}, "'python3' or 'python2', got 'dice'"),
    ({"voc_dir": 5}, "'voc_dir' in param_str must be a path"),
])
def test_a_wrong_parameter_is_said_with_its_value(tmp_path, change, message):
    params = {"voc_dir": folders.voc(tmp_path, 1), "split": "train", "mean": MEAN, **change}
    with pytest.raises(Error, match=message):
        folders.layer(VOCSegDataLayer, **params)


@pytest.mark.parametrize("text", ["{", "__import__('os').system('true')", "[1]", "'a'", "dict(a=1)", "(" * 5000, "\0"])
def test_param_str_is_a_literal_and_never_code(text):
    layer = VOCSegDataLayer()
    layer.param_str = text
    with pytest.raises(Error, match="param_str"):
        layer.setup([], [folders.Blob(), folders.Blob()])


def test_two_tops_and_no_bottom(tmp_path):
    layer = VOCSegDataLayer()
    layer.param_str = str({"voc_dir": folders.voc(tmp_path, 1), "split": "train", "mean": MEAN})
    with pytest.raises(Error, match=r"needs 2 tops \(data, label\), got 1"):
        layer.setup([], [folders.Blob()])
    with pytest.raises(Error, match="takes no bottoms, got 1"):
        layer.setup([folders.Blob()], [folders.Blob()] * 2)
