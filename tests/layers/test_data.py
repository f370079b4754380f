import gc
import threading

import numpy as np
import pytest

from data import datum
from netspec import binaryproto, caffe_pb2
from netspec.errors import Error, PathError
from solvers import solver
from tests.data import records
from tests.layers.sources import batches, hold_resume, make, same

COUNT = 11
PICTURES = np.random.RandomState(0).randint(0, 256, (COUNT, 3, 8, 10)).astype(np.uint8)
DATA = 'type: "Data" data_param { source: "db" backend: LMDB batch_size: 4 %s } transform_param { %s }'


def write(path, made, backend="lmdb"):
    """Write a database of Datums."""
    return records.write(path, backend, [(b"%06d" % number, one.SerializeToString()) for number, one in enumerate(made)])


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "db", [datum.make(picture, number) for number, picture in enumerate(PICTURES)])
    return tmp_path


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_records_come_in_order_and_from_the_start_again(folder, prefetch):
    layer, top = make(folder, DATA % (f"prefetch: {prefetch}", ""))
    assert [blob.shape for blob in top] == layer.top_shapes([]) == [(4, 3, 8, 10), (4,)]
    seen = batches(layer, top, 7)
    numbers = np.concatenate([label for _, label in seen]).astype(int)
    assert numbers.tolist() == [number % COUNT for number in range(28)]
    assert np.array_equal(np.concatenate([pictures for pictures, _ in seen]), PICTURES[numbers].astype(np.float32))
    assert layer.current.startswith("key '000002' of LMDB database '") and "to key '000005'" in layer.current
    layer.close()


def test_leveldb_is_what_a_prototxt_without_backend_means(tmp_path):
    write(tmp_path / "db", [datum.make(PICTURES[0], 3)], "leveldb")
    layer, top = make(tmp_path, 'type: "Data" data_param { source: "db" batch_size: 2 }')
    (pictures, labels), = batches(layer, top, 1)
    assert labels.tolist() == [3, 3] and np.array_equal(pictures[1], PICTURES[0])
    layer.close()


def test_one_top_has_no_labels_and_float64_stays(folder):
    layer, top = make(folder, DATA % ("", "scale: 0.1"), tops=("data",), dtype=np.float64)
    (pictures,), = batches(layer, top, 1)
    assert np.array_equal(pictures, PICTURES[:4] * float(np.float32(0.1)))
    layer.close()


def test_transformed_as_transform_param_says(folder):
    mean = np.random.RandomState(3).uniform(90, 130, (3, 8, 10)).astype(np.float32)
    binaryproto.write_mean(folder / "mean.binaryproto", mean)
    text = DATA % ("", 'crop_size: 5 mean_file: "mean.binaryproto" scale: 0.5 mirror: true')
    layer, top = make(folder, text, phase=caffe_pb2.TEST)
    assert layer.top_shapes([]) == [(4, 3, 5, 5), (4,)]
    seen = set()
    for pictures, labels in batches(layer, top, 20):
        for picture, label in zip(pictures, labels.astype(int)):
            plain = ((PICTURES[label] - mean) * np.float32(0.5))[:, 1:6, 2:7]  # the middle, in TEST
            mirrored = np.array_equal(picture, plain[:, :, ::-1])
            assert mirrored or np.array_equal(picture, plain)
            seen.add((int(label), mirrored))
    assert len(seen) == 2 * COUNT  # each was seen both ways
    layer.close()


def test_crops_are_drawn_in_training(folder):
    layer, top = make(folder, DATA % ("", "crop_size: 6"))
    places = set()
    for pictures, labels in batches(layer, top, 30):
        for picture, label in zip(pictures, labels.astype(int)):
            found = [(y, x) for y in range(3) for x in range(5) if np.array_equal(PICTURES[label][:, y:y + 6, x:x + 6], picture)]
            assert len(found) == 1
            places.add(found[0])
    assert len(places) == 15
    layer.close()


@pytest.mark.parametrize("how, channels", [("", 3), ("force_color: true", 3), ("force_gray: true", 1)])
def test_encoded_pictures_of_any_kind(tmp_path, how, channels):
    pictures = PICTURES[:4].transpose(0, 2, 3, 1)
    write(tmp_path / "db", [datum.encode(picture, "png", 5) for picture in pictures])
    layer, top = make(tmp_path, DATA % ("", how))
    (found, labels), = batches(layer, top, 1)
    assert found.shape == (4, channels, 8, 10) and labels.tolist() == [5] * 4
    if channels == 3:
        assert np.array_equal(found, PICTURES[:4])
    layer.close()


def test_sizes_may_change_from_batch_to_batch_but_not_within(tmp_path):
    sizes = [4, 4, 4, 4, 6, 6, 6, 6, 5, 5, 4, 5]
    write(tmp_path / "db", [datum.make(np.zeros((1, side, 3), np.uint8)) for side in sizes])
    layer, top = make(tmp_path, DATA % ("", ""))
    assert [pictures.shape for pictures, _ in batches(layer, top, 2)] == [(4, 1, 4, 3), (4, 1, 6, 3)]
    with pytest.raises(Error, match="key '000010' of LMDB .* becomes 1x4x3 .* but key '000008' .* of the same batch, 1x5x3"):
        batches(layer, top, 1)
    layer.close()


