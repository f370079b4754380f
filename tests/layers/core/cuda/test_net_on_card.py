"""A net on a card: what its plan says, memory counted before the run and taken at once, and when the host waits."""

import collections
import gc
import sys

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core.cuda import card as cards
from layers.core.cuda import convolution, gemm, tiles
from layers.core.cuda.arena import Arena
from layers.core.cuda.driver import CardError
from layers.core.net import Net
from layers.core.plan import SMALL
from layers.relu import ReLU
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.core.cuda.simulated import needs_card

pytestmark = needs_card
TEXT = """
name: "chain" force_backward: true
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 7 } } }
layer { name: "one" type: "ReLU" bottom: "x" top: "one" relu_param { negative_slope: 0.5 } }
layer { name: "same" type: "ReLU" bottom: "one" top: "one" }
layer { name: "two" type: "ReLU" bottom: "one" top: "two" loss_weight: 1 }
"""
PYTHON = """layer { name: "host" type: "Python" bottom: "two" top: "host"
  python_param { module: "tests.layers.core.cuda.test_net_on_card" layer: "Doubled" } }"""


class Doubled:
    """A Python layer: y = 2 x."""

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * top[0].diff


@pytest.fixture
def card():
    gc.collect()
    return cards.find("gpu")


def net_of(text=TEXT, phase=caffe_pb2.TRAIN, device="gpu", **options):
    return Net(text_format.Parse(text, caffe_pb2.NetParameter()), phase, device=device, **options)


def fill(net, seed=0, shape=None):
    blob = net.blobs["x"]
    blob.reshape(*shape or blob.shape)
    blob.data[...] = np.random.RandomState(seed).randn(*blob.shape)


def test_a_net_computes_the_same_on_a_card_and_with_layers_of_the_host_between():
    for text in (TEXT, TEXT + PYTHON + 'layer { name: "three" type: "ReLU" bottom: "host" top: "three" loss_weight: 2 }'):
        there, here = net_of(text), net_of(text, device="cpu")
        for net in (there, here):
            fill(net)
        assert there.forward_backward() == pytest.approx(here.forward_backward(), rel=1e-6)
        for name in here.blobs:
            assert (there.blobs[name].data == here.blobs[name].data).all()
        assert (there.blobs["x"].diff == here.blobs["x"].diff).all()


def test_the_plan_says_what_computes_where_and_what_it_takes(card):
    text = str(net_of(TEXT + PYTHON).plan)
    assert f"{card}, math fast)" in text.splitlines()[0]
    steps = {line.split()[1]: line for line in text.splitlines()[2:-1]}
    assert "card plain" in steps["one"] and "host plain" in steps["host"] and "in place" in steps["same"]
    assert f"memory on {card}: values of blobs" in text


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_what_the_plan_counts_is_what_is_taken_and_at_once(card, phase):
    net = net_of(phase=phase)
    arena = net.card.arena = Arena(card)  # nobody else's parts
    try:
        fill(net)
        net.forward()
        if phase == caffe_pb2.TRAIN:
            net.backward()
        assert arena.taken == arena.capacity - 3 * SMALL - 256 == net.plan.memory().total - 3 * SMALL - 256
        assert len(arena._pieces) == 1
        fill(net, shape=(1, 3, 20, 30))
        net.forward()
        if phase == caffe_pb2.TRAIN:
            net.backward()
        assert arena.taken < net.plan.memory().total <= arena.capacity and len(arena._pieces) <= 2
        fill(net, shape=(1, 3, 4, 4))
        capacity = arena.capacity
        net.forward()
        assert arena.capacity == capacity
    finally:
        net, card.arena = None, Arena(card)


