"""Which picture comes next, and exact resume."""

import random

import pytest

from data.voc import VOCSegDataLayer
from netspec.errors import Error
from tests.data import folders

MEAN = (104.0, 117.0, 123.0)


def test_a_training_split_is_drawn_as_the_published_loader_draws(tmp_path):
    folder = folders.voc(tmp_path)
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, split="train", mean=MEAN, seed=1337)
    random.seed(1337)
    expected = [random.randint(0, 6) for _ in range(30)]
    got = [folders.step(layer, tops)[0] for _ in range(30)]
    assert got == [layer.dataset.ids[i] for i in expected]
    layer.close()


def test_python2_draws_are_multiplications(tmp_path):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path), split="train", mean=MEAN, seed=5,
                                draws="python2")
    generator = random.Random(5)
    expected = [int(generator.random() * 7) for _ in range(10)]
    assert [folders.step(layer, tops)[0] for _ in range(10)] == [layer.dataset.ids[i] for i in expected]
    layer.close()


@pytest.mark.parametrize("params", [{"split": "seg11valid"}, {"split": "train", "randomize": False}])
def test_other_splits_go_in_order_and_wrap(tmp_path, params):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path, 3), mean=MEAN, seed=1, **params)
    assert [folders.step(layer, tops)[0][-1] for _ in range(7)] == list("0120120")
    layer.close()


def test_a_state_of_another_list_or_order_is_refused(tmp_path):
    folder = folders.voc(tmp_path)
    layer, _ = folders.layer(VOCSegDataLayer, voc_dir=folder, split="train", mean=MEAN, seed=1)
    state = layer.get_state()
    with pytest.raises(Error, match="list of 9 pictures, this list has 7"):
        layer.set_state({**state, "count": 9})
    with pytest.raises(Error, match="the list has changed"):
        layer.set_state({**state, "id": "2011_000001"})
    with pytest.raises(Error, match="sequential"):
        layer.set_state({**state, "random": None})
    for change in ({"random": [3, [1, 2]]}, {"random": [3, ["a"]]}, {"random": 3}, {"index": 99}, {"count": None}):
        with pytest.raises(Error, match="data order to restore"):
            layer.set_state({**state, **change})
    for damaged in ({}, [], None):
        with pytest.raises(Error, match="data order to restore"):
            layer.set_state(damaged)
    assert layer.get_state() == state
