import builtins

import numpy as np
import pytest

from netspec import export_onnx, onnx_check, text, weights
from netspec.errors import Error
from tests.netspec.test_onnx_graph import arrays_of, near, net_of, onnx, run, small_fcn
from tests.solvers import doors


@pytest.fixture
def net(tmp_path, monkeypatch):
    """Write net.prototxt and net.caffemodel; return the Net."""
    monkeypatch.chdir(tmp_path)
    message, net = net_of(small_fcn(), (1, 3, 23, 26))
    (tmp_path / "net.prototxt").write_text(text.dump(message))
    weights.write_caffemodel("net.caffemodel", net.param,
                             {name: [(array, None) for array in arrays] for name, arrays in arrays_of(net).items()})
    return net


def test_the_file_computes_what_the_net_does_and_says_so(net, capsys):
    code, _, err = doors.run(capsys, export_onnx.main, "net.prototxt", "net.caffemodel", "net.onnx", "--shape", "data=1,3,20,21",
                             "--output", "pool1", "--output", "score")
    assert code == 0 and "data 1x3x20x21, pool1 1x5x19x20, score 1x4x20x21" in err
    assert "checked beside onnxruntime" in err and "off by at most" in err
    image = np.random.default_rng(3).standard_normal((1, 3, 20, 21), np.float32)
    net.blobs["data"].reshape(*image.shape)
    net.blobs["data"].data[...] = image
    net.forward()
    found = run(onnx.load("net.onnx"), {"data": image})
    assert near(found["pool1"], net.blobs["pool1"].data)
    assert near(found["score"], net.blobs["score"].data)


def test_a_file_that_computes_something_else_is_not_kept(net, capsys, tmp_path, monkeypatch):
    whole = export_onnx.to_onnx

    def wrong(message, arrays, *rest):
        arrays["conv1"][0] = arrays["conv1"][0] * 1.01
        return whole(message, arrays, *rest)

    monkeypatch.setattr(export_onnx, "to_onnx", wrong)
    line = doors.refused(capsys, export_onnx.main, "net.prototxt", "net.caffemodel", "net.onnx")
    assert "of its largest value (up to 0.0001 is rounding); the file is not kept" in line
    assert not list(tmp_path.glob("*.onnx*"))
    assert doors.run(capsys, export_onnx.main, "net.prototxt", "net.caffemodel", "net.onnx", "--no-check")[0] == 0


def test_without_onnxruntime_the_file_is_written_and_not_checked(net, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    code, _, err = doors.run(capsys, export_onnx.main, "net.prototxt", "net.caffemodel", "net.onnx")
    assert code == 0 and "not checked: onnxruntime is not installed" in err


def test_another_shape_is_told(net, tmp_path):
    model = export_onnx.to_onnx(text.read_net("net.prototxt"), arrays_of(net), {"data": (1, 3, 20, 21)}, ["pool1"])
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    assert "checked" in onnx_check.check(text.read_net("net.prototxt"), "net.caffemodel", "x.onnx", {"data": (1, 3, 20, 21)})
    with pytest.raises(Exception, match="data"):
        onnx_check.check(text.read_net("net.prototxt"), "net.caffemodel", "x.onnx")


def test_mistakes_are_said(net, capsys):
    assert "tried: " in doors.refused(capsys, export_onnx.main, "net.prototxt", "none.caffemodel", "net.onnx")
    with pytest.raises(Error, match="not a caffemodel"):
        export_onnx.main(["net.prototxt", "net.prototxt", "net.onnx"])
