"""What is done to a sample between its files and the net, held against plain loops."""

import json

import numpy as np
import pytest

from data import augment
from data.augment import Augmentation
from data.order import Order, Place
from data.voc import VOCSegDataLayer
from netspec import text
from netspec.errors import Error, UnknownName
from tests.data import folders
from tests.support import ROOT

MEAN = (104.0, 117.0, 123.0)
LABEL = np.array([[[0, 0, 2, 255, 1], [0, 3, 3, 3, 0], [255, 0, 0, 1, 1]]], np.uint8)


def image():
    return np.random.default_rng(3).normal(0, 50, (3, 3, 5)).astype(np.float32)


def apply(step=0, label=LABEL, picture=None, **keys):
    images, labels = Augmentation(**keys).apply([image() if picture is None else picture], [label], Place(0, step, 7),
                                                MEAN, [4])
    return images[0], labels[0]


def test_nothing_happens_unless_it_is_asked_for(tmp_path):
    picture = image()
    images, labels = Augmentation().apply([picture], [LABEL], Place(0), MEAN, [4])
    assert images[0] is picture and labels[0] is LABEL
    plain, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path), split="train", seed=1, mean=MEAN)
    other, others = folders.layer(VOCSegDataLayer, voc_dir=str(tmp_path), split="train", seed=1, mean=MEAN, mirror=True,
                                  jitter=3, sampling=0.5)
    names = [(folders.step(plain, tops)[0], folders.step(other, others)[0]) for _ in range(20)]
    assert all(a == b for a, b in names), "augmentation must not change the order of the pictures"
    plain.close()
    other.close()


@pytest.mark.parametrize("mask", augment.MASKS)
def test_masked_pixels_are_0_and_the_border_is_masked_with_either_side(mask):
    before = image()
    after, label = apply(mask=mask)
    assert label is LABEL or np.array_equal(label, LABEL)
    for y in range(3):
        for x in range(5):
            kind = LABEL[0, y, x]
            for c in range(3):
                expected = before[c, y, x]
                if mask == "both":
                    expected = 255 - MEAN[c] if 0 < kind < 255 else 0
                elif kind == 255 or (kind == 0) == (mask == "background"):
                    expected = 0
                assert after[c, y, x] == np.float32(expected), (y, x, c)


def test_the_conditions_of_table_8_are_six():
    assert len(augment.CONDITIONS) == 6
    assert {mask for pair in augment.CONDITIONS.values() for mask in pair} == {None, *augment.MASKS}


def test_mirroring_flips_picture_and_label_together_half_of_the_time():
    flips = 0
    for step in range(200):
        after, label = apply(step, mirror=True)
        turned = not np.array_equal(label, LABEL)
        flips += turned
        for y in range(3):
            for x in range(5):
                source = 4 - x if turned else x
                assert label[0, y, x] == LABEL[0, y, source] and np.array_equal(after[:, y, x], image()[:, y, source])
    assert 70 < flips < 130


def test_jitter_shifts_both_and_fills_with_0_and_255():
    seen = set()
    for step in range(300):
        after, label = apply(step, jitter=2)
        for down in range(-2, 3):
            for right in range(-2, 3):
                expected, where = np.zeros_like(after), np.full_like(label, 255)
                for y in range(3):
                    for x in range(5):
                        if 0 <= y - down < 3 and 0 <= x - right < 5:
                            expected[:, y, x], where[0, y, x] = image()[:, y - down, x - right], LABEL[0, y - down, x - right]
                if np.array_equal(expected, after):
                    assert np.array_equal(where, label)
                    seen.add((down, right))
    assert len(seen) == 25
    after, label = apply(0, jitter=4000)  # a shift of more than the picture leaves nothing
    assert not after.any() and (label == 255).all()


def test_sampling_drops_whole_cells_of_the_final_layers_grid_with_probability_1_minus_p():
    label, picture = np.ones((1, 75, 131), np.uint8), np.ones((3, 75, 131), np.float32)
    kept = total = 0
    for step in range(150):
        after, sampled = apply(step, label, picture, sampling=0.3)
        assert after is picture
        # Cell i of FCN-32s' scores sees the rows 32 i - 99 to 32 i - 68 of the image at its centre.
        for top in range(-99, 75, 32):
            for left in range(-99, 131, 32):
                cell = sampled[0, max(top, 0):max(top + 32, 0), max(left, 0):max(left + 32, 0)]
                if cell.size:
                    assert cell.min() == cell.max() and cell[0, 0] in (1, 255)
                    kept, total = kept + (cell[0, 0] == 1), total + 1
    assert abs(kept / total - 0.3) < 4 * (0.3 * 0.7 / total) ** 0.5
    pixels = apply(1, label, picture, sampling=0.5, cell=1)[1]
    assert abs((pixels == 1).mean() - 0.5) < 0.03
    assert np.array_equal(apply(1, label, picture, sampling=1.0)[1], label)


