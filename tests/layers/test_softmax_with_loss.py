import numpy as np
import pytest

from netspec import caffe_pb2
from netspec.errors import Error
from tests.layers.threads import check_same_bits
from tests.support import check_gradient, make_layer, run_layer

RNG = np.random.RandomState(0)
SCORES = RNG.randn(2, 5, 3, 7).astype("f4") * 2
LABELS = RNG.randint(0, 5, (2, 1, 3, 7)).astype("f4")
HOLED = np.where(RNG.rand(2, 1, 3, 7) < 0.3, 255, LABELS).astype("f4")


def text(param="", more=""):
    return f'type: "SoftmaxWithLoss" bottom: "score" bottom: "label" loss_param {{ {param} }} {more}'


def oracle(scores, labels, ignore=None):
    """Return (sum of -log p[label], number of labels that count, gradient of the sum), classes along axis 1."""
    scores = scores.astype("f8")
    e = np.exp(scores - scores.max(1, keepdims=True))
    prob = e / e.sum(1, keepdims=True)
    loss, valid, gradient = 0.0, 0, np.zeros_like(prob)
    for n, h, w in np.ndindex(labels.shape[0], *labels.shape[2:]):
        label = int(labels[n, 0, h, w])
        if label == ignore:
            continue
        loss -= np.log(max(prob[n, label, h, w], np.finfo("f4").tiny))
        valid += 1
        gradient[n, :, h, w] = prob[n, :, h, w]
        gradient[n, label, h, w] -= 1
    return loss, valid, gradient


@pytest.mark.parametrize("param, divisor", [
    ("", "valid"), ("normalization: VALID", "valid"), ("normalization: FULL", 42), ("normalization: BATCH_SIZE", 2),
    ("normalization: NONE", 1), ("normalize: true", "valid"), ("normalize: false", 2),
    ("normalize: true normalization: NONE", 1),
])
def test_normalisations(param, divisor):
    loss, valid, gradient = oracle(SCORES, HOLED, 255)
    divisor = valid if divisor == "valid" else divisor
    layer, bottom, top = run_layer(text(f"ignore_label: 255 {param}"), [SCORES, HOLED])
    assert top[0].shape == ()
    assert float(top[0].data) == pytest.approx(loss / divisor, rel=1e-6)
    top[0].diff[...] = 0.5
    layer.backward(top, [True, False], bottom)
    np.testing.assert_allclose(bottom[0].diff, 0.5 * gradient / divisor, rtol=1e-4, atol=1e-7)
    assert (bottom[0].diff.transpose(0, 2, 3, 1)[HOLED[:, 0] == 255] == 0).all()


def test_gradient():
    check_gradient(text("ignore_label: 255 normalize: false"), [SCORES[:, :, :2, :3], HOLED[:, :, :2, :3]], wrt=[0])
    check_gradient(text("", "softmax_param { axis: 3 }"), [SCORES[:1, :2, :2], LABELS[:1, :, :2, :2] + 1], wrt=[0])


def test_second_top_is_the_probabilities():
    _, _, top = run_layer(text("", 'top: "loss" top: "prob"'), [SCORES, LABELS])
    e = np.exp(SCORES.astype("f8"))
    np.testing.assert_allclose(top[1].data, e / e.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("mode", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
def test_all_ignored_is_no_loss_and_no_gradient(mode):
    layer, bottom, top = run_layer(text(f"ignore_label: 255 normalization: {mode}"), [SCORES, LABELS * 0 + 255])
    assert top[0].data == 0
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    assert not bottom[0].diff.any()


def test_the_largest_loss_is_that_of_the_smallest_float_but_the_gradient_is_whole():
    scores = np.array([[0, 1000.0]], "f4")
    layer, bottom, top = run_layer(text(), [scores, np.zeros(1, "f4")])
    assert float(top[0].data) == pytest.approx(87.3365, abs=1e-4)
    top[0].diff[...] = 1
    layer.backward(top, [True, False], bottom)
    np.testing.assert_array_equal(bottom[0].diff, [[-1, 1]])


def test_many_equal_terms_are_summed_exactly():
    scores, labels = np.zeros((1, 21, 200, 300), "f4"), np.zeros((1, 1, 200, 300), "f4")
    _, _, top = run_layer(text("normalize: false"), [scores, labels])
    assert float(top[0].data) == pytest.approx(60000 * np.log(21), rel=1e-6)


def test_labels_of_other_shapes_and_a_batch_of_vectors():
    loss, _, _ = oracle(SCORES, LABELS)
    assert run_layer(text(), [SCORES, LABELS[:, 0]])[2][0].data == pytest.approx(loss / 42)
    vectors = SCORES[:, :, 0, 0]
    loss, _, _ = oracle(vectors[:, :, None, None], LABELS[:, :, :1, :1])
    assert run_layer(text(), [vectors, LABELS[:, 0, 0, 0]])[2][0].data == pytest.approx(loss / 2)


@pytest.mark.parametrize("value, what", [
    (5, r"label 5 at n 1, row 2, column 3 of 'label' is out of range: 'score' has 5 classes \(0 to 4\)"),
    (-1, "label -1 at n 1, row 2, column 3 of 'label' is out of range"),
    (255, "label 255 at n 1, row 2, column 3"),
    (1.5, "label 1.5 at n 1, row 2, column 3 of 'label' is not a whole number"),
    (np.nan, "label nan at n 1, row 2, column 3 of 'label' is not a whole number"),
    (np.inf, "label inf at n 1, row 2, column 3 of 'label' is out of range"),
    (1e20, r"label 1e\+20 at n 1, row 2, column 3 of 'label' is out of range"),
])
@pytest.mark.filterwarnings("ignore")
def test_bad_labels_are_always_caught(value, what):
    labels = LABELS.copy()
    labels[1, 0, 2, 3] = value
    labels[1, 0, 2, 5] = value
    with pytest.raises(Error, match=what):
        run_layer(text(), [SCORES, labels])


def test_bad_label_of_a_vector_says_which_image():
    with pytest.raises(Error, match="label 9 at n 1 of 'label' is out of range"):
        run_layer(text(), [SCORES[:, :, 0, 0], np.array([0, 9], "f4")])


@pytest.mark.parametrize("shape, message", [
    ((2, 1, 3, 6), r"'label' \[2, 1, 3, 6\] holds 36 labels, but 'score' \[2, 5, 3, 7\] .* needs 42"),
    ((1, 1, 6, 7), "same first axis"),
])
def test_labels_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(Error, match=message):
        make_layer(text(), [SCORES, np.zeros(shape, "f4")])


def test_a_gradient_of_labels_is_refused():
    layer, bottom, top = run_layer(text(), [SCORES, LABELS])
    assert [layer.allow_force_backward(i) for i in range(2)] == [True, False]
    with pytest.raises(Error, match="cannot backpropagate to label inputs"):
        layer.backward(top, [True, True], bottom)


def test_test_phase_computes_the_same():
    a, b = (run_layer(text(), [SCORES, LABELS], phase)[2][0].data for phase in (caffe_pb2.TRAIN, caffe_pb2.TEST))
    assert a == b


def test_threads_do_not_change_the_result():
    rng = np.random.RandomState(0)
    labels = rng.randint(0, 3, (2, 1, 40, 41))
    check_same_bits(text("ignore_label: 2"), [rng.randn(2, 3, 40, 41), labels], [True, False])
