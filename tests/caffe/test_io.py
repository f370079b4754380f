import numpy as np
import pytest
from PIL import Image

import caffe
from netspec.errors import Error


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((6, 8, 3)).astype(np.float32)


def test_preprocess_is_the_formula_in_caffes_order_and_deprocess_its_inverse(picture):
    transformer = caffe.io.Transformer({"data": (1, 3, 6, 8)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([104, 117, 123]))
    transformer.set_input_scale("data", 0.017)
    out = transformer.preprocess("data", picture)
    expected = (picture.transpose(2, 0, 1)[::-1] * 255 - np.array([104, 117, 123]).reshape(3, 1, 1)) * 0.017
    assert out.dtype == np.float32 and np.allclose(out, expected, atol=1e-5)
    assert np.allclose(transformer.deprocess("data", out[None]), picture, atol=1e-6)


def test_a_picture_of_another_size_is_resized(picture):
    transformer = caffe.io.Transformer({"data": (1, 3, 3, 4)})
    transformer.set_transpose("data", (2, 0, 1))
    halved = transformer.preprocess("data", picture)
    # At half the size a bilinear sample lies between four pixels.
    assert np.allclose(halved, picture.reshape(3, 2, 4, 2, 3).mean((1, 3)).transpose(2, 0, 1), atol=1e-6)


def test_resizing_keeps_constants_ramps_and_the_size():
    assert np.allclose(caffe.io.resize_image(np.full((5, 7, 2), 0.3), (9, 4)), 0.3)
    ramp = np.tile(np.arange(8.0)[:, None, None], (1, 3, 1))
    larger = caffe.io.resize_image(ramp, (16, 3))
    assert larger.shape == (16, 3, 1) and np.allclose(larger[1:-1, 0, 0], (np.arange(16) + 0.5)[1:-1] / 2 - 0.5)
    with pytest.raises(Error, match=r"\(height, width, channels\)"):
        caffe.io.resize_image(np.zeros((5, 7)), (3, 3))


def test_settings_that_do_not_fit_are_refused():
    transformer = caffe.io.Transformer({"data": (1, 3, 6, 8)})
    for change, what in ((lambda: transformer.set_mean("data", np.zeros(4)), "4 channels, 'data' 3"),
                         (lambda: transformer.set_mean("data", np.zeros((3, 5, 5))), r"\[3, 5, 5\], 'data' \[3, 6, 8\]"),
                         (lambda: transformer.set_channel_swap("data", (0, 1)), "none of the 3 channels"),
                         (lambda: transformer.set_transpose("data", (0, 1)), "has 2 axes"),
                         (lambda: transformer.set_raw_scale("dat", 1), "did you mean 'data'")):
        with pytest.raises(Error, match=what):
            change()


def test_oversampling_takes_corners_centre_and_mirrors(picture):
    out = caffe.io.oversample([picture, 1 - picture], (4, 4))
    assert out.shape == (20, 4, 4, 3) and out.dtype == np.float32
    for crop, (y, x) in zip(out, [(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)]):
        assert np.array_equal(crop, picture[y:y + 4, x:x + 4])
    assert np.array_equal(out[5:10], out[:5, :, ::-1]) and np.allclose(out[10:], 1 - out[:10])
    with pytest.raises(Error, match="do not fit"):
        caffe.io.oversample([picture], (7, 4))


def test_load_image_gives_red_green_blue_between_0_and_1(tmp_path):
    Image.fromarray(np.array([[[255, 0, 51]]], np.uint8)).save(tmp_path / "x.png")
    assert np.allclose(caffe.io.load_image(str(tmp_path / "x.png")), [[[1, 0, 0.2]]])
    assert np.allclose(caffe.io.load_image(str(tmp_path / "x.png"), color=False), 0.2125 + 0.2 * 0.0721)
    Image.fromarray(np.array([[51, 102]], np.uint8)).save(tmp_path / "grey.png")
    assert np.allclose(caffe.io.load_image(str(tmp_path / "grey.png")), [[[0.2] * 3, [0.4] * 3]])
    with pytest.raises(Error, match="not found"):
        caffe.io.load_image(str(tmp_path / "none.png"))


def test_blobs_and_datums_go_there_and_back():
    array = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    blob = caffe.io.array_to_blobproto(array, diff=-array)
    assert np.array_equal(caffe.io.blobproto_to_array(blob), array)
    assert np.array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), -array)
    old = caffe.proto.caffe_pb2.BlobProto(num=1, channels=2, height=1, width=2, data=[1, 2, 3, 4])
    assert caffe.io.blobproto_to_array(old).shape == (1, 2, 1, 2)
    arrays = caffe.io.blobprotovector_str_to_arraylist(caffe.io.arraylist_to_blobprotovector_str([array, array[0]]))
    assert [one.shape for one in arrays] == [(1, 2, 3, 4), (2, 3, 4)]
    for picture in (np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.arange(12.0).reshape(3, 2, 2)):
        datum = caffe.io.array_to_datum(picture, label=7)
        assert np.array_equal(caffe.io.datum_to_array(datum), picture) and datum.label == 7
    with pytest.raises(Error, match="holds 4 values"):
        old.width = 3
        caffe.io.blobproto_to_array(old)
    with pytest.raises(Error, match=r"\[2, 2\]"):
        caffe.io.array_to_datum(np.zeros((2, 2)))
