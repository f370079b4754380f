"""What padding alone makes is kept, gathered for new sizes, and always has the bits of the whole computation."""

import numpy as np
import pytest

from layers.core import border as core_border
from layers.core.border import Axis, Border, Borders
from layers.core.cpu import parallel
from layers.core.net import Net
from netspec import caffe_pb2, text
from tests.layers.core.nets import padded_vgg


def pair(**more):
    """Two nets of the same weights: one that keeps borders, and one that does not."""
    keeps, plain = (Net(padded_vgg(**more), caffe_pb2.TEST, seed=3, border=wanted) for wanted in (True, False))
    return keeps, plain


def run(net, image):
    net.blobs["data"].reshape(*image.shape)
    net.blobs["data"].data[...] = image
    net.forward()


@pytest.fixture
def boxes(monkeypatch):
    """The boxes that convolutions were given, by layer; None where all was computed."""
    from layers.convolution import Convolution

    seen, whole = {}, Convolution.forward_fused

    def forward_fused(self, bottom, top, rectify=False, pooled=None, box=None):
        seen[self.name] = box
        whole(self, bottom, top, rectify, pooled, box)

    monkeypatch.setattr(Convolution, "forward_fused", forward_fused)
    return seen


def same(one, other):
    for name in one.blobs:
        assert np.array_equal(one.blobs[name].data, other.blobs[name].data), name


def images(*sizes, batch=1):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((batch, 3, *size), dtype=np.float32) * 50 for size in sizes]


def test_a_second_image_is_computed_in_its_box_only_and_has_the_same_bits(boxes):
    keeps, plain = pair()
    for number, image in enumerate(images((40, 52), (40, 52), (40, 52), batch=2)):
        run(keeps, image)
        assert (boxes["conv1_2"] is not None) == (number > 0)
        run(plain, image)
        assert boxes["conv1_2"] is None
        assert np.array_equal(keeps.blobs["score"].data, plain.blobs["score"].data)
    same(keeps, plain)


def test_a_new_size_takes_its_border_from_a_small_image_of_zeros_of_its_class(boxes, monkeypatch):
    keeps, plain = pair()
    small, compute = [], Borders._compute

    def computed(self, border):
        small.append(border.image_size)
        return compute(self, border)

    monkeypatch.setattr(Borders, "_compute", computed)
    for size, known in (((300, 310), False), ((300, 374), True), ((364, 310), True), ((303, 301), False), ((310, 300), False),
                        ((300, 310), True), ((367, 301), True)):
        (image,) = images(size)
        small.clear()
        run(keeps, image)
        assert boxes["conv1_2"] is not None and boxes["conv2_2"] is not None
        assert known == (not small)
        assert all((n - m) % core_border.PERIOD == 0 for zeros in small for n, m in zip(size, zeros))
        run(plain, image)
        assert np.array_equal(keeps.blobs["score"].data, plain.blobs["score"].data), size
    same(keeps, plain)


def test_the_box_is_right_at_all_phases_of_the_tiles(boxes):
    keeps, plain = pair()
    for size in ((21, 22), (23, 24), (25, 26), (1, 1), (27, 5)):
        for image in images(size, size):
            run(keeps, image)
            run(plain, image)
            assert np.array_equal(keeps.blobs["score"].data, plain.blobs["score"].data), size


@pytest.mark.parametrize("how", ["weight", "kept view of a weight", "bias", "copied weights"])
def test_changed_weights_are_seen(how):
    keeps, plain = pair()
    (image,) = images((30, 30))
    view = keeps.params["conv1_1"][0].data if "view" in how else None
    run(keeps, image)
    run(keeps, image)
    if how == "weight":
        keeps.params["conv1_2"][0].data[3, 2, 1, 1] += 1
    elif how == "bias":
        keeps.params["conv1_1"][1].data[3] = 2
    elif view is not None:
        view[1, 1, 1, 1] += 1
    else:
        keeps.params["conv2_1"][0].data = keeps.params["conv2_1"][0].data * 2
    plain.share_with(keeps)
    run(keeps, image)
    run(plain, image)
    same(keeps, plain)


def test_a_blob_that_was_written_by_hand_is_computed_whole():
    keeps, plain = pair()
    (image,) = images((30, 30))
    run(keeps, image)
    run(keeps, image)
    keeps.blobs["conv1_2"].data[...] = 7
    keeps.blobs["pool1"].data[...] = 7
    run(keeps, image)
    run(plain, image)
    same(keeps, plain)


def test_a_forward_that_begins_later_reads_what_was_written():
    keeps, plain = pair()
    (image,) = images((30, 30))
    for net in (keeps, plain):
        run(net, image)
        run(net, image)
        net.blobs["conv1_1"].data[...] = np.random.default_rng(1).standard_normal(net.blobs["conv1_1"].shape)
        net.forward(start="conv1_2")
    same(keeps, plain)
    for net in (keeps, plain):
        run(net, image)
    same(keeps, plain)


