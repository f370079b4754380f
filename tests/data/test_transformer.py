import numpy as np
import pytest
from google.protobuf import text_format

from data.transformer import Transformer
from netspec import binaryproto, caffe_pb2
from netspec.errors import Error, PathError

SHAPE = 3, 7, 9


def make(text, training=False, beside=None):
    return Transformer(text_format.Parse(text, caffe_pb2.TransformationParameter()), training, beside)


class Draw:
    """Stands for random numbers: gives those of a list and keeps what was asked for."""

    def __init__(self, *numbers):
        self.numbers, self.asked = list(numbers), []

    def __call__(self, count):
        self.asked.append(count)
        return self.numbers.pop(0)


def run(made, picture, *numbers):
    draw, out = Draw(*numbers), np.full(made.shape(picture.shape, "it"), 7, np.float32)
    made(picture, out, draw, "it")
    assert not draw.numbers
    return out, draw.asked


def expected(picture, top, left, height, width, mean, scale, mirror):
    """Caffe's loop, a value at a time: `mean` is an array of the whole picture's shape."""
    out = np.empty((picture.shape[0], height, width), np.float32)
    for c in range(picture.shape[0]):
        for h in range(height):
            for w in range(width):
                value = np.float32(picture[c, top + h, left + w]) - np.float32(mean[c, top + h, left + w])
                out[c, h, width - 1 - w if mirror else w] = value * np.float32(scale)
    return out


@pytest.fixture
def picture():
    return np.random.RandomState(0).randint(0, 256, SHAPE).astype(np.uint8)


@pytest.fixture
def mean(tmp_path):
    values = np.random.RandomState(1).uniform(90, 130, SHAPE).astype(np.float32)
    binaryproto.write_mean(tmp_path / "mean.binaryproto", values)
    return values


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("crop", [0, 4, 7])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("which", ["", "mean_file", "one", "three"])
@pytest.mark.parametrize("training", [False, True])
def test_order_is_crop_mean_scale_mirror(tmp_path, picture, mean, kind, crop, mirror, which, training):
    text = {"": "", "mean_file": 'mean_file: "mean.binaryproto"', "one": "mean_value: 104.5",
            "three": "mean_value: 104.5 mean_value: 117 mean_value: 123"}[which]
    values = {"": np.zeros(SHAPE), "mean_file": mean, "one": np.full(SHAPE, 104.5),
              "three": np.broadcast_to(np.reshape([104.5, 117, 123], (3, 1, 1)), SHAPE)}[which]
    made = make(f"{text} scale: 0.017 crop_size: {crop} mirror: {str(mirror).lower()}", training, tmp_path / "net.prototxt")
    height, width = (crop, crop) if crop else SHAPE[1:]
    rows, columns = SHAPE[1] - height, SHAPE[2] - width
    for flip in (0, 1) if mirror else (0,):
        top, left = (rows, columns // 2 + 1 if columns else 0) if training and crop else (rows // 2, columns // 2)
        numbers = ([flip] if mirror else []) + ([top, left] if training and crop else [])
        out, asked = run(made, picture.astype(kind), *numbers)
        assert np.array_equal(out, expected(picture, top, left, height, width, values, 0.017, flip))
        assert asked == ([2] if mirror else []) + ([rows + 1, columns + 1] if training and crop else [])


def test_nothing_asked_for_leaves_the_values(picture):
    assert np.array_equal(run(make(""), picture)[0], picture.astype(np.float32))


def test_colours_are_as_the_fields_say():
    assert [make(text).color for text in ("", "force_color: true", "force_gray: true")] == [None, True, False]


@pytest.mark.parametrize("text, message", [
    ("force_color: true force_gray: true", "both force_color and force_gray"),
    ('mean_file: "mean.binaryproto" mean_value: 3', "both mean_file and mean_value"),
    ("mean_value: 1 mean_value: 2", "mean_value is given 2 times, but it has 3 channels"),
    ("crop_size: 8", r"it is 7x9 \(height x width\), smaller than crop_size 8"),
    ('mean_file: "small.binaryproto"', "it is 3x7x9 .* but the mean file '.*small.binaryproto' is 3x4x4"),
    ('mean_file: "flat.binaryproto"', r"holds an array of shape \[2, 3, 4, 4\]"),
])
def test_what_does_not_fit_is_refused(tmp_path, picture, mean, text, message):
    binaryproto.write_mean(tmp_path / "small.binaryproto", np.zeros((3, 4, 4)))
    binaryproto.write_mean(tmp_path / "flat.binaryproto", np.zeros((2, 3, 4, 4)))
    with pytest.raises(Error, match=message):
        run(make(text, beside=tmp_path / "net.prototxt"), picture)


def test_a_missing_or_damaged_mean_file_is_named(tmp_path):
    with pytest.raises(PathError, match="mean file 'gone' not found; tried"):
        make('mean_file: "gone"')
    (tmp_path / "bad").write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(Error, match="bad"):
        make('mean_file: "bad"', beside=tmp_path / "net.prototxt")
