import os

import h5py
import numpy as np
import pytest

from layers.core import catalogue
from layers.core.blob import Blob
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.sources import batches, make

DATA = [np.random.RandomState(number).randn(3, 2, 4).astype(np.float32) for number in range(3)]
LABELS = [np.arange(3 * number, 3 * number + 3).astype(np.float32) for number in range(3)]


def layer_of(path, *bottoms, dtype=np.float32):
    param = caffe_pb2.LayerParameter(name="out", type="HDF5Output", bottom=["a", "b"])
    param.hdf5_output_param.file_name = str(path)
    layer = catalogue.find("HDF5Output")(param, dtype=dtype)
    blobs = [Blob(np.shape(values), f"bottom_{number}", dtype) for number, values in enumerate(bottoms)]
    for blob, values in zip(blobs, bottoms):
        blob.data[...] = values
    layer.check_counts(2, 0)
    layer.setup(blobs, [])
    layer.reshape(blobs, [])
    return layer, blobs


def read(path):
    with h5py.File(path) as file:
        return {name: file[name][...] for name in file}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_forward_appends_its_rows(tmp_path, dtype):
    path = tmp_path / "folder/out.h5"
    layer, bottom = layer_of(path, DATA[0], LABELS[0], dtype=dtype)
    for number in range(3):
        bottom[0].data[...], bottom[1].data[...] = DATA[number], LABELS[number]
        layer.forward(bottom, [])
        found = read(path)
        assert sorted(found) == ["data", "label"] and found["data"].dtype == dtype
        assert np.array_equal(found["data"], np.concatenate(DATA[:number + 1]))
        assert np.array_equal(found["label"], np.concatenate(LABELS[:number + 1]))
    layer.backward([], [True, True], bottom)


def test_hdf5_data_reads_it(tmp_path):
    layer, bottom = layer_of(tmp_path / "out.h5", DATA[0], LABELS[0])
    layer.forward(bottom, [])
    (tmp_path / "list.txt").write_text("out.h5\n")
    reader, top = make(tmp_path, 'type: "HDF5Data" hdf5_data_param { source: "list.txt" batch_size: 3 }')
    (data, label), = batches(reader, top, 1)
    assert np.array_equal(data, DATA[0]) and np.array_equal(label, LABELS[0])


def test_a_new_net_writes_a_new_file(tmp_path):
    for number in range(2):
        layer, bottom = layer_of(tmp_path / "out.h5", DATA[number], LABELS[number])
        layer.forward(bottom, [])
    assert np.array_equal(read(tmp_path / "out.h5")["data"], DATA[1])


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(Error, match="has no 'file_name'"):
        layer_of("", DATA[0], LABELS[0])
    with pytest.raises(Error, match="'a' has 3 rows, 'b' 2; they must be equal"):
        layer_of(tmp_path / "out.h5", DATA[0], LABELS[0][:2])
    with pytest.raises(Error, match="'b' has no axis"):
        layer_of(tmp_path / "out.h5", DATA[0], np.float32(1))
    layer, bottom = layer_of(tmp_path / "out.h5", DATA[0], LABELS[0])
    layer.forward(bottom, [])
    bottom[0].reshape(3, 2, 5)
    with pytest.raises(Error, match=r"has rows of shape \[2, 4\] in 'data', 'bottom_0' now has \[2, 5\]"):
        layer.forward(bottom, [])
    os.unlink(tmp_path / "out.h5")
    with pytest.raises(Error, match="cannot append to '.*out.h5'"):
        layer.forward(bottom, [])


def test_a_place_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    layer, bottom = layer_of(tmp_path / "file/out.h5", DATA[0], LABELS[0])
    with pytest.raises(Error, match="cannot write '.*out.h5'"):
        layer.forward(bottom, [])