LEARNED = """
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param { num_output: 4 kernel_size: 3 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "conv" top: "up" convolution_param { num_output: 2 kernel_size: 4 stride: 3 } }
layer { name: "score" type: "Crop" bottom: "up" bottom: "x" top: "score" crop_param { axis: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "score" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "sum" type: "Reduction" bottom: "fc" top: "sum" loss_weight: 1 }
"""


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_products_take_what_the_plan_counts_and_no_more_after_the_start(card, monkeypatch, phase):
    monkeypatch.setattr(convolution, "LEAST", 0)
    monkeypatch.setattr(convolution, "ROWS", 1)
    monkeypatch.setattr(gemm, "LEAST", 0)
    monkeypatch.setattr(tiles, "parts_for", lambda card, blocks, steps, count: (3, max(1, -(-steps // 3))))
    monkeypatch.setattr(type(card), "launch", lambda *arguments, **keywords: None)  # only memory is looked at
    input_, _, _ = TEXT[TEXT.index("layer"):].partition("layer { name: \"one\"")
    net, borrowed = net_of(input_ + LEARNED, phase), collections.Counter()
    arena = net.card.arena = Arena(card)
    borrow, layers = Arena.borrow, {id(layer): layer for layer in net.layers}

    def watched(self, nbytes):
        layer = next(frame.f_locals["self"] for frame in frames() if id(frame.f_locals.get("self")) in layers)
        borrowed[layer.name] = max(borrowed[layer.name], nbytes)
        return borrow(self, nbytes)

    monkeypatch.setattr(Arena, "borrow", watched)
    try:
        fill(net)
        for _ in range(2):
            net.forward_backward() if phase == caffe_pb2.TRAIN else net.forward()
            assert arena.capacity == net.plan.memory().total and len(arena._pieces) == 1
        for name in ("conv", "up", "fc"):
            assert borrowed[name] == net.layer_dict[name].bytes_cuda()[1] > 0, name
        tables = [sum(part.span.nbytes for part, _ in net.layer_dict[name].on_card.tables.values()) for name in ("conv", "up")]
        counted = [net.layer_dict[name].bytes_cuda()[0] for name in ("conv", "up")]
        assert tables[0] <= counted[0] and tables[1] == counted[1]  # nobody wants the gradient of the first one's image
    finally:
        net, card.arena = None, Arena(card)


def frames():
    """Give the frames of the callers, innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def test_low_memory_takes_less(card):
    text = TEXT.replace(" loss_weight: 1", "") + 'layer { name: "four" type: "ReLU" bottom: "two" top: "four" }'
    net, less = net_of(text, caffe_pb2.TEST), net_of(text, caffe_pb2.TEST, low_memory=True)
    for one in (net, less):
        fill(one)
        one.forward()
    assert less.plan.memory().data < net.plan.memory().data
    assert (less.blobs["four"].data == net.blobs["four"].data).all()
    with pytest.raises(Error, match="given up"):
        less.blobs["two"].peek()


def test_a_size_that_the_card_cannot_hold_is_refused_with_the_plan(card, monkeypatch):
    net = net_of()
    fill(net)
    net.forward()
    kept = net.blobs["two"].data.copy()
    monkeypatch.setattr(type(card), "memory", lambda self: (1 << 20, 5 << 10))
    fill(net, shape=(1, 3, 100, 100))
    refusal = r"net 'chain' would take 0\.00 GiB more on <card 0: .*, and 0\.00 GiB are free; (?s:.*)plan of "
    with pytest.raises(Error, match=refusal):
        net.forward()
    fill(net, shape=(1, 3, 5, 7))
    net.forward()
    assert (net.blobs["two"].data == kept).all()


def test_a_solvers_history_is_counted(card):
    net = net_of()
    before = net.plan.memory().kept
    net.beside = [net.blobs["x"], net.blobs["two"]]
    assert net.plan.memory().kept == before + 2 * 512


def test_the_loss_is_read_when_all_is_queued(card, monkeypatch):
    net, order = net_of(), []
    fill(net)
    backward, settle = ReLU.backward_cuda, Net.settle
    monkeypatch.setattr(ReLU, "backward_cuda", lambda self, *blobs: (order.append(self.name), backward(self, *blobs)))
    monkeypatch.setattr(Net, "settle", lambda self: (order.append("settle"), settle(self))[1])
    loss = net.forward_backward()
    assert order == ["two", "same", "one", "settle"]
    assert loss == net.forward() == pytest.approx(net.blobs["two"].data.sum(dtype="f8"), rel=1e-12)
    assert net.forward(end="same") == 0


def test_what_the_kernels_found_wrong_names_the_layer(card, monkeypatch):
    def check(self, bottom, top):
        if self.name == "same":
            self.fail("a label is 77")

    net = net_of()
    fill(net)
    monkeypatch.setattr(ReLU, "check_cuda", check)
    with pytest.raises(Error, match=r"layer 'same' \(ReLU\): a label is 77"):
        net.forward_backward()


def test_an_error_of_the_card_stays_one_and_names_the_layer(card, monkeypatch):
    def refuse(self, *blobs):
        raise CardError("no more")

    net = net_of()
    fill(net)
    monkeypatch.setattr(ReLU, "backward_cuda", refuse)
    with pytest.raises(CardError, match=r"layer 'two' \(ReLU\): no more"):
        net.forward_backward()
