import numpy as np
import pytest

from layers.core.net import Net
from netspec import binaryproto
from netspec.errors import Error, PathError
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
SCORES = RNG.randn(2, 5, 3, 7).astype("f4")
LABELS = RNG.randint(0, 5, (2, 1, 3, 7)).astype("f4")
IGNORED = np.where(RNG.rand(2, 1, 3, 7) < 0.4, 255, LABELS).astype("f4")
MATRIX = RNG.uniform(-0.5, 1, (1, 1, 5, 5)).astype("f4")


def text(more=""):
    return f'type: "InfogainLoss" bottom: "score" bottom: "label" bottom: "gain" {more}'


def by_loops(scores, labels, matrix, axis=1, ignored=None):
    """Return (summed loss, its gradient, labels that count)."""
    x = np.moveaxis(scores.astype("f8"), axis, -1)
    matrix = matrix.reshape(x.shape[-1], -1).astype("f8")
    labels, loss, valid, dx = labels.reshape(x.shape[:-1]), 0.0, 0, np.zeros_like(x)
    for place in np.ndindex(*x.shape[:-1]):
        if labels[place] == ignored:
            continue
        p = np.exp(x[place] - x[place].max())
        p /= p.sum()
        row = matrix[int(labels[place])]
        for c in range(len(p)):
            loss -= row[c] * np.log(max(p[c], 1e-20))
            dx[place][c] = p[c] * row.sum() - row[c]
        valid += 1
    return loss, np.moveaxis(dx, -1, axis), valid


@pytest.mark.parametrize("mode, divisor", [("", None), ("normalization: VALID", None), ("normalization: FULL", 42),
                                           ("normalization: BATCH_SIZE", 2), ("normalization: NONE", 1)])
