import json

import h5py
import numpy as np
import pytest

from layers.core import catalogue
from layers.core.blob import Blob
from layers.core.rng import Stream
from netspec import caffe_pb2
from netspec.errors import Error, PathError


def write(path, first, rows, **more):
    """Write `rows` rows numbered from `first`: data (rows, 2, 3), label (rows)."""
    numbers = np.arange(first, first + rows)
    with h5py.File(path, "w") as file:
        file["data"] = numbers[:, None, None] * 10.0 + np.arange(6).reshape(2, 3)
        file["label"] = numbers.astype("i4")
        for name, values in more.items():
            file[name] = values


def make(folder, batch=2, shuffle=False, tops=("data", "label"), source="list.txt", seed=1):
    param = caffe_pb2.LayerParameter(name="in", type="HDF5Data", top=tops)
    param.hdf5_data_param.source = source
    param.hdf5_data_param.batch_size = batch
    param.hdf5_data_param.shuffle = shuffle
    layer = catalogue.find("HDF5Data")(param, caffe_pb2.TRAIN, Stream(seed))
    layer.prototxt = str(folder / "net.prototxt")
    top = [Blob((), name) for name in tops]
    layer.setup([], top)
    layer.reshape([], top)
    return layer, top


def labels(layer, top, passes):
    seen = []
    for _ in range(passes):
        layer.reshape([], top)
        layer.forward([], top)
        np.testing.assert_array_equal(top[0].data, top[1].data[:, None, None] * 10 + np.arange(6).reshape(2, 3))
        seen += top[1].data.astype(int).tolist()
    return seen


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a.h5", 0, 3)
    write(tmp_path / "b.h5", 3, 4)
    (tmp_path / "list.txt").write_text("a.h5\n b.h5\n\n")
    return tmp_path


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16])
def test_rows_come_in_order_over_files_and_from_the_start_again(folder, batch):
    layer, top = make(folder, batch)
    assert [blob.shape for blob in top] == layer.top_shapes([]) == [(batch, 2, 3), (batch,)]
    seen = labels(layer, top, 5)
    assert seen == [i % 7 for i in range(5 * batch)]


def test_one_file_and_any_rank(tmp_path):
    write(tmp_path / "a.h5", 0, 3, deep=np.arange(3 * 16).reshape(3, 1, 2, 2, 2, 2))
    (tmp_path / "list.txt").write_text("a.h5")
    layer, top = make(tmp_path, 2, tops=("deep", "label"))
    layer.forward([], top)
    layer.forward([], top)
    np.testing.assert_array_equal(top[0].data, np.arange(48).reshape(3, 1, 2, 2, 2, 2)[[2, 0]])


def test_shuffling_delivers_each_row_once_a_round_in_another_order(folder):
    layer, top = make(folder, 7, shuffle=True)
    rounds = [labels(layer, top, 1) for _ in range(6)]
    assert all(sorted(r) == list(range(7)) for r in rounds)
    assert len({tuple(r) for r in rounds}) > 3
    # Files are read one after the other, in random order.
    assert all({*r[:3]} == {0, 1, 2} or {*r[:4]} == {3, 4, 5, 6} for r in rounds)
    assert len({r[0] < 3 for r in rounds}) == 2
    again, top = make(folder, 7, shuffle=True)
    assert [labels(again, top, 1) for _ in range(6)] == rounds
    other, top = make(folder, 7, shuffle=True, seed=2)
    assert [labels(other, top, 1) for _ in range(6)] != rounds


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("done", range(9))
def test_resume_goes_on_exactly(folder, shuffle, done):
    layer, top = make(folder, 2, shuffle)
    labels(layer, top, done)
    state = json.loads(json.dumps(layer.state()))
    expected = labels(layer, top, 12)
    other, top = make(folder, 2, shuffle, seed=99)
    labels(other, top, 3)
    other.set_state(state)
    assert labels(other, top, 12) == expected


def test_a_state_of_other_files_is_refused(folder):
    layer, top = make(folder, 2)
    labels(layer, top, 3)
    state = layer.state()
    write(folder / "b.h5", 3, 1)
    other, top = make(folder, 2)
    with pytest.raises(Error, match="stands at row 3 of '.*b.h5', which has only 1 rows"):
        other.set_state(state)
    (folder / "list.txt").write_text("a.h5")
    other, top = make(folder, 2)
    with pytest.raises(Error, match="now lists 1 files"):
        other.set_state(state)


def test_missing_files_say_where_they_were_looked_for(folder):
    with pytest.raises(PathError, match="'nowhere.txt' not found; tried: .*nowhere.txt, .*nowhere.txt"):
        make(folder, source="nowhere.txt")
    (folder / "list.txt").write_text("a.h5 gone.h5")
    with pytest.raises(PathError, match="'gone.h5' not found"):
        make(folder)


def test_wrong_files_are_refused(folder):
    with pytest.raises(Error, match=r"a.h5' has no data set 'lable'; did you mean 'label'\?; it has: data, label"):
        make(folder, tops=("data", "lable"))
    (folder / "list.txt").write_text("")
    with pytest.raises(Error, match="lists no HDF5 file"):
        make(folder)
    (folder / "c.h5").write_bytes((folder / "a.h5").read_bytes()[:700])
    (folder / "list.txt").write_text("c.h5")
    with pytest.raises(Error, match=r"layer 'in' \(HDF5Data\): cannot read '.*c.h5' as HDF5"):
        make(folder)
    write(folder / "d.h5", 0, 3, short=np.zeros(2), word=[b"x", b"y", b"z"], one=1.0)
    (folder / "list.txt").write_text("d.h5")
    with pytest.raises(Error, match="differ in their number of rows: 'data' 3, 'short' 2"):
        make(folder, tops=("data", "short"))
    with pytest.raises(Error, match="numbers are wanted"):
        make(folder, tops=("data", "word"))
    with pytest.raises(Error, match=r"shape \[\]; it needs rows"):
        make(folder, tops=("data", "one"))


def test_rows_of_another_shape_in_a_later_file_are_refused(folder):
    with h5py.File(folder / "b.h5", "w") as file:
        file["data"], file["label"] = np.zeros((4, 2, 5)), np.zeros(4)
    layer, top = make(folder, 2)
    layer.forward([], top)
    with pytest.raises(Error, match=r"has rows of shape \[2, 5\], but an earlier file's have \[2, 3\]"):
        layer.forward([], top)


@pytest.mark.parametrize("param, message", [
    ("batch_size: 1", "has no 'source'"), ('source: "x"', "has no 'batch_size'"),
])
def test_missing_parameters_are_refused(param, message):
    from tests.support import make_layer

    with pytest.raises(Error, match=message):
        make_layer(f'type: "HDF5Data" hdf5_data_param {{ {param} }}', [])