def test_rand_skip_begins_somewhere_else(folder):
    starts = set()
    for seed in range(12):
        layer, top = make(folder, DATA % ("rand_skip: 5 prefetch: 0", ""), seed=seed)
        numbers = np.concatenate([label for _, label in batches(layer, top, 3)]).astype(int).tolist()
        assert numbers == [(numbers[0] + number) % COUNT for number in range(12)]
        starts.add(numbers[0])
    assert len(starts) > 2 and starts <= set(range(5))


def test_the_same_seed_gives_the_same_bits_however_far_is_read_ahead(folder):
    text = DATA % ("prefetch: %d rand_skip: 7", "mirror: true crop_size: 5")
    made = {prefetch: make(folder, text % prefetch) for prefetch in (0, 1, 6)}
    first, *others = (batches(*one, 9) for one in made.values())
    assert all(same(first, other) for other in others)
    assert not same(first, batches(*make(folder, text % 0, seed=2), 9))
    for layer, _ in made.values():
        layer.close()


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("done", range(5))
def test_resume_goes_on_exactly(folder, prefetch, done):
    hold_resume(folder, DATA % (f"prefetch: {prefetch} rand_skip: 4", "mirror: true crop_size: 5"), done)


def test_a_resumed_training_has_the_bits_of_one_that_never_stopped(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "net.prototxt").write_text(
        f'layer {{ name: "in" top: "data" top: "label" {DATA % ("", "mirror: true crop_size: 6 scale: 0.01")} }}'
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 11 '
        'weight_filler { type: "xavier" } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }')
    (folder / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" type: "Adam" momentum: 0.9 '
                                            'max_iter: 9 random_seed: 3 snapshot_prefix: "snap"')
    whole = solver.make("solver.prototxt")
    whole.step(3)
    _, state = whole.snapshot()
    whole.step(4)
    second = solver.make("solver.prototxt")
    second.restore(state)
    second.step(4)
    for one, other in zip(whole.net.params["ip"], second.net.params["ip"]):
        assert one.data.tobytes() == other.data.tobytes()
    whole.close(), second.close()


def test_a_state_of_something_else_is_refused(folder):
    layer, top = make(folder, DATA % ("", ""))
    batches(layer, top, 1)
    state = layer.state()
    with pytest.raises(Error, match="has no key '999999' to go on behind"):
        layer.set_state({**state, "after": "999999"})
    with pytest.raises(Error, match=r"layer 'in' \(Data\): the data order to restore is not of such a layer"):
        layer.set_state({"row": 3})
    assert [label.tolist() for _, label in batches(layer, top, 1)] == [[4, 5, 6, 7]]
    layer.close()


def reading():
    return [thread for thread in threading.enumerate() if thread.name == "deepjet-read-ahead"]


def test_threads_end_with_the_layer(folder):
    before = len(reading())
    layer, top = make(folder, DATA % ("", ""))
    assert len(reading()) == before  # nothing is read ahead before the net runs
    batches(layer, top, 1)
    assert len(reading()) == before + 1
    layer.close()
    assert len(reading()) == before
    assert batches(layer, top, 1)[0][1].tolist() == [4, 5, 6, 7]  # it works on
    del layer, top
    gc.collect()
    assert len(reading()) == before


@pytest.mark.parametrize("prefetch", [0, 4])
@pytest.mark.parametrize("value, message", [
    (b"\xff\xff\xff", "key '000002x' of LMDB database '.*bad': not a Datum"),
    (caffe_pb2.Datum(channels=3, height=8, width=10, data=b"12").SerializeToString(), "2 values for 3 x 8 x 10 = 240"),
    (caffe_pb2.Datum(encoded=True, data=b"12").SerializeToString(), "encoded picture, key '000002x' of .*, is not a picture")])
def test_a_damaged_record_is_named_each_time(folder, prefetch, value, message):
    made = [(b"%06d" % number, datum.make(picture).SerializeToString()) for number, picture in enumerate(PICTURES)]
    records.write(folder / "bad", "lmdb", [*made, (b"000002x", value)])
    text = (DATA % (f"prefetch: {prefetch}", "")).replace('"db"', '"bad"').replace("batch_size: 4", "batch_size: 1")
    layer, top = make(folder, text)
    batches(layer, top, 3)
    for _ in range(2):
        with pytest.raises(Error, match=message):
            batches(layer, top, 1)
    layer.close()


@pytest.mark.parametrize("text, message", [
    ('type: "Data" data_param { batch_size: 1 }', "has no 'source'"),
    ('type: "Data" data_param { source: "db" }', "has no 'batch_size'"),
    ('type: "Data" data_param { source: "gone" batch_size: 1 }', "database 'gone' not found; tried"),
    ('type: "Data" data_param { source: "db" batch_size: 1 }', "holds a database of LMDB, not of LevelDB; say so: backend: LMDB"),
    (DATA % ("", "crop_size: 9"), r"key '000000' .* is 8x10 \(height x width\), smaller than crop_size 9"),
    (DATA % ("", "mean_value: 1 mean_value: 2"), "mean_value is given 2 times, but key '000000'"),
])
def test_what_does_not_fit_is_refused(folder, text, message):
    with pytest.raises(Error, match=message):
        make(folder, text)


def test_an_empty_database_and_one_that_is_gone(tmp_path):
    write(tmp_path / "db", [])
    with pytest.raises(Error, match="LMDB database '.*db': holds no record"):
        make(tmp_path, DATA % ("", ""))
    with pytest.raises(PathError):
        make(tmp_path / "elsewhere", DATA % ("", ""))