def test_values_and_gradient_are_those_of_plain_loops(mode, divisor):
    loss, dx, valid = by_loops(SCORES, IGNORED, MATRIX, ignored=255)
    layer, bottom, top = run_layer(text(f"loss_param {{ ignore_label: 255 {mode} }}"), [SCORES, IGNORED, MATRIX])
    divisor = divisor or valid
    assert 0 < valid < 42
    assert float(top[0].data) == pytest.approx(loss / divisor, rel=1e-5)
    top[0].diff[...] = 3
    layer.backward(top, [True, False, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, dx * 3 / divisor, atol=1e-6 * 3)


@pytest.mark.parametrize("axis, shape", [(0, (4,)), (1, (3, 4)), (-1, (2, 3, 4)), (2, (2, 3, 4, 2, 3))])
def test_classes_along_any_axis(axis, shape):
    scores, matrix = RNG.randn(*shape).astype("f4"), RNG.rand(4, 4).astype("f4")
    labels = RNG.randint(0, 4, [n for i, n in enumerate(shape) if i != axis % len(shape)])
    if axis == 0:
        labels = labels.reshape(())
        with pytest.raises(Error, match="the same first axis"):
            make_layer(text("infogain_loss_param { axis: 0 }"), [scores, labels, matrix])
        return
    loss, dx, valid = by_loops(scores, labels, matrix, axis)
    param = text(f'infogain_loss_param {{ axis: {axis} }}')
    layer, bottom, top = run_layer(param, [scores, labels, matrix])
    assert float(top[0].data) == pytest.approx(loss / valid, rel=1e-5)
    check_gradient(param, [scores, labels, matrix], wrt=[0])


def test_the_unit_matrix_is_softmax_with_loss():
    _, _, top = run_layer(text(), [SCORES, LABELS, np.eye(5)])
    _, _, plain = run_layer('type: "SoftmaxWithLoss"', [SCORES, LABELS])
    assert float(top[0].data) == pytest.approx(float(plain[0].data), rel=1e-6)


def test_the_second_top_is_the_probabilities():
    _, _, top = run_layer(text('top: "loss" top: "prob"'), [SCORES, LABELS, MATRIX])
    np.testing.assert_allclose(top[1].data.sum(1), np.ones((2, 3, 7)), rtol=1e-5)
    _, _, one = run_layer(text('top: "loss" top: "prob"'), [1e3 * SCORES, LABELS, MATRIX])
    assert np.isfinite(one[0].data)  # probabilities of 0 are held at 1e-20


def test_labels_that_are_all_ignored_give_zero():
    layer, bottom, top = run_layer(text("loss_param { ignore_label: 255 }"), [SCORES, np.full_like(LABELS, 255), MATRIX])
    assert top[0].data == 0
    top[0].diff[...] = 1
    layer.backward(top, [True, False, False], bottom)
    assert not bottom[0].diff.any()


NET = """
    force_backward: true
    layer { name: "in" type: "Input" top: "x" top: "label" input_param { shape { dim: 3 dim: 4 } shape { dim: 3 } } }
    layer { name: "it" type: "InfogainLoss" bottom: "x" bottom: "label" top: "loss"
            infogain_loss_param { source: "gain.binaryproto" } }
"""


def test_a_matrix_in_a_file_lies_beside_the_prototxt(tmp_path):
    matrix = RNG.rand(4, 4).astype("f4")
    binaryproto.write_mean(tmp_path / "gain.binaryproto", matrix)
    (tmp_path / "net.prototxt").write_text(NET)
    net = Net(tmp_path / "net.prototxt")
    scores = RNG.randn(3, 4).astype("f4")
    net.blobs["x"].data[...], net.blobs["label"].data[...] = scores, [0, 3, 1]
    loss, dx, _ = by_loops(scores, np.array([0, 3, 1]), matrix)
    assert net.forward() == pytest.approx(loss / 3, rel=1e-5)
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, dx / 3, atol=1e-6)


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    with pytest.raises(PathError, match="infogain matrix 'gain.binaryproto' not found; tried: "):
        Net(tmp_path / "net.prototxt")
    path = tmp_path / "gain.binaryproto"
    binaryproto.write_mean(path, np.ones((3, 4)))
    with pytest.raises(Error, match=r"the matrix '.*gain.binaryproto' \[1, 1, 3, 4\] must hold 4 x 4 values"):
        Net(tmp_path / "net.prototxt")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(Error, match="gain.binaryproto"):
        Net(tmp_path / "net.prototxt")


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match="has no matrix; give infogain_loss_param"):
        make_layer('type: "InfogainLoss" bottom: "score" bottom: "label"', [SCORES, LABELS])
    with pytest.raises(Error, match="knows no loss_param.normalize; give 'normalization'"):
        make_layer(text("loss_param { normalize: true }"), [SCORES, LABELS, MATRIX])
    with pytest.raises(Error, match=r"the matrix 'gain' \[4, 5\] must hold 5 x 5 values"):
        make_layer(text(), [SCORES, LABELS, np.ones((4, 5))])
    with pytest.raises(Error, match="one for each position"):
        make_layer(text(), [SCORES, LABELS[:, :, :2], MATRIX])
    layer, bottom, top = run_layer(text(), [SCORES, LABELS, MATRIX])
    with pytest.raises(Error, match="cannot backpropagate to label inputs"):
        layer.backward(top, [True, True, False], bottom)
    with pytest.raises(Error, match=r"cannot backpropagate to the matrix \('gain'\)"):
        layer.backward(top, [True, False, True], bottom)
    assert [layer.allow_force_backward(i) for i in range(3)] == [True, False, False]


@pytest.mark.parametrize("value, message", [(5, "is out of range: 'score' has 5 classes"), (-1, "is out of range"),
                                            (0.5, "not a whole number"), (np.nan, "not a whole number")])
def test_bad_labels_are_caught(value, message):
    labels = LABELS.copy()
    labels[1, 0, 2, 3] = value
    with pytest.raises(Error, match=rf"n 1, row 2, column 3 of 'label' .*{message}"):
        run_layer(text(), [SCORES, labels, MATRIX])


def test_threads_do_not_change_the_result():
    check_same_bits(text(), [np.tile(SCORES, (1, 1, 1, 100)), np.tile(LABELS, (1, 1, 1, 100)), MATRIX], [True, False, False])
