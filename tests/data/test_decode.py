import io

import numpy as np
import pytest
from PIL import Image

from data.decode import decode
from netspec.errors import Error, PathError

cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless (pip install -e '.[test]')")
FLAGS = {True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE, None: cv2.IMREAD_UNCHANGED}


def pixels(channels, side=48):
    smooth = np.random.RandomState(channels).randint(0, 256, (side // 8, side // 8, channels)).astype(np.uint8)
    return np.ascontiguousarray(np.kron(smooth, np.ones((8, 8, 1), np.uint8)) ^ np.arange(side, dtype=np.uint8)[:, None, None])


def saved(kind, channels=3, mode=None):
    file, values = io.BytesIO(), pixels(channels)
    picture = Image.fromarray(values[:, :, 0] if channels == 1 else values)
    (picture.convert(mode) if mode else picture).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("color", [True, False, None])
@pytest.mark.parametrize("data", [
    saved("JPEG"), saved("JPEG", 1), saved("PNG"), saved("PNG", 1), saved("PNG", 4), saved("PNG", mode="P"),
    saved("PNG", mode="1"), saved("BMP"), saved("TIFF"), saved("PPM")], ids=lambda data: data[:4].hex())
def test_values_are_opencvs(data, color):
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS[color])
    found = decode("here", color, data)
    assert found.dtype == np.uint8 and found.ndim == 3
    assert np.array_equal(found, expected.reshape(*expected.shape[:2], -1))


@pytest.mark.parametrize("color", [True, False])
def test_sixteen_bits_become_eight(color):
    file = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 65536, (5, 6)).astype(np.uint16)).save(file, "PNG")
    expected = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), FLAGS[color])
    assert np.array_equal(decode("here", color, file.getvalue()), expected.reshape(5, 6, -1))
    with pytest.raises(Error, match="more than 8 bits a channel"):
        decode("here", None, file.getvalue())


def test_files_that_are_no_pictures_are_named(tmp_path):
    with pytest.raises(PathError, match="image of list.txt:3 '.*gone.jpg' not found"):
        decode(tmp_path / "gone.jpg", True, what="image of list.txt:3")
    (tmp_path / "cut.jpg").write_bytes(saved("JPEG")[:300])
    with pytest.raises(Error, match="cannot read image '.*cut.jpg'"):
        decode(tmp_path / "cut.jpg", True)
    with pytest.raises(Error, match="encoded picture, key 'a' of x, is not a picture"):
        decode("key 'a' of x", None, b"no picture", "encoded picture")
