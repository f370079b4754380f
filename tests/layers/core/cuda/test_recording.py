"""Work that is written down and done again: what may be in it, whose memory it holds, and when a net falls back."""

import gc

import numpy as np
import pytest

from layers.core.blob import Blob
from layers.core.cuda import card as cards
from layers.core.cuda import compiler, driver
from layers.core.cuda.arena import Arena
from layers.core.cuda.recording import TRIES, NotRecorded, Repeated, record
from layers.relu import ReLU
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.core.cuda.fake_driver import CUresult, FakeDriver
from tests.layers.core.cuda.simulated import Memory, add_cuda, needs_card, read
from tests.layers.core.cuda.test_net_on_card import PYTHON, TEXT, fill, net_of


@pytest.fixture
def card():
    return cards.find("gpu")


def add(card, blob, value):
    card.run(add_cuda, blob.count, blob.change_on(card), value)


# --- recordings ------------------------------------------------------------------------------------------------------


@needs_card
def test_work_is_done_when_it_is_replayed_and_each_time(card):
    blob, other = Blob((40,), "x"), Blob((40,), "y")
    add(card, blob, 1)
    add(card, other, 5)
    with record(card) as recording:
        add(card, blob, 2)
        card.copy(other.write_on(card), blob.on(card), 160)
        card.clear(blob.write_on(card), 80)
    assert card.recording is None
    assert (read(card, blob.on(card), 40) == 1).all() and (read(card, other.on(card), 40) == 5).all()
    for expected in (3, 5):
        assert recording.fits()
        recording.replay()
        assert (other.data == [expected if i >= 20 or expected == 3 else 2 for i in range(40)]).all()
    assert (blob.data == np.repeat([0, 5], 20)).all()


@needs_card
def test_what_the_host_wrote_is_brought_over_before_a_replay(card):
    blob = Blob((40,), "x")
    add(card, blob, 1)
    with record(card) as recording:
        add(card, blob, 2)
    blob.data[...] = 10
    assert recording.fits()
    recording.replay()
    assert (blob.data == 12).all()
    blob.reshape(39)
    assert not recording.fits()
    blob.reshape(1000)
    assert not recording.fits()


@needs_card
@pytest.mark.parametrize("work", [
    lambda card, blob: blob.on(card), lambda card, blob: blob.memory().card.download(np.empty(3, "f4"), blob.change_on(card)),
    lambda card, blob: card.arena.take(1 << 28)])
def test_what_cannot_be_written_down_is_refused_and_the_card_goes_on(card, work):
    blob = Blob((40,), "x")
    add(card, blob, 1)
    if work.__code__.co_names == ("on",):
        blob.data[...] = 3
    with pytest.raises(NotRecorded, match="in work that is to be recorded"), record(card):
        work(card, blob)
    assert card.recording is None and card.arena.watched is None
    add(card, blob, 1)
    assert blob.data[0] in (2, 4)


@needs_card
def test_scratch_of_a_recording_is_nobody_elses(card):
    card.arena.reserve(1 << 16)
    gc.collect()
    before = card.arena.taken

    def work():
        card.clear(card.arena.take(5000).span)
        card.clear(card.arena.take(3000).span)

    with record(card) as recording:
        work()
    assert card.arena.taken == before + 5120  # the second lay where the first had been
    del recording
    assert card.arena.taken == before


def test_ranges_are_cut_out_of_free_memory():
    arena = Arena(Memory())
    arena.reserve(8192)
    kept = arena.take(1024)
    parts = arena.hold([(0, 512, 1024), (0, 2048, 512), (0, 2048, 1024), (0, 2304, 256)])
    assert sorted((part.offset, part.span.nbytes) for part in parts) == [(1024, 512), (2048, 512), (2560, 512)]
    assert arena._free == [(0, 1536, 512), (0, 3072, 5120)] and arena.taken == 1024 + 1536
    del parts, kept
    assert arena.taken == 0 and arena._free == [(0, 0, 8192)]


def test_a_driver_captures_its_stream(monkeypatch):
    fake = FakeDriver()
    monkeypatch.setattr(driver, "driver", fake)
    monkeypatch.setattr(cards, "simulated", lambda: False)
    monkeypatch.setattr(compiler, "ptx_of", lambda kernel, capability: ("ptx", "entry"))
    card = cards.Card(0)
    part = card.arena.take(400)
    fake.layout = []
    card.run(add_cuda, 100, part.span, 1)
    fake.called.clear()
    with record(card) as recording:
        card.run(add_cuda, 100, part.span, 1)
    recording.replay()
    del recording
    names = [call[0] for call in fake.called]
    assert names == ["StreamBeginCapture", "LaunchKernel", "StreamEndCapture", "GraphInstantiate", "GraphDestroy", "GraphLaunch",
                     "StreamSynchronize", "GraphExecDestroy"]
    assert fake.called[0][1:] == ("stream", 1) and ("GraphLaunch", "graph to run", "stream") in fake.called
    done, repeated = [], Repeated(card)
    fake.fails["StreamEndCapture"] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    for _ in range(5):
        repeated.run("key", lambda: done.append(card.recording is not None))
    assert done == [False, *[True, False] * TRIES, False] and repeated.recording is None


