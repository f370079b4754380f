"""Whole nets: the same bits for any number of threads, from several threads at once, after a fork; nothing in vain."""

import os
import threading

import numpy as np
import pytest
from google.protobuf import text_format

from layers.convolution import Convolution
from layers.core.cpu import choose, parallel
from layers.core.net import Net
from netspec import caffe_pb2
from solvers import solver

CONV = """layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s" %s
  convolution_param { num_output: %d kernel_size: %d pad: %d %s weight_filler { type: "msra" } } }
layer { name: "relu_%s" type: "ReLU" bottom: "%s" top: "%s" }"""


def conv(name, bottom, outputs, kernel, pad=0, more="", param=""):
    return CONV % (name, bottom, name, param, outputs, kernel, pad, more, name, name, name)


def text(frozen=""):
    """A net with all kinds of kernels: direct, Winograd, of groups, 1 x 1, depthwise, pooling, upsampling, loss."""
    return "\n".join([
        """layer { name: "in" type: "Input" top: "data" top: "label"
             input_param { shape { dim: 1 dim: 3 dim: 41 dim: 38 } shape { dim: 1 dim: 1 dim: 41 dim: 38 } } }""",
        conv("conv1", "data", 16, 3, 5, param=frozen), conv("conv2", "conv1", 33, 3, 1, param=frozen),
        'layer { name: "pool" type: "Pooling" bottom: "conv2" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }',
        'layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 5 } }',
        conv("conv3", "norm", 32, 3, 1), conv("conv4", "conv3", 32, 5, 2, "group: 2"),
        conv("conv5", "conv4", 32, 3, 1, "group: 32"),
        'layer { name: "drop" type: "Dropout" bottom: "conv5" top: "conv5" }',
        conv("wide", "conv5", 24, 7, 3), conv("score_low", "wide", 5, 1),
        """layer { name: "up" type: "Deconvolution" bottom: "score_low" top: "up" convolution_param {
             num_output: 5 kernel_size: 4 stride: 2 weight_filler { type: "xavier" } } }
           layer { name: "crop" type: "Crop" bottom: "up" bottom: "label" top: "score" crop_param { axis: 2 offset: 4 } }
           layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }"""])


def feed(net):
    rng = np.random.RandomState(4)
    net.blobs["data"].data[...] = rng.uniform(-1, 1, net.blobs["data"].shape)
    net.blobs["label"].data[...] = rng.randint(0, 5, net.blobs["label"].shape)


def make_net(frozen=""):
    net = Net(text_format.Parse(text(frozen), caffe_pb2.NetParameter()), caffe_pb2.TRAIN, seed=1)
    feed(net)
    return net


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 1)
    before = parallel.threads()
    yield
    parallel.set_threads(before)


def bits(net):
    """Return the bytes of all blobs and parameters, values and gradients."""
    blobs = [*net.blobs.items(), *((f"{name}[{i}]", b) for name, blobs in net.params.items() for i, b in enumerate(blobs))]
    return {name: (blob.data.tobytes(), blob.diff.tobytes()) for name, blob in blobs}


def test_three_steps_of_training_have_the_same_bits_for_any_number_of_threads():
    results = []
    for threads in (1, 2, 3, 2):
        parallel.set_threads(threads)
        param = caffe_pb2.SolverParameter(base_lr=0.01, lr_policy="fixed", momentum=0.9, weight_decay=5e-4, iter_size=2,
                                          clip_gradients=1, random_seed=1, max_iter=3)
        text_format.Parse(text(), param.net_param)
        machine = solver.make(param)
        feed(machine.net)
        machine.step(3)
        results.append((bits(machine.net), [history.tobytes() for history in machine.history]))
    for other in results[1:]:
        assert [name for name in other[0] if other[0][name] != results[0][0][name]] == []
        assert other[1] == results[0][1]


def test_separate_nets_run_in_threads_at_once():
    parallel.set_threads(2)
    alone = make_net()
    alone.forward_backward()
    nets = [make_net() for _ in range(4)]
    callers = [threading.Thread(target=net.forward_backward, daemon=True) for net in nets]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
    assert not any(caller.is_alive() for caller in callers)
    assert all(bits(net) == bits(alone) for net in nets)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_net_goes_on_in_a_forked_child():
    parallel.set_threads(2)
    net, other = make_net(), make_net()
    net.forward_backward()
    child = os.fork()
    if child == 0:
        try:
            other.forward_backward()
            os._exit(0 if bits(other) == bits(net) else 3)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_below_what_is_frozen_no_convolution_is_called_and_frozen_weights_have_no_gradient(monkeypatch):
    called, kernels = [], []
    backward = Convolution.backward
    monkeypatch.setattr(Convolution, "backward", lambda self, *rest: (called.append(self.name), backward(self, *rest))[0])
    for name in ("image_gradient", "weight_gradient", "image_gradient_places", "weight_gradient_places"):
        function = getattr(choose.Kernels, name)

        what = name.removesuffix("_places")

        def seen(self, *rest, what=what, function=function):
            kernels.append((what, self.window.channels, self.window.kernel))
            return function(self, *rest)

        monkeypatch.setattr(choose.Kernels, name, seen)
    net = make_net(frozen="param { lr_mult: 0 } param { lr_mult: 0 }")
    net.forward_backward()
    assert called == ["score_low", "wide", "conv5", "conv4", "conv3"]
    assert kernels.count(("weight_gradient", 33, (3, 3))) == 1  # conv3, the lowest that learns
    assert ("image_gradient", 33, (3, 3)) not in kernels
    for name in ("conv1", "conv2"):
        assert not any(blob.has_diff for blob in net.params[name])
    assert not any(net.blobs[name].has_diff for name in ("data", "conv1", "conv2", "pool", "norm"))
