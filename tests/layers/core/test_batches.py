import os
import threading

import numpy as np
import pytest

from layers.core.batches import Batches, Draws, Source
from layers.core.blob import Blob
from layers.core.rng import Stream
from netspec import caffe_pb2
from netspec.errors import Error


class Counting(Source):
    """Items are numbers, with a random one beside; the item after `last` is an error."""

    def __init__(self, batch, last):
        self.batch, self.last = batch, last

    def begin(self, rng):
        return {"number": 0, "start": rng(1000)}

    def first_shape(self):
        return 1, 1, 2

    def items(self, state, rng):
        for number in range(state["number"], self.last):
            def fill(out, number=number):
                out[...] = number, rng(10**6)

            yield f"item {number}", (1, 1, 2), -number, fill, {"number": number + 1, "start": state["start"]}
        raise Error(f"there is no item {self.last}")


class Numbers(Batches):
    last = 10**9

    def open(self):
        return Counting(3, self.last)


def make(prefetch=2, seed=1, last=10**9):
    param = caffe_pb2.LayerParameter(name="in", type="Numbers", top=["data", "label"])
    param.data_param.prefetch = prefetch
    layer = Numbers(param, caffe_pb2.TRAIN, Stream(seed))
    layer.last = last
    top = [Blob((), name) for name in param.top]
    layer.setup([], top)
    layer.reshape([], top)
    return layer, top


def take(layer, top):
    layer.reshape([], top)
    layer.forward([], top)
    return top[0].data.reshape(-1, 2).copy(), top[1].data.copy()


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_batches_come_in_order_with_the_same_random_numbers(prefetch):
    layer, top = make(prefetch)
    assert [blob.shape for blob in top] == [(3, 1, 1, 2), (3,)]
    plain = Draws(Stream(**layer.rng.child(0).state()))
    assert layer.state()["start"] == plain(1000)
    for first in range(0, 15, 3):
        numbers, labels = take(layer, top)
        assert numbers.tolist() == [[number, plain(10**6)] for number in range(first, first + 3)]
        assert labels.tolist() == [-number for number in range(first, first + 3)]
        assert layer.current == f"item {first} to item {first + 2}"
        assert layer.state() == {"number": first + 3, "start": layer.state()["start"], "rng": plain.stream.state()}
    layer.close()


@pytest.mark.parametrize("prefetch", [0, 3])
def test_shaping_anew_does_not_step_on(prefetch):
    layer, top = make(prefetch)
    for first in range(0, 9, 3):
        for _ in range(3):
            layer.reshape([], top)
        assert take(layer, top)[1][0] == -first
    layer.close()


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_error_comes_when_its_batch_is_wanted_and_each_time(prefetch):
    layer, top = make(prefetch, last=7)
    assert take(layer, top)[1][0] == 0 and take(layer, top)[1][0] == -3
    for _ in range(3):
        with pytest.raises(Error, match="there is no item 7"):
            take(layer, top)
    assert layer.state()["number"] == 6
    layer.close()


def test_a_forked_process_goes_on_with_the_same_batches():
    layer, top = make(2)
    take(layer, top)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, take(layer, top)[0].astype("f4").tobytes())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    found = np.frombuffer(os.read(read, 100), "f4").reshape(-1, 2)
    assert np.array_equal(found, take(layer, top)[0])
    layer.close()
    os.close(read), os.close(write)


def test_no_thread_is_left_when_reading_ahead_failed():
    layer, top = make(1, last=4)
    take(layer, top)
    with pytest.raises(Error):
        take(layer, top)
    assert "deepjet-read-ahead" not in [thread.name for thread in threading.enumerate()]