@pytest.mark.parametrize("model", ["fcn32s", "fcn16s", "fcn8s"])
def test_cells_lie_around_the_centres_of_the_nets_last_scores(model):
    layers = {layer.name: layer for layer in text.read_net(str(ROOT / "models" / model / "train.prototxt")).layer}
    up = next(layer for name, layer in layers.items() if name in ("upscore", "upscore16", "upscore8"))
    stride, kernel = up.convolution_param.stride[0], up.convolution_param.kernel_size[0]
    offset = layers["score"].crop_param.offset[0]

    class Draw:  # keeps every second row of cells
        def random(self, shape):
            return np.arange(shape[0])[:, None] % 2 * np.ones(shape)

    kept = augment.kept_pixels(Draw(), (200, 1), 0.5, stride)[:, 0]
    edges = np.flatnonzero(np.diff(kept.astype(int))) + 1
    first = (kernel - 1) / 2 - offset  # the centre of score 0 in the image, in pixels
    assert len(edges) > 3 and all((edge - 0.5 - first) % stride == stride / 2 for edge in edges)


@pytest.mark.parametrize("null", [False, True])
def test_one_hot_labels_hold_255_in_every_channel_of_an_ignored_pixel(null):
    _, label = apply(one_hot=True, null_background=null)
    assert label.shape == (3 if null else 4, 3, 5) and label.dtype == np.uint8
    for y in range(3):
        for x in range(5):
            kind = LABEL[0, y, x]
            expected = [255 if kind == 255 else int(kind == number) for number in range(int(null), 4)]
            assert label[:, y, x].tolist() == expected


def test_the_layer_shapes_its_label_top_after_the_classes(tmp_path):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path, 2), split="seg11valid", mean=MEAN, one_hot=True,
                                null_background=True)
    _, data, label = folders.step(layer, tops)
    assert label.shape == (1, 20, *data.shape[2:]) and set(np.unique(label)) == {0, 1, 255}
    layer.close()


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("randomize", [True, False])
@pytest.mark.parametrize("seed", [None, 5, -5])
def test_resume_gives_the_draws_of_an_unbroken_run(tmp_path, prefetch, randomize, seed):
    keys = {"voc_dir": folders.voc(tmp_path), "split": "train", "mean": MEAN, "prefetch": prefetch, "seed": seed,
            "randomize": randomize, "mirror": True, "jitter": 3, "sampling": 0.5, "cell": 2}
    first, tops = folders.layer(VOCSegDataLayer, **keys)
    for _ in range(9):
        folders.step(first, tops)
    state = json.loads(json.dumps(first.get_state()))
    rest = [folders.step(first, tops) for _ in range(8)]
    second, tops = folders.layer(VOCSegDataLayer, **keys)
    folders.step(second, tops)
    second.set_state(state)
    for name, data, label in rest:
        again = folders.step(second, tops)
        assert again[0] == name and np.array_equal(again[1], data) and np.array_equal(again[2], label)
    first.close()
    second.close()


def test_draws_depend_on_seed_and_step_and_not_on_what_else_is_drawn():
    shifts = [apply(step, jitter=2)[1].tobytes() for step in range(20)]
    assert shifts == [apply(step, jitter=2)[1].tobytes() for step in range(20)] and len(set(shifts)) > 5
    order = Order(5, True, 3)
    for _ in range(4):
        order.advance()
    assert order.place.step == 4 and order.copy().place == order.place
    assert Place(0, 4, 3).generator().random() == Place(2, 4, 3).generator().random()
    assert len({Place(0, step, seed).generator().random() for step in range(5) for seed in range(5)}) == 25


def test_a_state_without_step_and_seed_is_taken_as_of_an_older_snapshot(tmp_path):
    layer, tops = folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path), split="train", mean=MEAN, seed=1)
    folders.step(layer, tops)
    state = layer.get_state()
    old = {key: value for key, value in state.items() if key not in ("step", "seed")}
    after = folders.step(layer, tops)[0]
    layer.set_state(old)
    assert folders.step(layer, tops)[0] == after
    with pytest.raises(Error, match="damaged: -1 samples"):
        layer.set_state({**state, "step": -1})
    layer.close()


@pytest.mark.parametrize("change, message", [
    ({"mask": "foregroud"}, "'mask' in param_str is 'foregroud'; did you mean 'foreground'.*foreground, background, both"),
    ({"mirror": "yes"}, "'mirror' in param_str must be True or False, got 'yes'"),
    ({"jitter": -1}, "'jitter' in param_str must be 0 to 4096 pixels, got -1"),
    ({"jitter": 1.5}, "'jitter'"),
    ({"sampling": 0}, "'sampling' in param_str must be a probability above 0, at most 1, or None, got 0"),
    ({"sampling": 1.5}, "'sampling'"),
    ({"sampling": "half"}, "'sampling'"),
    ({"cell": 0}, "'cell' in param_str must be 1 to 4096 pixels, got 0"),
    ({"one_hot": 3}, "'one_hot'"),
    ({"null_background": True}, "set 'one_hot' too"),
])
def test_wrong_keys_are_said_with_their_values(tmp_path, change, message):
    with pytest.raises(Error, match=message) as caught:
        folders.layer(VOCSegDataLayer, voc_dir=folders.voc(tmp_path, 1), split="train", mean=MEAN, **change)
    assert isinstance(caught.value, UnknownName) == ("mask" in change)


@pytest.mark.parametrize("keys", [{"mask": "both"}, {"one_hot": True, "null_background": True}])
def test_a_data_set_without_a_background_refuses_what_needs_one(keys):
    with pytest.raises(Error, match="needs a background"):
        augment.augmentation(keys, False, "SomeLayer")
    assert augment.augmentation(keys, True, "SomeLayer").active
