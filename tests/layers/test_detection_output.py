import math

import numpy as np
import pytest

from layers.core import catalogue
from netspec.errors import Error
from tests.layers.core.cuda.cards import check_on_card
from tests.layers.opencv import opencv
from tests.layers.threads import check_same_bits
from tests.support import make_layer, run_layer

RNG = np.random.RandomState(0)
PRIORS, CLASSES = 40, 4


def boxes(count):
    centres, sizes = RNG.uniform(0.2, 0.8, (count, 2)), RNG.uniform(0.1, 0.5, (count, 2))
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)


PRIOR = np.stack([boxes(PRIORS), np.tile([0.1, 0.1, 0.2, 0.2], (PRIORS, 1))]).reshape(1, 2, -1).astype("f4")
SHARED = RNG.randn(2, PRIORS * 4).astype("f4")
OWN = RNG.randn(2, PRIORS * CLASSES * 4).astype("f4")
CONFIDENCES = RNG.dirichlet([0.5] * CLASSES, (2, PRIORS)).reshape(2, -1).astype("f4")


def text(param):
    return f'type: "DetectionOutput" detection_output_param {{ num_classes: {CLASSES} {param} }}'


def decoded(prior, variance, location, code, encoded=False):
    left, top, right, bottom = map(float, prior)
    a, b, c, d = [float(x) * (1 if encoded else float(v)) for x, v in zip(location, variance)]
    wide, tall = right - left, bottom - top
    if code == "CORNER":
        return [left + a, top + b, right + c, bottom + d]
    if code == "CORNER_SIZE":
        return [left + a * wide, top + b * tall, right + c * wide, bottom + d * tall]
    x, y = (left + right) / 2 + a * wide, (top + bottom) / 2 + b * tall
    wide, tall = wide * math.exp(c), tall * math.exp(d)
    return [x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2]


def overlap(a, b):
    def area(box):
        return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
    common = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return common / (area(a) + area(b) - common) if common else 0


def expected(locations, confidences, code="CORNER", shared=True, encoded=False, background=0, least=-math.inf, top_k=None,
             threshold=0.3, eta=1, keep=-1):
    """Return the list of detections, by plain loops."""
    rows = []
    for image in range(2):
        scores = confidences[image].reshape(PRIORS, CLASSES)
        places = locations[image].reshape(PRIORS, 1 if shared else CLASSES, 4)
        found = []
        for c in range(CLASSES):
            if c == background:
                continue
            order = sorted((p for p in range(PRIORS) if scores[p, c] > least), key=lambda p: -scores[p, c])[:top_k]
            kept, limit = [], threshold
            for p in order:
                prior, variance = PRIOR.reshape(2, PRIORS, 4)[:, p]
                box = decoded(prior, variance, places[p, 0 if shared else c], code, encoded)
                if all(overlap(box, other) <= limit for other in kept):
                    kept.append(box)
                    found.append([image, c, scores[p, c], *box])
                    if limit > 0.5:
                        limit *= eta
        if -1 < keep < len(found):
            found = sorted(sorted(found, key=lambda row: -row[2])[:keep], key=lambda row: (row[1], -row[2]))
        rows += found
    return np.array(rows)


@pytest.mark.parametrize("param, options", [
    ("", {}),
    ("code_type: CENTER_SIZE", {"code": "CENTER_SIZE"}),
    ("code_type: CORNER_SIZE", {"code": "CORNER_SIZE"}),
    ("code_type: CENTER_SIZE variance_encoded_in_target: true", {"code": "CENTER_SIZE", "encoded": True}),
    ("share_location: false code_type: CENTER_SIZE", {"shared": False, "code": "CENTER_SIZE"}),
    ("background_label_id: -1", {"background": -1}),
    ("background_label_id: 2 confidence_threshold: 0.3", {"background": 2, "least": np.float32(0.3)}),
    ("nms_param { nms_threshold: 0.45 top_k: 7 }", {"threshold": 0.45, "top_k": 7}),
    ("nms_param { nms_threshold: 0.9 eta: 0.9 }", {"threshold": 0.9, "eta": 0.9}),
    ("keep_top_k: 10", {"keep": 10}),
    ("keep_top_k: 0 background_label_id: -1", {"keep": 0, "background": -1}),
    ("code_type: CENTER_SIZE confidence_threshold: 0.01 keep_top_k: 20 nms_param { nms_threshold: 0.45 top_k: 30 }",
     {"code": "CENTER_SIZE", "least": np.float32(0.01), "keep": 20, "threshold": 0.45, "top_k": 30}),
])
def test_the_list_is_that_of_plain_loops(param, options):
    locations = SHARED if options.get("shared", True) else OWN
    _, _, top = run_layer(text(param), [locations, CONFIDENCES, PRIOR])
    wanted = expected(locations, CONFIDENCES, **options)
    if not len(wanted):
        wanted = np.array([[image] + [-1] * 6 for image in range(2)])
    assert top[0].shape == (1, 1, len(wanted), 7)
    np.testing.assert_allclose(top[0].data[0, 0], wanted, rtol=1e-5, atol=1e-6)
    check_on_card(text(param), [locations, CONFIDENCES, PRIOR], tolerance=1e-6, backward=False)


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE"])
@pytest.mark.parametrize("shared", [True, False])
def test_opencv_agrees(code, shared):
    param = (f"code_type: {code} share_location: {str(shared).lower()} confidence_threshold: 0.02 keep_top_k: 15 "
             "nms_param { nms_threshold: 0.45 top_k: 25 } background_label_id: 0")
    bottoms = [SHARED if shared else OWN, CONFIDENCES, PRIOR]
    ours = run_layer(text(param), bottoms)[2][0].data[0, 0]
    theirs = opencv(text(param), bottoms).reshape(-1, 7)
    order = [np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0])) for rows in (ours, theirs)]
    np.testing.assert_allclose(ours[order[0]], theirs[order[1]], rtol=1e-5, atol=1e-5)


