"""Forward passes after the first use what it has made ready: each must be bit for bit what a new net computes."""

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.blob import Blob
from layers.core.cpu import choose, parallel
from layers.core.net import Net
from netspec import caffe_pb2

CONV = """layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s" convolution_param { num_output: %d kernel_size: %d pad: %d
  group: %d %s weight_filler { type: "msra" } bias_filler { type: "uniform" min: -1 max: 1 } } }"""
RELU = 'layer { name: "relu_%s" type: "ReLU" bottom: "%s" top: "%s" }'
POOL = 'layer { name: "%s" type: "Pooling" bottom: "%s" top: "%s" pooling_param { %s } }'


def conv(name, bottom, outputs, kernel, pad=0, group=1, more=""):
    return CONV % (name, bottom, name, outputs, kernel, pad, group, more) + RELU % (name, name, name)


def pool(name, bottom, how):
    return POOL % (name, bottom, name, how)


# Few channels, Winograd with its pooling, parts that are joined, one channel each, padding that no image reaches, global means.
LAYERS = "\n".join([
    'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 37 dim: 45 } } }',
    conv("first", "data", 24, 7, 30, more="stride: 2"), conv("second", "first", 32, 3, 1),
    pool("half", "second", "pool: MAX kernel_size: 2 stride: 2"),
    conv("squeeze", "half", 16, 1), conv("one", "squeeze", 32, 1), conv("three", "squeeze", 32, 3, 1),
    'layer { name: "join" type: "Concat" bottom: "one" bottom: "three" top: "join" }',
    conv("each", "join", 64, 3, 1, 64), conv("last", "each", 21, 1),
    pool("mean", "last", "pool: AVE global_pooling: true"),
    'layer { name: "prob" type: "Softmax" bottom: "mean" top: "prob" }'])


def make(**options):
    return Net(text_format.Parse(LAYERS, caffe_pb2.NetParameter()), caffe_pb2.TEST, seed=1, **options)


def image(net, seed):
    return np.random.default_rng(seed).uniform(-1, 1, net.blobs["data"].shape)


def check(net, names=("prob", "last", "join"), **options):
    """Two passes of the net, which has run before, against those of a new one with its weights and its size."""
    fresh = make(**options)
    for name, blobs in net.params.items():
        for blob, other in zip(blobs, fresh.params[name]):
            other.data[...] = blob.peek()
    fresh.blobs["data"].reshape(*net.blobs["data"].shape)
    for seed in (5, 6):
        for one in (net, fresh):
            one.blobs["data"].data[...] = image(one, seed)
            one.forward()
        assert np.array_equal(net.blobs["prob"].data, fresh.blobs["prob"].data)
        assert net.blobs["prob"].data.std() > 0
    for name in names:
        assert np.array_equal(net.blobs[name].data, fresh.blobs[name].data), name


@pytest.fixture(params=[{}, {"border": False}, {"low_memory": True, "keep": ("last", "join")}], ids=str)
def options(request):
    return request.param


@pytest.fixture
def net(options):
    made = make(**options)
    for seed in range(3):
        made.blobs["data"].data[...] = image(made, seed)
        made.forward()
    return made


@pytest.fixture(autouse=True)
def threads_as_before():
    before = parallel.threads()
    yield
    parallel.set_threads(before)


@pytest.mark.parametrize("number", [0, 1], ids=["weights", "bias"])
def test_parameters_changed_in_place_count(net, options, number):
    views = {name: blobs[number].data for name, blobs in net.params.items()}
    for name in ("first", "three", "each", "last"):
        net.params[name][number].data *= np.float32(0.5)
        check(net, **options)
    for view in views.values():  # by views that somebody has kept
        view += np.float32(0.125)
        check(net, **options)


def test_parameters_in_other_memory_count(net, options):
    for blobs in net.params.values():
        for blob in blobs:
            other = Blob(blob.shape)
            other.data[...] = blob.peek() * np.float32(0.75)
            blob.share_data(other)
        check(net, (), **options)
    check(net, **options)


def test_values_that_somebody_reads_and_holds(net, options):
    if "low_memory" not in options:
        for name in ("squeeze", "one", "join", "half", "mean"):
            net.blobs[name].data[...] = 7  # NCHW from now on, for one pass
            check(net, (), **options)
        held = [net.blobs[name].data for name in ("first", "three", "last")]
        check(net, **options)
        assert all(np.array_equal(net.blobs[name].data, view) for name, view in zip(("first", "three", "last"), held))
    check(net, **options)


def test_blobs_in_other_memory(net, options):
    kept = []
    for name in ("data", "first", "second", "squeeze", "each", "last", "mean"):
        other = Blob(net.blobs[name].shape)
        other.blocks = net.blobs[name].blocks
        kept.append(other)
        net.blobs[name].share_data(other)
        check(net, (), **options)


def test_other_sizes_and_back(net, options):
    for size in ((40, 31), (37, 45), (64, 64), (37, 45)):
        net.blobs["data"].reshape(1, 3, *size)
        check(net, **options)
    net.blobs["data"].reshape(2, 3, 37, 45)
    check(net, **options)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_other_numbers_of_threads(net, options, count):
    parallel.set_threads(count)
    check(net, **options)


def test_some_layers_only(net, options):
    if "low_memory" not in options:
        net.forward(end="three")
        net.forward(start="join")
        net.forward("squeeze", "last")
        net.forward("mean")
    check(net, **options)


def test_hooks_that_look_between(net, options):
    if "low_memory" not in options:
        net.after_forward(lambda number: [blob.data for blob in net.top_vecs[number]])
    check(net, **options)


def test_a_kernel_is_made_ready_once(net, monkeypatch):
    """While nothing changes; with low_memory nothing is kept."""
    made = []
    for module in (choose.direct_blocked, choose.winograd, choose.depthwise_blocked):
        def count(*args, module=module, original=module.Forward):
            made.append(module)
            return original(*args)

        monkeypatch.setattr(module, "Forward", count)
    for seed in range(3):
        net.blobs["data"].data[...] = image(net, seed)
        net.forward()
    assert len(made) == (3 * 7 if net.low_memory else 0)