# --- nets ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch):
    """Return a list of the layers whose forward Python ran on a card."""
    names = []
    forward = ReLU.forward_cuda
    monkeypatch.setattr(ReLU, "forward_cuda", lambda self, *blobs: (names.append(self.name), forward(self, *blobs)))
    return names


@needs_card
def test_a_net_of_one_size_is_recorded_and_gives_the_same_bits(ran):
    net, plain = net_of(phase=caffe_pb2.TEST), net_of(phase=caffe_pb2.TEST, device="cpu")
    runs = []
    for seed in range(5):
        fill(net, seed)
        fill(plain, seed)
        before = len(ran)
        assert net.forward() == plain.forward()
        runs.append(len(ran) - before)
        assert net.blobs["two"].data.tobytes() == plain.blobs["two"].data.tobytes()
        assert net.blobs["one"].data.tobytes() == plain.blobs["one"].data.tobytes()
    assert runs == [3, 3, 0, 0, 0]  # plainly, written down, and without Python


@needs_card
def test_another_size_and_back_and_blobs_that_were_moved_are_run_anew(ran):
    net, plain = net_of(phase=caffe_pb2.TEST), net_of(phase=caffe_pb2.TEST, device="cpu")
    for seed, shape in enumerate([(1, 3, 5, 7)] * 3 + [(1, 3, 9, 9)] * 3 + [(1, 3, 4, 4)] * 3):
        fill(net, seed, shape)
        fill(plain, seed, shape)
        if seed in (2, 8):
            net.blobs["two"].share_data(Blob(net.blobs["two"].shape, "elsewhere"))
        assert net.forward() == plain.forward()
        assert net.blobs["two"].data.tobytes() == plain.blobs["two"].data.tobytes()


@needs_card
@pytest.mark.parametrize("how", ["hook", "python", "low memory", "repeats", "upload"])
def test_what_cannot_be_recorded_is_run_plainly(ran, monkeypatch, how):
    text = TEXT + PYTHON if how == "python" else TEXT
    net = net_of(text, caffe_pb2.TEST, low_memory=how == "low memory")
    if how == "hook":
        net.after_forward(lambda number: None)
    elif how == "repeats":
        monkeypatch.setattr(ReLU, "repeats", False)
    elif how == "upload":
        monkeypatch.setattr(ReLU, "reshape", lambda self, *_: self.card.upload(self.card.arena.take(4).span, np.ones(1, "f4")))
    for seed in range(4):
        fill(net, seed)
        net.forward()
        values = net.blobs["x"].data
        assert (net.blobs["two"].data == np.where(values > 0, values, values / 2).clip(0)).all()
    assert len(ran) >= 12


@needs_card
def test_a_held_view_of_an_input_is_read_at_each_run(ran):
    net = net_of(phase=caffe_pb2.TEST)
    view = net.blobs["x"].data
    for value in range(1, 6):
        view[...] = value
        net.forward()
        assert (net.blobs["two"].data == value).all()
    assert len(ran) == 6


@needs_card
def test_an_error_while_recording_is_the_layers(monkeypatch):
    net = net_of(phase=caffe_pb2.TEST)
    fill(net)
    net.forward()

    def refuse(self, *blobs):
        self.fail("no")

    monkeypatch.setattr(ReLU, "forward_cuda", refuse)
    with pytest.raises(Error, match=r"layer 'one' \(ReLU\): no"):
        net.forward()
    monkeypatch.undo()
    assert net.card.recording is None
    before = net.blobs["two"].data.copy()
    net.forward()
    assert (net.blobs["two"].data == before).all()


LAYERS = """name: "many" layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" convolution_param { num_output: 4 group: 4 bias_term: false
  kernel_size: 4 stride: 2 weight_filler { type: "bilinear" } } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "x" top: "score" crop_param { axis: 2 offset: 1 } }
layer { name: "lrn" type: "LRN" bottom: "score" top: "lrn" }
layer { name: "prob" type: "Softmax" bottom: "lrn" top: "prob" }"""


@needs_card
def test_all_sorts_of_layers_give_the_same_bits_plainly_and_replayed():
    net, weights, found = net_of(LAYERS, caffe_pb2.TEST, seed=1), [1, 1, 1, 0.5, 1], []
    for seed, factor in zip((0, 1, 0, 0, 0), weights):  # plainly, written down, replayed
        fill(net, seed)
        net.params["conv"][0].data[...] *= factor
        net.forward()
        found.append({name: blob.data.copy() for name, blob in net.blobs.items()})
    for name, values in found[0].items():
        assert values.tobytes() == found[2][name].tobytes() and found[3][name].tobytes() == found[4][name].tobytes(), name
    assert not np.array_equal(found[2]["prob"], found[3]["prob"])  # who changes a parameter is heard
    assert (net._repeated.recording is not None) == all(layer.card is not None for layer in net.layers[1:])
