"""What the nets eat: BGR, mean subtracted once in float64, and labels resized by the nearest pixel only."""

import numpy as np
import pytest
from PIL import Image

from data import transform
from netspec.errors import Error


def picture(height=5, width=7, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_preprocess_is_bgr_minus_mean_rounded_once():
    image = picture()
    data = transform.preprocess(image)
    assert data.shape == (3, 5, 7) and data.dtype == np.float32 and data.flags.c_contiguous
    for channel in range(3):
        for y in range(5):
            for x in range(7):
                exact = np.float64(image[y, x, 2 - channel]) - np.float64(transform.VOC_MEAN[channel])
                assert data[channel, y, x] == np.float32(exact)


def test_preprocess_takes_pil_grey_floats_and_alpha():
    image = picture()
    assert np.array_equal(transform.preprocess(Image.fromarray(image)), transform.preprocess(image))
    assert np.array_equal(transform.preprocess(image.astype(np.float64)), transform.preprocess(image))
    grey = transform.preprocess(image[:, :, 0], mean=(0, 0, 0))
    assert np.array_equal(grey[0], image[:, :, 0]) and np.array_equal(grey[0], grey[2])
    four = np.dstack([image, image[:, :, :1]])
    assert np.array_equal(transform.preprocess(four), transform.preprocess(image))
    assert transform.preprocess(Image.fromarray(image).convert("P")).shape == (3, 5, 7)


def test_deprocess_inverts_preprocess():
    image = picture(9, 4)
    data = transform.preprocess(image)
    assert np.array_equal(transform.deprocess(data), image)
    assert np.array_equal(transform.deprocess(data[None]), image)


def test_a_wrong_mean_or_shape_is_an_error():
    with pytest.raises(Error, match="three finite numbers"):
        transform.preprocess(picture(), mean=(1, 2))
    with pytest.raises(Error, match="three finite numbers"):
        transform.preprocess(picture(), mean=(1, 2, float("nan")))
    with pytest.raises(Error, match=r"\(H, W, 3\)"):
        transform.preprocess(np.zeros((2, 3, 5), np.uint8))
    with pytest.raises(Error, match="deprocess"):
        transform.deprocess(np.zeros((4, 3, 3)))


def test_resize_label_takes_the_nearest_and_invents_no_class():
    label = np.random.default_rng(1).choice(np.array([0, 3, 20, 255], np.uint8), (7, 11))
    for height, width in [(7, 11), (14, 22), (3, 5), (1, 1), (20, 4)]:
        small = transform.resize_label(label, height, width)
        assert small.shape == (height, width) and small.dtype == np.uint8
        for y in range(height):
            for x in range(width):
                assert small[y, x] == label[int((y + 0.5) * 7 / height), int((x + 0.5) * 11 / width)]
    with pytest.raises(Error):
        transform.resize_label(label, 0, 3)


def test_resize_image_keeps_a_flat_picture_flat():
    flat = np.full((6, 9, 3), 77, np.uint8)
    assert np.array_equal(transform.resize_image(flat, 12, 5), np.full((12, 5, 3), 77))
