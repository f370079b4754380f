"""Order, reading ahead, exact resume and the checks that all data sets share."""

import gc
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import threading
import time
import weakref
import zlib

import numpy as np
import pytest
from PIL import Image

from data import dataset
from data.voc import VOCSegDataLayer
from netspec.errors import Error, PathError, UnknownName
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


def test_reshaping_again_keeps_the_sample(tmp_path):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path), split="seg11valid", mean=MEAN)
    for number in range(4):
        for _ in range(3):
            layer.reshape([], tops)
        assert layer.current is None if number == 0 else layer.current.endswith(str(number - 1))
        layer.forward([], tops)
        assert layer.current.endswith(str(number)) and layer.current in layer.current_files[0]
    layer.close()


@pytest.mark.parametrize("prefetch", [0, 1, 4])
@pytest.mark.parametrize("params", [{"split": "train", "seed": 3}, {"split": "train"}, {"split": "seg11valid"}])
def test_twenty_equals_ten_restore_ten(tmp_path, prefetch, params):
    folder = folders.voc(tmp_path)
    first, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, mean=MEAN, prefetch=prefetch, **params)
    for _ in range(10):
        folders.step(first, tops)
    state = json.loads(json.dumps(first.get_state()))
    rest = [folders.step(first, tops) for _ in range(10)]
    second, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, mean=MEAN, prefetch=prefetch, **params)
    second.reshape([], tops)  # a net reshapes when it is made, before the state comes
    folders.step(second, tops)
    second.set_state(state)
    for name, data, label in rest:
        again = folders.step(second, tops)
        assert again[0] == name and np.array_equal(again[1], data) and np.array_equal(again[2], label)
    first.set_state(state)
    assert [folders.step(first, tops)[0] for _ in range(10)] == [name for name, _, _ in rest]
    first.close()
    second.close()


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
    order = dataset.Order(100)
    ahead = dataset.ReadAhead(lambda i: read.append(i) or i, order, 3)
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


@pytest.mark.parametrize("change, message", [
    ({"voc_dri": "x"}, "unknown key 'voc_dri' in param_str; did you mean 'voc_dir'"),
    ({"mean": (1, 2)}, "'mean' in param_str must be three numbers"),
    ({"mean": (1, 2, "a")}, "three numbers"),
    ({"mean": (1, 2, 1e999)}, "not a Python literal|three numbers"),
    ({"mean": None}, "lacks 'mean'"),
    ({"split": None}, "lacks 'split'"),
    ({"split": 3}, "'split' in param_str must be the name of a list"),
    ({"seed": "a"}, "'seed' in param_str must be an integer or None, got 'a'"),
    ({"classes": 0}, "classes must be an integer from 1 to 256, got 0"),
    ({"prefetch": -1}, "'prefetch'"),
    ({"draws": "dice"}, "'python3' or 'python2', got 'dice'"),
    ({"voc_dir": 5}, "'voc_dir' in param_str must be a path"),
])
def test_a_wrong_parameter_is_said_with_its_value(tmp_path, change, message):
    params = {"voc_dir": folders.voc(tmp_path, 1), "split": "train", "mean": MEAN, **change}
    with pytest.raises(Error, match=message):
        folders.layer(VOCSegDataLayer, **params)


@pytest.mark.parametrize("text", ["{", "__import__('os').system('true')", "[1]", "'a'", "dict(a=1)", "(" * 5000, "\0"])
def test_param_str_is_a_literal_and_never_code(text):
    layer = VOCSegDataLayer()
    layer.param_str = text
    with pytest.raises(Error, match="param_str"):
        layer.setup([], [folders.Blob(), folders.Blob()])


def test_two_tops_and_no_bottom(tmp_path):
    layer = VOCSegDataLayer()
    layer.param_str = str({"voc_dir": folders.voc(tmp_path, 1), "split": "train", "mean": MEAN})
    with pytest.raises(Error, match=r"needs 2 tops \(data, label\), got 1"):
        layer.setup([], [folders.Blob()])
    with pytest.raises(Error, match="takes no bottoms, got 1"):
        layer.setup([folders.Blob()], [folders.Blob()] * 2)


def label_file(folder):
    return os.path.join(folder, "SegmentationClass", "2007_000000.png")


def test_a_label_outside_the_classes_is_said_with_file_pixel_and_range(tmp_path):
    folder = folders.voc(tmp_path, 1)
    _, label = folders.pair(0)
    label[4, 7] = 21
    Image.fromarray(label).save(label_file(folder))
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, split="train", mean=MEAN)
    with pytest.raises(Error, match=r"label 21 at row 4, column 7 of '.*2007_000000.png' is outside the 21 classes "
                                    r"\(0 to 20, or 255"):
        layer.reshape([], tops)
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folder, split="train", mean=MEAN, classes=22)
    assert folders.step(layer, tops)[2][0, 0, 4, 7] == 21
    layer.close()


