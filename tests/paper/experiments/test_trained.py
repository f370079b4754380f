"""The trained experiments with next to no training: that they run, share their nets and say what they must.

Their verdicts need the full runs; those are kept in paper/results/.
"""

import dataclasses
import importlib
import pathlib
import shutil

import numpy as np
import pytest

from data import sample
from layers.core.net import Net
from models.fcn_squeezenet import net as squeezenet
from netspec import caffe_pb2
from netspec.errors import PathError
from paper import drawn, experiment, training
from paper.experiments import choices, learning, masking, sampling, skips, transfer

DRAWN = ("choices", "learning", "losses", "masking", "max_fusion", "sampling", "skips")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A scratch folder that the tests share, as the experiments do."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(drawn, "SIZE", drawn.Size(images=2, seeds=(1,), pictures=3, held_out=2, points=1, crops=20, steps=1))
    monkeypatch.setattr(learning, "RATES", {how: rates[:1] for how, rates in learning.RATES.items()})


@pytest.mark.parametrize("name", DRAWN)
def test_runs_and_says_what_it_must(name, scratch, monkeypatch):
    if name in ("sampling", "max_fusion"):
        monkeypatch.setattr(drawn, "SIZE", dataclasses.replace(drawn.SIZE, seeds=(1, 2)))
    told = []
    one = experiment.Experiment(experiment.FOLDER / f"{name}.py")
    result, pictures = one.run(experiment.Context(name, scratch=scratch, progress=told.append))
    assert told == sorted(told) and told[-1] == 1.0
    assert {row["verdict"] for row in result["rows"]} <= {"same shape", "not reproduced"}
    assert all(row["note"] and row["place"] for row in result["rows"])
    first = [row["place"] for row in result["rows"] if not row["ran"].startswith("the same runs")]
    assert sorted(first) == sorted({row["place"] for row in result["rows"]})
    assert "mean_iu" in result["numbers"] or "mean_iu_without_background" in result["numbers"]
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 0
    assert set(drawn.DEPENDS) <= set(one.depends)


def test_the_reference_is_trained_once(scratch):
    context = experiment.Context("it", scratch=scratch)
    reference = drawn.reference(context, 1)
    for other in (learning.net(context, "online", drawn.RATE, 1), sampling.net(context, 1.0, 1),
                  masking.net(context, "Reference", 1), choices.nets(context, 1, [1.0] * 6, 1e-9)["plain"]):
        assert other == reference


def test_fixed_features_do_not_move(scratch):
    context = experiment.Context("it", scratch=scratch)
    fixed = skips.nets(context, 1)["32s fixed"]
    trained = training.train(context, fixed.but(fixed.name, fields={"base_lr": 1e-3}))
    before = Net(fixed.messages()[1], caffe_pb2.TEST, weights=fixed.weights)
    after = Net(fixed.messages()[1], caffe_pb2.TEST, weights=trained.weights)
    for name in before.params:
        same = [np.array_equal(a.data, b.data) for a, b in zip(before.params[name], after.params[name])]
        assert all(same) != name.startswith("score"), name
    before.close()
    after.close()


def test_sampled_gradients_are_those_of_the_kept_cells_of_more_images(scratch):
    context = experiment.Context("it", scratch=scratch)
    whole, half = (sampling.net(context, p, 1).messages()[2] for p in (1.0, 0.5))
    assert (half.iter_size, half.max_iter) == (2, whole.max_iter)
    assert half.base_lr == pytest.approx(2 * whole.base_lr) and half.weight_decay == pytest.approx(whole.weight_decay / 2)


def test_classes_are_balanced_by_their_share_of_the_labels(tmp_path):
    folder = tmp_path / "drawn"
    sample.draw(folder, 3, 1)
    weights, share = choices.balanced(folder)
    counts = sum(np.bincount(label[label < 6], minlength=6) for label in _labels(folder))
    assert share == pytest.approx(counts[0] / counts.sum())
    assert sum(weight * count for weight, count in zip(weights, counts)) == pytest.approx(counts.sum(), rel=1e-2)


def _labels(folder):
    return [label for _, _, label in importlib.import_module("data.voc").VOC(str(folder), "train")]


def test_orders_are_of_means_over_seeds():
    scores = {"a": [0.1, 0.3], "b": [0.2, 0.25], "c": [0.5, 0.6]}
    assert drawn.ordered(scores, "a", "b", "c") and not drawn.ordered(scores, "b", "a")
    assert drawn.in_every_seed(scores, "a", "b") == "in 1 of 2 seeds"
    assert drawn.percent([0.5, 0.6]) == "55.0 (50.0 to 60.0)" and drawn.percent([0.5]) == "50.0"
    assert drawn.shape("c", "4.3", "ran", 1, 2, False).verdict == "not reproduced"


def test_transfer_runs_on_a_folder_like_the_real_one(tmp_path, monkeypatch):
    real = tmp_path / "real"
    sample.draw(real / "voc", 2, 2)
    shutil.copy(real / "voc" / "ImageSets" / "Segmentation" / "val.txt", real / "voc" / "ImageSets" / "Segmentation" / "held.txt")
    context = experiment.Context("transfer", real=real, scratch=tmp_path / "scratch")
    with pytest.raises(PathError, match="squeezenet_v1.0.caffemodel"):
        transfer.nets(context, 1)
    weights = real / "squeezenet_v1.0" / "squeezenet_v1.0.caffemodel"
    weights.parent.mkdir()
    made = Net(squeezenet.net("deploy"), caffe_pb2.TEST, seed=1)
    made.save(weights)
    made.close()
    monkeypatch.setattr(transfer, "SIZE", transfer.Size(1, 1, (1,), 1, held_out="held"))
    result, pictures = experiment.Experiment(experiment.FOLDER / "transfer.py").run(context)
    assert result["needs"] == ["real"] and set(result["numbers"]["mean_iu"]) == set(transfer.PAPER)
    assert result["curves"]["16s"]["x"] == [2] and pictures["strides"].size
    assert pathlib.Path(training.shared(context)).is_dir()
