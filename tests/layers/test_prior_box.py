import math

import numpy as np
import pytest

from netspec.errors import Error
from tests.layers.core.cuda.cards import check_on_card
from tests.layers.opencv import opencv
from tests.support import make_layer, run_layer

FEATURES, IMAGE = np.zeros((1, 8, 3, 4), "f4"), np.zeros((1, 3, 90, 100), "f4")


def text(param):
    return f'type: "PriorBox" prior_box_param {{ {param} }}'


def run(param):
    return run_layer(text(param), [FEATURES, IMAGE])[2][0].data


def expected(sizes, steps=(30, 25), offset=0.5, image=(90, 100)):
    """Return the boxes by plain loops; `sizes` are (width, height) of a pixel's boxes in their order."""
    boxes = []
    for h in range(3):
        for w in range(4):
            x, y = (w + offset) * steps[1], (h + offset) * steps[0]
            for width, height in sizes:
                boxes += [(x - width / 2) / image[1], (y - height / 2) / image[0], (x + width / 2) / image[1],
                          (y + height / 2) / image[0]]
    return np.array(boxes)


def stretched(size, *ratios):
    return [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios]


@pytest.mark.parametrize("param, wanted", [
    ("min_size: 30", expected([(30, 30)])),
    ("min_size: 30 max_size: 60", expected([(30, 30), (math.sqrt(1800),) * 2])),
    ("min_size: 30 aspect_ratio: 2", expected([(30, 30), *stretched(30, 2, 1 / 2)])),
    ("min_size: 30 aspect_ratio: 2 aspect_ratio: 1 aspect_ratio: 0.5 flip: false",
     expected([(30, 30), *stretched(30, 2, 1 / 2)])),
    ("min_size: 30 aspect_ratio: 2 aspect_ratio: 2 aspect_ratio: 3", expected([(30, 30), *stretched(30, 2, 1 / 2, 3, 1 / 3)])),
    ("min_size: 10 min_size: 20 max_size: 15 max_size: 40 aspect_ratio: 3",
     expected([(10, 10), (math.sqrt(150),) * 2, *stretched(10, 3, 1 / 3), (20, 20), (math.sqrt(800),) * 2,
               *stretched(20, 3, 1 / 3)])),
    ("min_size: 35.84 max_size: 76.8", expected([(35, 35), (math.sqrt(35 * 76),) * 2])),
    ("min_size: 30 step: 16", expected([(30, 30)], (16, 16))),
    ("min_size: 30 step_h: 16 step_w: 8 offset: 0.25", expected([(30, 30)], (16, 8), 0.25)),
    ("min_size: 30 img_size: 300", expected([(30, 30)], (100, 75), image=(300, 300))),
    ("min_size: 30 img_h: 200 img_w: 300 step: 7", expected([(30, 30)], (7, 7), image=(200, 300))),
    ("min_size: 60 clip: true", expected([(60, 60)]).clip(0, 1)),
])
def test_boxes_stand_around_every_pixel(param, wanted):
    values = run(param)
    assert values.shape == (1, 2, wanted.size)
    np.testing.assert_allclose(values[0, 0], wanted, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(values[0, 1], np.full(wanted.size, np.float32(0.1)))
    check_on_card(text(param), [FEATURES, IMAGE], tolerance=0)


def test_variances_stand_behind_the_boxes():
    values = run("min_size: 30 variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4")
    np.testing.assert_array_equal(values[0, 1].reshape(-1, 4), np.tile(np.array([0.1, 0.2, 0.3, 0.4], "f4"), (12, 1)))
    assert (run("min_size: 30 variance: 0.5")[0, 1] == 0.5).all()


@pytest.mark.parametrize("param", [
    "min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false variance: 0.1 variance: 0.1 variance: 0.2 "
    "variance: 0.2 step: 16 offset: 0.5",
    "min_size: 30 min_size: 50 aspect_ratio: 2 clip: true variance: 0.1",
])
def test_opencv_agrees(param):
    np.testing.assert_allclose(run(param), opencv(text(param), [FEATURES, IMAGE]).reshape(1, 2, -1), rtol=1e-5, atol=1e-6)


def test_sizes_follow_the_bottoms_and_gradients_are_zero():
    layer, bottom, top = run_layer(text("min_size: 30"), [FEATURES, IMAGE])
    bottom[0].diff[...] = 3
    layer.backward(top, [True, True], bottom)
    assert not bottom[0].diff.any() and not bottom[1].has_diff
    bottom[0].reshape(1, 8, 1, 1)
    bottom[1].reshape(1, 3, 60, 30)
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    np.testing.assert_allclose(top[0].data[0, 0], [0, 0.25, 1, 0.75])


@pytest.mark.parametrize("param, message", [
    ("", "min_size is missing"),
    ("min_size: 0.5", "min_size is 0.5; it must be at least 1"),
    ("min_size: 30 max_size: 30", "max_size 30 must be above its min_size 30"),
    ("min_size: 30 min_size: 40 max_size: 50", "max_size is given 1 times and min_size 2 times"),
    ("min_size: 30 aspect_ratio: 0", "aspect_ratio is 0; it must be above 0"),
    ("min_size: 30 variance: 1 variance: 2", "give 1 or 4 numbers above 0"),
    ("min_size: 30 variance: -1", "give 1 or 4 numbers above 0"),
    ("min_size: 30 img_size: 3 img_h: 3", "img_size and img_h are both given"),
    ("min_size: 30 step_w: 3", "step_h and step_w go together"),
    ("min_size: 30 step: 0", "step is 0; it must be above 0"),
])
def test_sizes_that_make_no_boxes_are_refused(param, message):
    with pytest.raises(Error, match=message):
        make_layer(text(param), [FEATURES, IMAGE])


def test_bottoms_of_other_axes_are_refused():
    with pytest.raises(Error, match=r"bottom 1 has \[1, 3\]"):
        make_layer(text("min_size: 30"), [FEATURES, IMAGE[:, :, 0, 0]])