def test_sizes_of_picture_and_label_must_agree(tmp_path):
    folder = folders.voc(tmp_path, 1)
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(label_file(folder))
    with pytest.raises(Error, match=r"000000.jpg' is 8x9 \(height x width\) but its label '.*000000.png' is 5x6"):
        dataset.open_dataset("voc", folder, "train").pair(0)


def test_colour_labels_of_the_palette_are_read_and_others_refused(tmp_path, caplog):
    folder = folders.voc(tmp_path, 2)
    _, label = folders.pair(0)
    voc = dataset.open_dataset("voc", folder, "train")
    with Image.open(label_file(folder)) as picture:
        rgb = picture.convert("RGB")
    rgb.save(label_file(folder))
    assert np.array_equal(voc.label(0), label)
    assert "is a colour picture" in caplog.text and "2007_000000.png" in caplog.text
    rgb.convert("RGBA").save(label_file(folder))
    assert np.array_equal(voc.label(0), label)
    assert caplog.text.count("colour picture") == 1
    rgb.putpixel((6, 3), (9, 9, 9))
    rgb.save(label_file(folder))
    with pytest.raises(Error, match=r"mode RGB.*\(9, 9, 9\) at row 3, column 6 is not in VOC's palette; save"):
        voc.label(0)


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_grey_labels_hold_class_numbers(tmp_path, mode):
    folder = folders.voc(tmp_path, 1)
    _, label = folders.pair(0)
    Image.fromarray(label.astype(np.uint8 if mode == "L" else np.uint16)).save(
        label_file(folder))
    got = dataset.open_dataset("voc", folder, "train").label(0)
    assert got.dtype == np.uint8 and np.array_equal(got, label)
    if mode != "L":
        label = label.astype(np.uint16)
        label[2, 2] = 300
        Image.fromarray(label).save(label_file(folder))
        with pytest.raises(Error, match="label 300 at row 2, column 2"):
            dataset.open_dataset("voc", folder, "train").label(0)


def test_grey_and_palette_photographs_are_read_as_rgb(tmp_path):
    folder = folders.voc(tmp_path, 1)
    path = os.path.join(folder, "JPEGImages", "2007_000000.jpg")
    with Image.open(path) as picture:
        grey = picture.convert("L")
    grey.save(path)
    image = dataset.read_image(path)
    assert image.shape == (8, 9, 3) and np.array_equal(image[:, :, 0], image[:, :, 2])


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\x00\x10JFIF"])
def test_alien_pictures_are_one_line_that_names_them(tmp_path, content):
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    for read in (dataset.read_image, dataset.read_label_png):
        with pytest.raises(Error, match="odd.png") as caught:
            read(str(path))
        assert "\n" not in str(caught.value)


def test_bit_flips_never_escape_as_other_errors(tmp_path):
    folder = folders.voc(tmp_path, 1)
    good = pathlib.Path(label_file(folder)).read_bytes()
    path = tmp_path / "flipped.png"
    for bit in range(0, 8 * len(good), 5):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        try:
            dataset.read_label_png(str(path))
        except Error as error:
            assert "flipped.png" in str(error)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "huge.png"
    picture = bytearray()
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)
    picture += b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    picture += struct.pack(">I", zlib.crc32(b"IHDR" + header))
    body = zlib.compress(b"")
    picture += struct.pack(">I", len(body)) + b"IDAT" + body + struct.pack(">I", zlib.crc32(b"IDAT" + body))
    path.write_bytes(picture)
    with pytest.raises(Error, match="9000x9000 pixels; more than"):
        dataset.read_image(str(path))


def test_missing_files_are_said_at_once(tmp_path):
    folder = folders.voc(tmp_path)
    os.unlink(os.path.join(folder, "JPEGImages", "2007_000003.jpg"))
    os.unlink(label_file(folder))
    with pytest.raises(PathError, match="2 of the 14 files of split 'train' are missing.*000000.png.*--sample"):
        dataset.open_dataset("voc", folder, "train")


def test_a_dataset_is_read_without_a_net(tmp_path):
    folder = folders.voc(tmp_path, 3)
    voc = dataset.open_dataset("voc", folder, "seg11valid")
    assert len(voc) == 3 and voc.ids[1] == "2007_000001" and voc.names[15] == "person" and voc.classes == 21
    assert np.array_equal(voc.label(1), folders.pair(1)[1]) and np.array_equal(voc.label("2007_000001"), voc.label(1))
    assert voc.image(2).shape == voc.label(2).shape + (3,)
    assert [name for name, image, label in voc] == voc.ids
    with pytest.raises(UnknownName, match="unknown data set 'vok'; did you mean 'voc'"):
        dataset.open_dataset("vok", folder, "train")


def test_classes_txt_names_and_counts_the_classes(tmp_path):
    folder = folders.voc(tmp_path, 1)
    folders.write(os.path.join(folder, "classes.txt"), "background\ncat\n")
    voc = dataset.open_dataset("voc", folder, "train")
    assert voc.classes == 2 and voc.names == ["background", "cat"]
    with pytest.raises(Error, match="outside the 2 classes"):
        voc.label(0)
    assert dataset.open_dataset("voc", folder, "train", classes=3).names[2] == "class 2"