def test_nothing_found_is_a_row_of_minus_ones_an_image():
    layer, bottom, top = run_layer(text("confidence_threshold: 2"), [SHARED, CONFIDENCES, PRIOR])
    np.testing.assert_array_equal(top[0].data, [[[[image] + [-1] * 6 for image in range(2)]]])
    bottom[1].data[1, 7] = 3  # prior 1, class 3
    layer.reshape(bottom, top)
    assert top[0].shape == (1, 1, 1, 7)
    layer.forward(bottom, top)
    np.testing.assert_allclose(top[0].data[0, 0, :, :3], [[1, 3, 3]])


def test_equal_confidences_stay_in_order_and_nan_is_none():
    confidences = np.full((1, PRIORS, CLASSES), np.nan, "f4")
    confidences[0, :, 1] = 0.5
    _, _, top = run_layer(text("nms_param { nms_threshold: 1 top_k: 5 }"), [0 * SHARED[:1], confidences.reshape(1, -1), PRIOR])
    np.testing.assert_array_equal(top[0].data[0, 0, :, 3:], PRIOR[0, 0].reshape(-1, 4)[:5])


def test_threads_do_not_change_the_result():
    layer = catalogue.find("DetectionOutput")
    kept, layer.backward = layer.backward, lambda *_: None
    try:
        check_same_bits(text("code_type: CENTER_SIZE keep_top_k: 30"), [SHARED, CONFIDENCES, PRIOR], [False] * 3)
    finally:
        layer.backward = kept


def test_what_is_not_done_is_said(caplog):
    make_layer(text('visualize: true save_output_param { output_directory: "results" }'), [SHARED, CONFIDENCES, PRIOR])
    assert "'save_output_param' is not done here; the detections are in the top 'top_0'" in caplog.text
    assert "'visualize' is not done here" in caplog.text
    caplog.clear()
    make_layer(text('save_output_param { label_map_file: "map" }'), [SHARED, CONFIDENCES, PRIOR])
    assert not caplog.text


@pytest.mark.parametrize("param, bottoms, message", [
    ("background_label_id: 4", None, "background_label_id is 4, and classes are 0 to 3"),
    ("nms_param { nms_threshold: -1 }", None, "nms_threshold is -1"),
    ("nms_param { eta: 0 }", None, "eta is 0; it must be above 0 and at most 1"),
    ("num_classes: 3", [SHARED, CONFIDENCES, PRIOR], r"bottom 1 \[2, 160\] must hold 40 x 3 confidences for each image"),
    ("", [SHARED[:, :-4], CONFIDENCES, PRIOR], r"bottom 0 \[2, 156\] must hold 40 x 1 x 4 locations for each image, one for each "
                                               "of the 40 prior boxes of bottom 2; it holds 156"),
    ("", [SHARED[:1], CONFIDENCES, PRIOR], "must be of as many images"),
    ("", [SHARED, CONFIDENCES, PRIOR[:, 0]], r"the prior boxes bottom 2 \[1, 160\] must be"),
])
def test_what_does_not_fit_is_refused(param, bottoms, message):
    layer = text(param).replace("num_classes: 4 num_classes", "num_classes")
    with pytest.raises(Error, match=message):
        make_layer(layer, bottoms or [SHARED, CONFIDENCES, PRIOR])


def test_no_gradient_is_had():
    layer, bottom, top = run_layer(text(""), [SHARED, CONFIDENCES, PRIOR])
    layer.backward(top, [False] * 3, bottom)
    with pytest.raises(Error, match="has no gradient"):
        layer.backward(top, [True, False, False], bottom)