def test_hooks_and_bits_for_any_number_of_threads():
    keeps, plain = pair()
    before = parallel.threads()
    try:
        for threads, image in zip((1, 3, 2), images((30, 30), (30, 30), (30, 30))):
            parallel.set_threads(threads)
            run(keeps, image)
            parallel.set_threads(1)
            run(plain, image)
            assert np.array_equal(keeps.blobs["score"].data, plain.blobs["score"].data)
        keeps.after_forward(lambda number: None)  # layers are then run one by one
        run(keeps, image)
        same(keeps, plain)
    finally:
        parallel.set_threads(before)


def test_an_interrupted_forward_leaves_no_border_behind(monkeypatch):
    keeps, plain = pair()
    first, second = images((30, 30), (30, 30))
    run(keeps, first)
    run(keeps, first)
    kernels = keeps.layer_dict["conv1_2"].kernels
    whole = kernels.forward_places
    monkeypatch.setattr(kernels, "forward_places", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(keeps, second)
    monkeypatch.setattr(kernels, "forward_places", whole)
    run(keeps, second)
    run(plain, second)
    same(keeps, plain)


def test_without_large_padding_or_in_train_nothing_is_kept(boxes):
    (image,) = images((30, 30))
    net = Net(padded_vgg(pad=1), caffe_pb2.TEST, seed=3)
    run(net, image)
    run(net, image)
    assert boxes["conv1_1"] is None and boxes["conv1_2"] is None
    net = Net(padded_vgg(), caffe_pb2.TRAIN, seed=3)
    run(net, image)
    run(net, image)
    assert boxes["conv1_2"] is None


# --- arithmetic -------------------------------------------------------------------------------------------------------


def test_axis_of_a_padded_convolution():
    axis = Axis(500, 0, 500).slide(698, 3, 1, 100)
    assert (axis.low, axis.high, axis.left, axis.right, axis.uniform) == (98, 600, 0, 0, False)
    axis = axis.slide(698, 3, 1, 1, tile=4)
    assert (axis.low, axis.high, axis.left, axis.size - axis.right, axis.period) == (96, 604, 4, 696, 4)
    axis = axis.slide(349, 2, 2, 0)
    assert (axis.low, axis.high, axis.left, axis.size - axis.right, axis.period, axis.stride) == (48, 302, 2, 348, 2, 2)


@pytest.mark.parametrize("kernel, stride, pad, dilation, tile", [
    (3, 1, 1, 1, 1), (3, 1, 1, 1, 4), (5, 2, 3, 1, 1), (2, 2, 0, 1, 1), (3, 2, 0, 1, 1), (3, 1, 2, 2, 1), (1, 1, 0, 1, 1),
    (3, 3, 1, 1, 2)])
def test_axes_tell_what_brute_force_finds(kernel, stride, pad, dilation, tile):
    """Values that mix a window (and, in tiles, all that the tile sees) are compared with those of an image of zeros."""

    def slide(values, first):
        # Each output is a hash of what it may depend on: with tiles, of its place in the tile and all that the tile sees.
        reach = dilation * (kernel - 1)
        size = (len(values) + 2 * pad - reach - 1) // stride + 1
        beyond = values[0] if first else "beyond"
        padded = [beyond] * pad + list(values) + [beyond] * (pad + tile * stride + reach)
        out = []
        for o in range(size):
            base = o // tile * tile
            ends = range(base, base + tile) if tile > 1 else (o,)
            out.append(hash((o - base, tuple(padded[e * stride + d * dilation] for e in ends for d in range(kernel)))))
        return out

    zeros, axis = ["zero"] * 61, Axis(61, 20, 37)
    image = ["zero"] * 20 + [f"pixel {i}" for i in range(17)] + ["zero"] * 24
    for layer in range(3):
        zeros, image = slide(zeros, layer == 0), slide(image, layer == 0)
        axis = axis.slide(len(zeros), kernel, stride, pad, dilation, tile)
        assert axis.size == len(zeros)
        outside = [i for i in range(axis.size) if not axis.low <= i < axis.high]
        assert [image[i] for i in outside] == [zeros[i] for i in outside]
        middle = range(axis.left, axis.size - axis.right)
        assert all(zeros[i] == zeros[i + axis.period] for i in middle if i + axis.period in middle)


def test_zeros_that_would_not_be_small_are_not_computed(monkeypatch):
    keeps, plain = pair()
    fills = []
    monkeypatch.setattr(core_border.Borders, "_values", lambda self, small: fills.append(small))
    for size in ((30, 30), (31, 31), (30, 30)):
        run(keeps, *images(size))
    assert not fills


def test_keys_tell_sizes_and_weights_apart():
    image = Border.image(3, 10, 12)
    assert image.key == Border.image(3, 10, 12).key != Border.image(3, 12, 10).key
    assert image.box == (0, 10, 0, 12) and image.part == 1 and not image.pays


def test_prototxt_of_these_tests_is_one_that_users_could_write():
    assert text.dump(padded_vgg()).count("layer {") > 8
