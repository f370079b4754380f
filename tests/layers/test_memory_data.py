import logging

import numpy as np
import pytest

import caffe
from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.sources import batches, make

TEXT = 'type: "MemoryData" memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }'
DATA = np.random.RandomState(0).randn(6, 3, 4, 5).astype(np.float32)
LABELS = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize("labels", [LABELS, LABELS.reshape(6, 1, 1, 1)])
def test_arrays_are_delivered_round_and_round(tmp_path, labels):
    layer, top = make(tmp_path, TEXT)
    assert layer.top_shapes([]) == [(2, 3, 4, 5), (2,)]
    layer.reset(DATA, labels)
    seen = batches(layer, top, 4)
    assert [label.tolist() for _, label in seen] == [[0, 1], [2, 3], [4, 5], [0, 1]]
    assert np.array_equal(seen[2][0], DATA[4:])
    layer.reset(DATA[:2] + 1, labels[:2])
    assert np.array_equal(batches(layer, top, 1)[0][0], DATA[:2] + 1)


def test_scripts_of_pycaffe_run(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(f'layer {{ name: "in" top: "data" top: "label" {TEXT} }} '
                    'layer { name: "p" type: "Power" bottom: "data" top: "p" power_param { scale: 2 } }')
    net = caffe.Net(str(path), caffe.TEST)
    with pytest.raises(Error, match=r"layer 'in' \(MemoryData.*has no data; call net.set_input_arrays"):
        net.forward()
    net.set_input_arrays(DATA, LABELS)
    assert np.array_equal(net.forward()["p"], 2 * DATA[:2])
    net.forward()
    state = net.state()
    expected = net.forward()["p"].copy()
    net.forward()
    net.set_state(state)
    assert np.array_equal(net.forward()["p"], expected)
    path.write_text('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    with pytest.raises(Error, match=r"first layer is a MemoryData; here it is 'in' \(Input\)"):
        caffe.Net(str(path), caffe.TEST).set_input_arrays(DATA, LABELS)


def test_pictures_are_transformed_and_arrays_are_not(tmp_path, caplog):
    layer, top = make(tmp_path, TEXT + ' transform_param { mean_value: 10 scale: 0.5 }')
    pictures = np.random.RandomState(1).randint(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    layer.add_pictures(pictures, [3, 4])
    (found, labels), = batches(layer, top, 1)
    assert np.array_equal(found, (pictures.transpose(0, 3, 1, 2).astype(np.float32) - 10) * 0.5) and labels.tolist() == [3, 4]
    with caplog.at_level(logging.WARNING, "deepjet"):
        layer.reset(DATA, LABELS)
    assert "transform_param does not transform arrays" in caplog.text
    assert np.array_equal(batches(layer, top, 1)[0][0], DATA[:2])


@pytest.mark.parametrize("data, labels, message", [
    (DATA[:, :2], LABELS, r"data has shape \[6, 2, 4, 5\]; it must be \(n, 3, 4, 5\)"), (DATA[0], LABELS, "data has shape"),
    (DATA, LABELS[:4], r"labels have shape \[4\] for 6 pictures"),
    (DATA[:3], LABELS[:3], "3 pictures are given; it must be a multiple of batch_size 2"),
    (DATA[:0], LABELS[:0], "0 pictures are given"), (DATA.astype(str), LABELS, "data are of type <U32; numbers are wanted")])
def test_arrays_that_do_not_fit_are_refused(tmp_path, data, labels, message):
    layer, _ = make(tmp_path, TEXT)
    with pytest.raises(Error, match=message):
        layer.reset(data, labels)


@pytest.mark.parametrize("pictures, labels, message", [
    (np.zeros((2, 4, 6, 3), np.uint8), [1, 2], r"picture 0 becomes \[3, 4, 6\], but memory_data_param says \[3, 4, 5\]"),
    (np.zeros((2, 4, 5), np.uint8), [1, 2], r"picture 0 has shape \[4, 5\]"),
    (np.zeros((3, 4, 5, 3), np.uint8), [1, 2, 3], "3 pictures and 3 labels are given"),
    (np.zeros((2, 4, 5, 3), np.uint8), [1], "2 pictures and 1 labels are given")])
def test_pictures_that_do_not_fit_are_refused(tmp_path, pictures, labels, message):
    layer, _ = make(tmp_path, TEXT)
    with pytest.raises(Error, match=message):
        layer.add_pictures(pictures, labels)


def test_sizes_are_needed_and_two_tops(tmp_path):
    with pytest.raises(Error, match="has no 'height', or 0"):
        make(tmp_path, TEXT.replace("height: 4", ""))
    with pytest.raises(Error, match="takes 2 top blobs, 1 given"):
        make(tmp_path, TEXT, tops=("data",))


def test_a_resume_needs_the_same_arrays(tmp_path):
    layer, top = make(tmp_path, TEXT, phase=caffe_pb2.TRAIN)
    layer.reset(DATA, LABELS)
    batches(layer, top, 2)
    other, _ = make(tmp_path, TEXT)
    with pytest.raises(Error, match="stands at picture 4 of 0; hand over the same arrays before"):
        other.set_state(layer.state())
