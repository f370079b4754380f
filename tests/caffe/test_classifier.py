import numpy as np
import pytest
from PIL import Image

import caffe
from netspec.errors import Error

NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
SETTINGS = {"mean": np.array([104, 117, 123]), "raw_scale": 255, "channel_swap": (2, 1, 0)}


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    caffe.Net("net.prototxt", caffe.TEST, seed=2).save("net.caffemodel")
    return "net.prototxt", "net.caffemodel"


@pytest.fixture
def images():
    rng = np.random.default_rng(1)
    return [rng.random((9, 11, 3)).astype(np.float32) for _ in range(3)]


def expected(model, crops):
    """Return the net's answers to crops of its size, one at a time and by hand."""
    net = caffe.Net(*model, caffe.TEST)
    net.blobs["data"].reshape(1, 3, 6, 6)
    out = []
    for crop in crops:
        net.blobs["data"].data[0] = crop.transpose(2, 0, 1)[::-1] * 255 - SETTINGS["mean"].reshape(3, 1, 1)
        out.append(net.forward()["prob"][0].copy())
    return np.array(out)


def test_predict_is_the_mean_over_ten_crops_or_the_centre(model, images):
    classifier = caffe.Classifier(*model, image_dims=(8, 10), **SETTINGS)
    resized = [caffe.io.resize_image(image, (8, 10)) for image in images]
    ten = expected(model, caffe.io.oversample(resized, (6, 6))).reshape(3, 10, 5).mean(1)
    assert np.allclose(classifier.predict(images), ten, atol=1e-6)
    centre = expected(model, [image[1:7, 2:8] for image in resized])
    assert np.allclose(classifier.predict(images, oversample=False), centre, atol=1e-6)


def test_pictures_are_resized_to_the_input_when_nothing_else_is_said(model, images):
    classifier = caffe.Classifier(*model, **SETTINGS)
    centre = expected(model, [caffe.io.resize_image(image, (6, 6)) for image in images])
    assert np.allclose(classifier.predict(images, False), centre, atol=1e-6)


def test_a_net_with_two_inputs_is_no_classifier(model, tmp_path):
    (tmp_path / "two.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }')
    with pytest.raises(Error, match="has 2 inputs"):
        caffe.Classifier("two.prototxt", "net.caffemodel")


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return "photo.png", pixels / np.float32(255)


def test_windows_are_cut_resized_and_classified(model, photo):
    name, pixels = photo
    detector = caffe.Detector(*model, **SETTINGS)
    windows = np.array([[2, 3, 8, 9], [0, 0, 20, 24], [5, 5, 17, 11]])
    found = detector.detect_windows([(name, windows)])
    crops = [caffe.io.resize_image(pixels[a:c, b:d], (6, 6)) for a, b, c, d in windows]
    assert np.allclose([one["prediction"] for one in found], expected(model, crops), atol=1e-6)
    assert [list(one["window"]) for one in found] == windows.tolist() and found[0]["filename"] == name
    assert detector.detect_windows([]) == []


def test_context_is_kept_around_a_window_and_the_mean_beyond_the_picture(model, photo):
    _, pixels = photo
    detector = caffe.Detector(*model, context_pad=1, **SETTINGS)
    inside = detector.crop(pixels, (8, 8, 12, 12))  # 5 pixels by Caffe's count grow to 7.5: 6.75 to 14.25
    assert inside.shape == (6, 6, 3)
    assert np.allclose(inside, caffe.io.resize_image(pixels[7:14, 7:14], (6, 6)), atol=1e-6)
    corner = detector.crop(pixels, (0, 0, 6, 6))
    mean = SETTINGS["mean"][::-1] / 255
    assert np.allclose(corner[0], mean, atol=1e-6) and np.allclose(corner[:, 0], mean, atol=1e-6)
    assert not np.allclose(corner[3], mean, atol=1e-3)
    with pytest.raises(Error, match="holds no pixels"):
        detector.crop(pixels, (30, 30, 40, 40))


def test_selective_search_says_where_the_windows_come_from(model):
    with pytest.raises(Error, match="use detect_windows"):
        caffe.Detector(*model).detect_selective_search(["x.png"])
