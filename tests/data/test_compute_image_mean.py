import re

import numpy as np
import pytest

from data import compute_image_mean, database, datum
from netspec import binaryproto, caffe_pb2
from tests.data import records
from tests.data.records import run


@pytest.mark.parametrize("backend", database.BACKENDS)
def test_mean_of_bytes_floats_and_pictures(tmp_path, capsys, backend):
    random = np.random.RandomState(0)
    values = random.randint(0, 256, (5, 3, 6, 7)).astype(np.uint8)
    made = [datum.make(values[0]), datum.make(values[1]), datum.encode(values[2].transpose(1, 2, 0), "png"),
            datum.make(values[3].astype(np.float32)), datum.make(values[4])]
    path = records.write(tmp_path / "db", backend, [(b"%d" % i, one.SerializeToString()) for i, one in enumerate(made)])
    assert run(compute_image_mean.main, [str(path), str(tmp_path / "mean.binaryproto"), f"-backend={backend}"]) == 0
    found, expected = binaryproto.read_mean(tmp_path / "mean.binaryproto"), values.astype(np.float64).mean(0)
    assert found.shape == (1, 3, 6, 7) and np.array_equal(found[0], expected.astype(np.float32))
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"mean_value channel [{c}]: {expected[c].mean():.6g}" for c in range(3)]
    assert "Processed 5 files." in said.err


def test_records_of_several_sizes_and_damaged_ones_are_named(tmp_path, capsys):
    small, large = (datum.make(np.zeros((3, side, 4), np.uint8)).SerializeToString() for side in (4, 5))
    empty = caffe_pb2.Datum(channels=3, height=2, width=2).SerializeToString()
    for name, second, message in (("a", large, "key 'two' of LMDB database '.*a' is 3x5x4 .*but key 'one' .* is 3x4x4"),
                                  ("b", small[:-1], "key 'two' of LMDB database '.*b': not a Datum"),
                                  ("c", empty, "0 values for 3 x 2 x 2 = 12")):
        path = records.write(tmp_path / name, "lmdb", [(b"one", small), (b"two", second)])
        assert run(compute_image_mean.main, [str(path), str(tmp_path / "mean")]) == 1
        assert re.search(message, capsys.readouterr().err)
        assert not (tmp_path / "mean").exists()


def test_what_is_not_there_is_said(tmp_path, capsys):
    assert run(compute_image_mean.main, [str(tmp_path / "gone")]) == 1
    assert "database '" in capsys.readouterr().err
    path = records.write(tmp_path / "db", "lmdb", [])
    assert run(compute_image_mean.main, [str(path)]) == 1
    assert "holds no record" in capsys.readouterr().err
