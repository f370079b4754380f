"""Reading in the background: one thread, bounded, ended with its layer."""

import gc
import os
import pathlib
import subprocess
import sys
import threading
import time
import weakref

import pytest

from data.order import Order
from data.read_ahead import ReadAhead
from data.voc import VOCSegDataLayer
from netspec.errors import Error
from tests.data import folders
from tests.support import ROOT

MEAN = (104.0, 117.0, 123.0)


def threads():
    return [t for t in threading.enumerate() if t.name == "deepjet-read-ahead"]


def wait_for_no_thread():
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not threads()


def test_reading_ahead_happens_in_one_thread_that_ends_on_close(tmp_path):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path), split="train", mean=MEAN, seed=1)
    assert not threads()
    layer.reshape([], tops)
    assert not threads()  # a net that is only made reads nothing ahead
    for _ in range(5):
        folders.step(layer, tops)
    assert len(threads()) == 1
    layer.close()
    assert not threads()
    folders.step(layer, tops)
    folders.step(layer, tops)
    layer.close()
    layer.close()


def test_a_dropped_layer_leaves_no_thread(tmp_path):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path), split="train", mean=MEAN, seed=1)
    folders.step(layer, tops)
    assert threads()
    gone = weakref.ref(layer)
    layer.itself = layer  # a cycle, as in a net
    del layer
    gc.collect()
    assert gone() is None and wait_for_no_thread()


def test_the_queue_is_bounded(tmp_path):
    read = []
    order = Order(100)
    ahead = ReadAhead(lambda place: read.append(place.index), order, 3)
    deadline = time.monotonic() + 5
    while len(read) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert read == [0, 1, 2]
    assert [ahead.take()[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    ahead.close()
    assert ahead.take() is None


def test_a_process_ends_with_the_thread_running(tmp_path):
    folder = folders.voc(tmp_path)
    code = ("from tests.data import folders; from data.voc import VOCSegDataLayer as L\n"
            f"l, t = folders.layer(L, voc_dir={folder!r}, split='train', mean=(1, 2, 3), seed=1)\n"
            "[folders.step(l, t) for _ in range(3)]; print('done')")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout == "done\n" and result.stderr == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_goes_on_reading(tmp_path):
    folder = folders.voc(tmp_path)
    code = ("import os; from tests.data import folders; from data.voc import VOCSegDataLayer as L\n"
            f"l, t = folders.layer(L, voc_dir={folder!r}, split='seg11valid', mean=(1, 2, 3))\n"
            "folders.step(l, t)\n"
            "if os.fork() == 0:\n"
            "    names = [folders.step(l, t)[0] for _ in range(12)]; print(names[-1], flush=True); os._exit(0)\n"
            "os.wait()")
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True,
                            timeout=60)
    assert result.stdout == "2007_000005\n", result.stderr


def test_an_unreadable_file_read_ahead_is_raised_in_its_turn_with_its_name(tmp_path):
    folder = folders.voc(tmp_path)
    bad = os.path.join(folder, "JPEGImages", "2007_000002.jpg")
    bad = pathlib.Path(bad)
    good = bad.read_bytes()
    bad.write_bytes(good[:len(good) - 40])
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, split="seg11valid", mean=MEAN)
    assert folders.step(layer, tops)[0].endswith("0")
    assert folders.step(layer, tops)[0].endswith("1")
    for _ in range(2):  # and again: the layer stands still at the bad file
        with pytest.raises(Error, match="2007_000002.jpg.*truncated"):
            folders.step(layer, tops)
    bad.write_bytes(good)
    assert folders.step(layer, tops)[0].endswith("2")
    layer.close()
