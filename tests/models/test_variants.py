"""What the variants of a net do when they run: in thin nets, every layer as in the recipe's."""

import types

import numpy as np
import pytest

from layers.convolution import Convolution
from layers.core.net import Net
from models import start
from netspec import caffe_pb2, make
from tests.models.thin import thin


def opened(message, phase=caffe_pb2.TRAIN, seed=1, fill=True):
    """A net with random convolutions (as a pretrained trunk has), zero scores and bilinear upsampling, and inputs."""
    net = Net(message, phase, seed=seed)
    rng = np.random.RandomState(seed)
    for name, blobs in net.params.items():
        if net.layer_dict[name].type == "Convolution" and not name.startswith("score"):
            blobs[0].data[...] = rng.randn(*blobs[0].shape) * np.sqrt(2 / np.prod(blobs[0].shape[1:]))
    start.interp(net)
    for name in net.blobs:
        shape = net.blobs[name].shape
        if name == "data":
            net.blobs[name].data[...] = rng.randn(*shape)
        elif name == "label":
            net.blobs[name].data[...] = rng.randint(0, 2 if shape[1] > 1 else 6, shape)
    return net


def fill_scores(net, seed=2):
    rng = np.random.RandomState(seed)
    for name, blobs in net.params.items():
        if name.startswith("score"):
            blobs[0].data[...] = rng.randn(*blobs[0].shape)


@pytest.mark.parametrize("name, options", [
    ("fcn32s_fixed", {}), ("fcn16s", {"features": "fixed"}), ("fcn_sample", {"features": "fixed", "finest": 32}),
    ("fcn_squeezenet", {"features": "fixed"}),
])
def test_with_fixed_features_nothing_is_computed_backward_below_the_scores(name, options, monkeypatch):
    called = []
    backward = Convolution.backward
    monkeypatch.setattr(Convolution, "backward", lambda self, *rest: (called.append(self.name), backward(self, *rest))[0])
    net = opened(thin(name, **options))
    fill_scores(net)
    before = {one: [blob.data.copy() for blob in blobs] for one, blobs in net.params.items()}
    net.forward_backward()
    scores = {one for one in net.params if one.startswith("score")}
    assert scores and set(called) == scores
    backwards = {one for one, needed in zip(net.layer_names, net.layer_need_backward) if needed}
    assert not any(net.layer_dict[one].type in ("Pooling", "ReLU", "Concat", "Dropout") for one in backwards)
    for one, blobs in net.params.items():
        learns = one in scores
        assert all((blob.has_diff and blob.diff.any()) == learns for blob in blobs), one
        assert all(np.array_equal(blob.data, kept) for blob, kept in zip(blobs, before[one]))


@pytest.mark.parametrize("name, options, before, after", [
    ("fcn16s", {}, "upscore2", "fuse_pool4"), ("fcn8s", {}, "upscore_pool4", "fuse_pool3"),
    ("fcn_sample", {"finest": 16}, "upscore_pool4c", "fuse_pool4"),
])
def test_a_skip_that_starts_at_zero_does_not_disturb(name, options, before, after):
    """Section 4.3: the score layer of a new skip is zero, so what it is added to stays, bit for bit."""
    net = opened(thin(name, "deploy", **options), caffe_pb2.TEST)
    fill_scores(net)
    for blob in net.params[f"score_{after.removeprefix('fuse_')}"]:
        blob.data[...] = 0
    net.forward()
    assert net.blobs[after].data.any() and np.array_equal(net.blobs[after].data, net.blobs[before].data)


def test_max_fusion_gives_the_gradient_to_the_larger_stream():
    net = opened(thin("fcn16s", fusion="max"))
    fill_scores(net)
    net.forward_backward()
    up, skip, fused = (net.blobs[one] for one in ("upscore2", "score_pool4c", "fuse_pool4"))
    assert np.array_equal(fused.data, np.maximum(up.data, skip.data))
    wins = up.data > skip.data
    assert 0.1 < wins.mean() < 0.9 and not (skip.diff[wins]).any() and not up.diff[~wins].any()


