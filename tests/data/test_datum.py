import numpy as np
import pytest

from data import datum
from netspec import caffe_pb2
from netspec.errors import Error


def test_bytes_and_floats_come_back():
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    made = datum.parse(datum.make(values, 7).SerializeToString(), "here")
    assert made.label == 7 and datum.array(made, "here").dtype == np.uint8
    assert np.array_equal(datum.array(made, "here"), values)
    floats = datum.array(datum.make(values / 3), "here")
    assert floats.dtype == np.float32 and np.array_equal(floats, (values / 3).astype(np.float32))


@pytest.mark.parametrize("kind", ["png", "bmp", "jpg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_pictures_come_back(kind, channels):
    picture = np.full((8, 9, channels), 90, np.uint8)
    picture[:, :, 0] = 200
    made = datum.encode(picture, kind, 3)
    assert made.encoded and made.label == 3
    found = datum.array(made, "here")
    assert found.shape == (channels, 8, 9)
    assert abs(found.astype(int) - picture.transpose(2, 0, 1)).max() <= (3 if kind == "jpg" else 0)
    assert datum.array(made, "here", color=True).shape == (3, 8, 9) and datum.array(made, "here", color=False).shape == (1, 8, 9)


def test_jpegs_are_those_that_opencv_writes():
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless (pip install -e '.[test]')")
    picture = np.random.RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8)
    ours, theirs = datum.encode(picture, "jpg").data, cv2.imencode(".jpg", picture)[1]
    assert np.array_equal(cv2.imdecode(np.frombuffer(ours, np.uint8), 1), cv2.imdecode(theirs, 1))


@pytest.mark.parametrize("fields, message", [
    (dict(channels=3, height=2, width=2, data=b"123"), r"key 'a': 3 values for 3 x 2 x 2 = 12"),
    (dict(channels=1, height=2, width=2, float_data=[1, 2, 3]), "3 values for 1 x 2 x 2 = 4"),
    (dict(channels=3, height=0, width=2), "each must be 1 or more"),
    (dict(channels=-3, height=2, width=2), "each must be 1 or more"),
    (dict(encoded=True), "has no data"),
    (dict(encoded=True, data=b"no picture"), "encoded picture, key 'a', is not a picture"),
])
def test_damaged_ones_are_named(fields, message):
    with pytest.raises(Error, match=message):
        datum.array(caffe_pb2.Datum(**fields), "key 'a'")


def test_what_is_no_datum_is_named():
    with pytest.raises(Error, match="key 'a': not a Datum"):
        datum.parse(b"\xff\xff\xff", "key 'a'")
    with pytest.raises(Error, match="an array .channels, height, width. with values"):
        datum.make(np.zeros((3, 4)))
    with pytest.raises(Error, match="cannot be encoded as 'psd'"):
        datum.encode(np.zeros((3, 4, 3), np.uint8), "psd")
