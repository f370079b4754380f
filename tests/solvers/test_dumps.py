"""Dumps of blobs: what they can hold, how far ours are from them."""

import numpy as np
import pytest

from netspec.errors import Error
from solvers import dumps


def test_nan_in_the_same_places_is_equal():
    ours = np.array([1.0, np.nan, np.inf, 2.0])
    assert dumps.deviation(ours, ours) == 0
    assert dumps.deviation(ours, np.array([1.5, np.nan, np.inf, 2.0])) == 0.5
    assert dumps.deviation(ours, np.array([1.0, np.nan, -np.inf, 2.0])) == np.inf


def test_hdf5_cannot_hold_a_blob_inside_another(tmp_path):
    with pytest.raises(Error, match="write an .npz"):
        dumps.write_dump(str(tmp_path / "x.h5"), {"a": np.zeros(2), "a/b": np.zeros(2)})
    assert not (tmp_path / "x.h5").exists()
    dumps.write_dump(str(tmp_path / "x.npz"), {"a": np.zeros(2), "a/b": np.ones(2), "file": np.zeros(())})
    with np.load(tmp_path / "x.npz") as dump:
        assert dump["a/b"].all() and dump["file"].shape == ()


def test_a_sampled_blob_needs_its_sample():
    with pytest.raises(Error, match="index and sample"):
        dumps.Dump.of({"index/conv": np.zeros(3, int)}).difference("conv", np.zeros(3), [], 1e-4)
