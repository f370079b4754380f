"""Fillers: their statistics, Caffe's fans, and what is refused."""

import math

import numpy as np
import pytest
from google.protobuf import text_format

from layers.core import filler
from layers.core.blob import Blob
from netspec import caffe_pb2
from netspec.errors import Error


def fail(text):
    raise Error(text)


def filled(text, shape, seed=0, dtype=np.float32):
    blob = Blob(shape, dtype=dtype)
    param = text_format.Parse(text, caffe_pb2.FillerParameter())
    filler.fill(blob, param, np.random.default_rng(seed), fail)
    return blob.data


def test_constant_is_the_default_and_zero():
    assert (filled("", (2, 3)) == 0).all()
    assert (filled("type: 'constant' value: 2.5", (2, 3)) == 2.5).all()


def test_uniform_fills_its_range_evenly():
    values = filled("type: 'uniform' min: 1 max: 3", (50, 1000))
    assert 1 <= values.min() < 1.01 and 2.99 < values.max() <= 3
    assert values.mean() == pytest.approx(2, abs=0.02)
    assert values.std() == pytest.approx(2 / math.sqrt(12), abs=0.02)


def test_gaussian_has_mean_and_std():
    values = filled("type: 'gaussian' mean: 4 std: 0.1", (100, 1000))
    assert values.mean() == pytest.approx(4, abs=0.002)
    assert values.std() == pytest.approx(0.1, abs=0.002)


def test_sparse_gaussian_keeps_about_sparse_of_num():
    values = filled("type: 'gaussian' std: 1 sparse: 5", (50, 2000))
    kept = values[values != 0]
    assert kept.size / values.size == pytest.approx(5 / 50, abs=0.005)
    assert kept.std() == pytest.approx(1, abs=0.03)
    assert not filled("type: 'gaussian' sparse: 0", (5, 6)).any()


def test_positive_unitball_rows_sum_to_one():
    values = filled("type: 'positive_unitball'", (7, 3, 5))
    assert values.min() >= 0
    np.testing.assert_allclose(values.reshape(7, -1).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("norm, n", [("", 3 * 5 * 5), ("FAN_OUT", 40 * 5 * 5), ("AVERAGE", (3 + 40) * 25 / 2)])
@pytest.mark.parametrize("kind, variance", [("xavier", 1), ("msra", 2)])
def test_scaled_fillers_count_fans_as_caffe(kind, variance, norm, n):
    text = f"type: '{kind}' " + (f"variance_norm: {norm}" if norm else "")
    values = filled(text, (40, 3, 5, 5))
    assert values.std() == pytest.approx(math.sqrt(variance / n), rel=0.03)
    if kind == "xavier":
        assert abs(values).max() <= math.sqrt(3 / n)


def test_fan_out_of_one_axis_is_the_count():
    values = filled("type: 'xavier' variance_norm: FAN_OUT", (400,))
    assert 0.9 * math.sqrt(3 / 400) < abs(values).max() <= math.sqrt(3 / 400)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 63, 64])
def test_bilinear_is_the_interpolation_kernel(size):
    values = filled("type: 'bilinear'", (2, 3, size, size))
    half = (size + 1) // 2
    center = half - 1 if size % 2 else half - 0.5
    ramp = [1 - abs(i - center) / half for i in range(size)]
    np.testing.assert_allclose(values[1, 2], np.outer(ramp, ramp), atol=1e-7)


def test_same_generator_same_values_in_both_precisions(monkeypatch):
    whole = filled("type: 'gaussian' std: 2", (5, 7), 3, np.float64)
    np.testing.assert_array_equal(whole.astype(np.float32), filled("type: 'gaussian' std: 2", (5, 7), 3))
    monkeypatch.setattr(filler, "PIECE", 4)
    np.testing.assert_array_equal(whole, filled("type: 'gaussian' std: 2", (5, 7), 3, np.float64))


def test_empty_blob_is_left_alone():
    assert filled("type: 'msra'", (0, 3)).size == 0


@pytest.mark.parametrize("text, shape, message", [
    ("type: 'gausian'", (2, 2), "unknown filler type 'gausian'; did you mean 'gaussian'.; known: constant"),
    ("type: 'xavier' sparse: 2", (2, 2), "knows no sparsity"),
    ("type: 'gaussian' sparse: -3", (2, 2), "sparse -3"),
    ("type: 'gaussian' std: -1", (2, 2), "std -1"),
    ("type: 'uniform' min: 2 max: 1", (2, 2), "min 2 above max 1"),
    ("type: 'uniform' min: -inf max: 1", (2, 2), "must be finite"),
    ("type: 'uniform' min: nan", (2, 2), "must be finite"),
    ("type: 'bilinear'", (2, 2, 3, 4), "square kernel, not .2, 2, 3, 4."),
    ("type: 'bilinear'", (2, 2), "4 axes"),
])
def test_refuses(text, shape, message):
    with pytest.raises(Error, match=message):
        filled(text, shape)
