import numpy as np
import pytest

from netspec.errors import Error
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
A, B = RNG.randn(2, 7, 3).astype("f4")
B[2] = A[2] + 0.1
B[5] = A[5]
ALIKE = np.array([1, 0, 0, 3, 0, 0, 1], "f4")
PARAMS = ["", "margin: 2.5", "margin: 2.5 legacy_version: true"]


def text(param=""):
    return f'type: "ContrastiveLoss" bottom: "a" bottom: "b" bottom: "alike" contrastive_loss_param {{ {param} }}'


def by_loops(a, b, alike, margin, legacy):
    """Return (loss, gradient of a)."""
    loss, da = 0.0, np.zeros(a.shape)
    for i in range(len(a)):
        diff = a[i].astype("f8") - b[i]
        square = (diff ** 2).sum()
        if alike[i]:
            loss, da[i] = loss + square, diff
        elif legacy:
            loss, da[i] = loss + max(margin - square, 0), -diff if margin > square else 0
        else:
            room = margin - np.sqrt(square)
            loss, da[i] = loss + max(room, 0) ** 2, -room / (np.sqrt(square) + 1e-4) * diff if room > 0 else 0
    return loss / 2 / len(a), da / len(a)


@pytest.mark.parametrize("param", PARAMS)
@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 1, 1)])
def test_values_and_gradients_are_those_of_plain_loops(param, shape):
    loss, da = by_loops(A, B, ALIKE, 2.5 if "margin" in param else 1, "legacy" in param)
    layer, bottom, top = run_layer(text(param), [A.reshape(shape), B.reshape(shape), ALIKE[:, None]])
    assert float(top[0].data) == pytest.approx(loss, rel=1e-6)
    top[0].diff[...] = 3
    layer.backward(top, [True, True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff.reshape(7, 3), 3 * da, atol=1e-6)
    np.testing.assert_array_equal(bottom[1].diff, -bottom[0].diff)


@pytest.mark.parametrize("param", PARAMS)
def test_gradient(param):
    far = [A[[0, 1, 3, 4]], B[[0, 1, 3, 4]], ALIKE[[0, 1, 3, 4]]]  # where 1e-4 beside the distance is little
    check_gradient(text(param), far, wrt=[0, 1], tolerance=3e-4)


def test_one_gradient_may_be_left_out():
    layer, bottom, top = run_layer(text(), [A, B, ALIKE])
    top[0].diff[...] = 1
    layer.backward(top, [False, True, False], bottom)
    assert bottom[1].diff.any() and not bottom[0].has_diff


def test_a_number_counts_without_its_fraction():
    for value, same_as in ((0.9, 0), (-0.5, 0), (-1, 1), (1.5, 1)):
        results = [float(run_layer(text(), [A[:1], B[:1], [alike]])[2][0].data) for alike in (value, same_as)]
        assert results[0] == results[1]


@pytest.mark.parametrize("bottoms, message", [
    ([A, B[:6], ALIKE], r"compares vectors in pairs, but 'a' has \[7, 3\] and 'b' \[6, 3\]"),
    ([A, B[:, :2], ALIKE], r"compares vectors in pairs"),
    ([A[:, None], B[:, None], ALIKE], r"compares vectors \(N, C\) or \(N, C, 1, 1\), but 'a' has \[7, 1, 3\]"),
    ([A, B, ALIKE[:6]], r"needs one value for each of the 7 pairs, but 'alike' has \[6\]"),
])
def test_what_does_not_fit_is_refused(bottoms, message):
    with pytest.raises(Error, match=message):
        make_layer(text(), bottoms)


def test_what_is_alike_has_no_gradient():
    layer, bottom, top = run_layer(text(), [A, B, ALIKE])
    with pytest.raises(Error, match="cannot backpropagate to 'alike', which says what is alike"):
        layer.backward(top, [True, True, True], bottom)
    assert [layer.allow_force_backward(i) for i in range(3)] == [True, True, False]