def test_learned_interpolation_starts_bilinear_and_what_was_learned_is_kept():
    net = opened(thin("fcn8s", interpolation="learned"))
    fill_scores(net)
    net.forward_backward()
    for name, learned in (("upscore2", True), ("upscore_pool4", True), ("upscore8", False)):
        assert (net.params[name][0].has_diff and bool(net.params[name][0].diff.any())) == learned
    net.params["upscore2"][0].data[...] = 3
    net.params["upscore_pool4"][0].data[...] = 0
    net.params["upscore8"][0].data[...] = 3
    lines = start.interp(net)
    assert (net.params["upscore2"][0].data == 3).all() and lines[0] == "kept as learned: upscore2"
    assert net.params["upscore_pool4"][0].data.max() < 1 and net.params["upscore8"][0].data.max() < 1


def test_a_null_background_scores_zero_and_its_labels_have_no_channel():
    net = opened(thin("fcn32s_null_background", "deploy"), caffe_pb2.TEST)
    fill_scores(net)
    net.forward()
    scores = net.blobs["score"].data
    assert scores.shape[1] == 21 and not scores[:, 0].any()
    assert np.array_equal(scores[:, 1:], net.blobs["score_objects"].data) and scores[:, 1:].any()
    train = opened(thin("fcn32s_null_background"))
    assert train.blobs["score_objects"].shape[1] == train.blobs["label"].shape[1] == 20
    train.forward_backward()
    assert train.params["score_fr"][0].diff.any()


def test_of_two_classes_a_null_background_leaves_one_score():
    net = opened(thin("fcn32s_null_background", "deploy", classes=2), caffe_pb2.TEST)
    net.forward()
    assert net.blobs["score"].shape[1] == 2


def test_weights_of_classes_multiply_their_pixels_in_the_loss():
    weights = (0.25, 1, 2, 0, 1, 3)
    # Squeezed to a coarse image: per pixel -w[label] log p[label], summed.
    net = opened(thin("fcn_sample", finest=32, class_weights=weights, normalization="NONE"))
    fill_scores(net)
    loss = net.forward_backward()
    assert np.array_equal(net.blobs["class_weights"].data, np.diag(weights).astype(np.float32)[None, None])
    scores, labels = net.blobs["score"].data.astype(np.float64)[0], net.blobs["label"].data[0, 0].astype(int)
    p = np.exp(scores - scores.max(axis=0))
    p /= p.sum(axis=0)
    truth = np.take_along_axis(p, labels[None], axis=0)[0]
    assert loss == pytest.approx(float((-np.take(weights, labels) * np.log(truth)).sum()), rel=1e-5)
    want = (p - (np.arange(6)[:, None, None] == labels)) * np.take(weights, labels)
    np.testing.assert_allclose(net.blobs["score"].diff[0], want, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["fcn_googlenet", "fcn_pool5", "fcn_pool4", "fcn_pool3", "fcn32s_sigmoid"])
def test_training_steps_of_the_models_without_public_code_reach_the_first_layer(name):
    net = opened(thin(name))
    fill_scores(net)
    loss = net.forward_backward()
    first = next(one for one, layer in net.layer_dict.items() if layer.type == "Convolution")
    assert np.isfinite(loss) and loss > 0 and net.params[first][0].diff.any()


def test_start_of_every_recipe_takes_a_net_without_layers_of_messages():
    fake = types.SimpleNamespace(params={"upscore": [types.SimpleNamespace(data=np.zeros((3, 3, 4, 4), np.float32))]})
    for name in ("fcn_googlenet", "fcn_pool3", "fcn32s_fixed"):
        assert make.recipe(name).start(fake) == ["bilinear interpolation: upscore 4x4, 3 channels"]
