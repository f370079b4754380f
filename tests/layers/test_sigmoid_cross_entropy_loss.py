import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
SCORES = RNG.randn(3, 2, 5, 7).astype("f4") * 2
TARGETS = RNG.randint(0, 2, SCORES.shape).astype("f4")
HOLED = np.where(RNG.rand(*SCORES.shape) < 0.3, 255, TARGETS).astype("f4")


def text(param=""):
    return f'type: "SigmoidCrossEntropyLoss" bottom: "score" bottom: "target" loss_param {{ {param} }}'


@pytest.mark.parametrize("param, divisor", [
    ("", 3), ("normalization: VALID", "valid"), ("normalization: FULL", 210), ("normalization: BATCH_SIZE", 3),
    ("normalization: NONE", 1), ("normalize: true", "valid"), ("normalize: false", 3),
])
def test_normalisations(param, divisor):
    keep = HOLED != 255
    divisor = keep.sum() if divisor == "valid" else divisor
    s = 1 / (1 + np.exp(-SCORES.astype("f8")))
    loss = -(np.where(TARGETS == 1, np.log(s), np.log(1 - s)) * keep).sum()
    layer, bottom, top = run_layer(text(f"ignore_label: 255 {param}"), [SCORES, HOLED])
    assert float(top[0].data) == pytest.approx(loss / divisor, rel=1e-6)
    top[0].diff[...] = 2
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, 2 * (s - TARGETS) * keep / divisor, rtol=1e-4, atol=1e-7)


def test_gradient_with_soft_targets():
    check_gradient(text(), [SCORES[:, :, :2, :2], RNG.rand(3, 2, 2, 2)], wrt=[0])


def test_huge_scores_do_not_overflow():
    layer, bottom, top = run_layer(text(), [np.array([[1e4, -1e4, 1e4, 0]], "f4"), np.array([[1, 0, 0, 1]], "f4")])
    assert float(top[0].data) == pytest.approx(1e4 + np.log(2))
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, [[0, 0, 1, -0.5]])


def test_all_ignored_is_no_loss():
    _, _, top = run_layer(text("ignore_label: 255 normalization: VALID"), [SCORES, SCORES * 0 + 255])
    assert top[0].data == 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(Error, match=r"'score' \[3, 4\] and 'target' \[3, 2\] must hold as many values"):
        make_layer(text(), [np.zeros((3, 4), "f4"), np.zeros((3, 2), "f4")])
    with pytest.raises(Error, match="same first axis"):
        make_layer(text(), [np.zeros((3, 4), "f4"), np.zeros((4, 3), "f4")])
    layer, bottom, top = run_layer(text(), [SCORES, TARGETS])
    with pytest.raises(Error, match="cannot backpropagate to label inputs"):
        layer.backward(top, [True, True], bottom)


def test_threads_do_not_change_the_result():
    rng = np.random.RandomState(0)
    check_same_bits(text(), [rng.randn(3, 5000), rng.randint(0, 2, (3, 5000))], [True, False])
