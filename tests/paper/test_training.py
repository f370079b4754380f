"""Training runs: kept and shared, resumed with the bits of an unbroken run, scored as the score door scores."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from data import metrics, sample
from layers.core.net import Net
from netspec import caffe_pb2
from netspec.errors import Error
from paper import classifier, experiment, training
from paper.training import Run, train
from solvers import nets, score


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return experiment.Context("it", scratch=tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def folder(context):
    return training.sample(context, 4, 2)


@pytest.fixture(scope="module")
def one(folder):
    return Run("short", "fcn_sample", {"finest": 32}, images=4, points=2, train={"voc_dir": folder}, val={"voc_dir": folder},
               fields={"base_lr": 0.001})


def test_no_run_is_done_twice(context, one, monkeypatch):
    said = []
    monkeypatch.setattr(context, "_say", said.append)
    first = train(context, one)
    assert [line for line in said if "short" in line]
    said.clear()
    monkeypatch.setattr(training, "_train", None)  # would fail if it were called
    again = train(context, one)
    assert not said and again.points == first.points and again.weights == first.weights
    assert [point["iteration"] for point in first.points] == [2, 4]
    assert [iteration for iteration, _ in first.losses] == [1, 2, 3, 4]


def test_whatever_decides_a_run_is_in_its_key(context, one):
    def key(run):
        weights = [pathlib.Path(run.weights)] if run.weights else []
        return training._digest(*run.messages(), weights)

    keys = {key(one), key(one.but("short", seed=2)), key(one.but("short", options={"finest": 16})),
            key(one.but("short", images=5)), key(one.but("short", fields={"momentum": 0.5})),
            key(one.but("short", train={"split": "trainval"})), key(one.but("short", val={"split": "train"})),
            key(one.but("short", weights=train(context, one).weights))}
    assert len(keys) == 8
    assert key(one.but("another")) == key(one)


def test_scores_are_those_of_the_solvers_scorer(context, one, tmp_path):
    trained = train(context, one)
    message = one.messages()[1]
    net = Net(message, caffe_pb2.TEST, weights=trained.weights)
    hist, _ = score.score_net(net, 2)
    net.close()
    assert np.array_equal(trained.hist, hist) and trained.scores["mean_iu"] == metrics.scores(hist)["mean_iu"]
    assert np.array_equal(training.scored_with(context, trained), hist)
    assert nets.heads(message) == []  # labels meet no loss there: they may be masked or one-hot in training
    masked = training.scored_with(context, trained, {"condition": "Reference-FG"})
    assert masked.sum() == hist.sum()
    name, image, truth, prediction = training.predictions(context, trained, 2)[1]
    assert name == "val_0002" and image.shape[:2] == truth.shape == prediction.shape


def test_a_stopped_run_goes_on_with_the_same_bits(context, one, tmp_path, monkeypatch):
    whole = train(context, one)
    other = experiment.Context("it", scratch=tmp_path)
    keep = training._keep

    def stop_after(machine, *rest):
        keep(machine, *rest)
        if machine.iter == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_keep", stop_after)
    with pytest.raises(KeyboardInterrupt):
        train(other, one)
    monkeypatch.setattr(training, "_keep", keep)
    parts = []
    resumed = train(other, one, parts.append)
    assert pathlib.Path(resumed.weights).read_bytes() == pathlib.Path(whole.weights).read_bytes()
    for a, b in zip(resumed.points, whole.points, strict=True):
        assert a["hist"] == b["hist"] and a["loss"] == b["loss"]
    assert resumed.losses == whole.losses and parts == [0.75, 1.0, 1.0]
    left = sorted(path.name for path in pathlib.Path(resumed.weights).parent.iterdir())
    assert left == ["done.json", "net_iter_4.caffemodel", "net_iter_4.json", "train.log"]


def test_stages_begin_with_the_weights_of_the_one_before(context, one):
    finer = one.but("finer", options={"finest": 16}, fields={"base_lr": 0.0}, images=1, points=1, weights=one)
    trained, before = train(context, finer), train(context, one)
    net = Net(finer.messages()[1], caffe_pb2.TEST, weights=trained.weights)
    first = Net(one.messages()[1], caffe_pb2.TEST, weights=before.weights)
    assert np.array_equal(net.params["conv3_1"][0].data, first.params["conv3_1"][0].data)
    assert np.array_equal(net.params["score_fr"][0].data, first.params["score_fr"][0].data)
    assert not net.params["score_pool4"][0].data.any()  # a new skip begins at zero
    net.close()
    first.close()


def test_accumulation_looks_at_as_many_images_in_fewer_updates(one):
    accum = one.but("accum", options={"learning": "accum"}, images=60)
    param = accum.messages()[2]
    assert (accum.updates, param.iter_size, param.max_iter) == (3, 20, 3)
    assert one.but("heavy", options={"learning": "heavy"}).updates == 4


def test_classifier_learns_from_crops_that_say_what_and_not_where(context):
    weights, accuracy = classifier.pretrained(context, (4, 4, 4, 4, 4), 1, 8, pictures=8, held_out=4, iterations=2)
    assert pathlib.Path(weights).exists() and 0 <= accuracy <= 1
    assert classifier.pretrained(context, (4, 4, 4, 4, 4), 1, 8, pictures=8, held_out=4, iterations=2) == (weights, accuracy)
    data, kinds = zip(*classifier.crops("train", 10, 7))
    assert {one.shape for one in data} == {(3, 64, 64)} and set(kinds) == set(range(classifier.OBJECTS))
    for number, kind in enumerate(kinds, 1):
        _, label = sample.scene(np.random.default_rng([7, 11, number]), number)
        assert np.bincount(label[label < 6], minlength=6)[1:].argmax() == kind


def test_bad_names_and_missing_weights_are_one_line(context, one):
    with pytest.raises(Error, match="may hold letters"):
        train(context, one.but("../out"))
    with pytest.raises(Error, match="weights 'nowhere.caffemodel' not found"):
        train(context, one.but("none", weights="nowhere.caffemodel"))


def test_divergence_is_an_error_or_a_result_of_its_own(context, one):
    wild = one.but("wild", fields={"base_lr": 1e30}, points=1)
    with pytest.raises(Error, match="run 'wild': the loss is"):
        train(context, wild)
    trained = train(context, dataclasses.replace(wild, may_diverge=True))
    assert trained.diverged.startswith("the loss is") and not trained.points and trained.best() is None


def test_a_damaged_record_is_not_taken_for_a_whole_run(context, one, folder):
    broken = one.but("broken", images=1, points=1)
    train(context, broken)
    (done,) = training.shared(context).glob("broken-*/done.json")
    kept = json.loads(done.read_text())
    done.write_text(done.read_text()[:20])
    with pytest.raises(Error, match="done.json.*remove"):
        train(context, broken)
    done.unlink()
    assert train(context, broken).points[-1]["hist"] == kept["points"][-1]["hist"]
