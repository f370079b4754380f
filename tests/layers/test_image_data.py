import numpy as np
import pytest
from PIL import Image

from data.decode import decode
from data.resize import resize
from netspec import caffe_pb2
from netspec.errors import Error, PathError
from tests.layers.sources import batches, hold_resume, make, same

COUNT = 7
IMAGES = ('type: "ImageData" image_data_param { source: "list.txt" root_folder: "images/" batch_size: 3 %s } '
          'transform_param { %s }')


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(COUNT):
        pixels = np.random.RandomState(number).randint(0, 256, (9, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/a {number}.png")
    (tmp_path / "list.txt").write_text("".join(f"a {number}.png {number}\n" for number in range(COUNT)))
    return tmp_path


def expected(folder, number, color=True):
    return decode(folder / f"images/a {number}.png", color).transpose(2, 0, 1).astype(np.float32)


def test_pictures_come_in_the_lists_order(folder):
    layer, top = make(folder, IMAGES % ("", ""))
    assert layer.top_shapes([]) == [(3, 3, 9, 12), (3,)]
    seen = batches(layer, top, 5)
    labels = np.concatenate([label for _, label in seen]).astype(int)
    assert labels.tolist() == [number % COUNT for number in range(15)]
    for picture, label in zip(np.concatenate([pictures for pictures, _ in seen]), labels):
        assert np.array_equal(picture, expected(folder, label))
    layer.close()


def test_grey_resized_cropped_and_mirrored(folder):
    text = IMAGES % ("is_color: false new_height: 6 new_width: 5", "crop_size: 4 mirror: true mean_value: 100")
    layer, top = make(folder, text, phase=caffe_pb2.TEST)
    for pictures, labels in batches(layer, top, 4):
        for picture, label in zip(pictures, labels.astype(int)):
            small = resize(decode(folder / f"images/a {label}.png", False), 6, 5).transpose(2, 0, 1)
            plain = small[:, 1:5, 0:4].astype(np.float32) - 100
            assert np.array_equal(picture, plain) or np.array_equal(picture, plain[:, :, ::-1])
    layer.close()


def test_shuffling_delivers_each_picture_once_a_round_in_another_order(folder):
    text = (IMAGES % ("shuffle: true", "")).replace("batch_size: 3", f"batch_size: {COUNT}")
    layer, top = make(folder, text)
    rounds = [label.astype(int).tolist() for _, label in batches(layer, top, 6)]
    assert all(sorted(labels) == list(range(COUNT)) for labels in rounds) and len(set(map(tuple, rounds))) > 3
    again, top = make(folder, text)
    assert [label.tolist() for _, label in batches(again, top, 6)] == rounds
    layer.close(), again.close()


def test_rand_skip_begins_somewhere_else(folder):
    starts = set()
    for seed in range(12):
        layer, top = make(folder, (IMAGES % ("rand_skip: 4", "")) + "data_param { prefetch: 0 }", seed=seed)
        starts.add(int(batches(layer, top, 1)[0][1][0]))
    assert len(starts) > 2 and starts <= set(range(4))
    with pytest.raises(Error, match="rand_skip drew .* has only 7 pictures"):
        for seed in range(5):
            make(folder, IMAGES % ("rand_skip: 100000", ""), seed=seed)


def test_one_picture_a_batch_may_have_its_own_size(folder):
    Image.new("RGB", (5, 4)).save(folder / "images/a 1.png")
    layer, top = make(folder, (IMAGES % ("", "")).replace("batch_size: 3", "batch_size: 1"))
    assert [pictures.shape for pictures, _ in batches(layer, top, 3)] == [(1, 3, 9, 12), (1, 3, 4, 5), (1, 3, 9, 12)]
    layer.close()
    layer, top = make(folder, IMAGES % ("", ""))
    with pytest.raises(Error, match="list.txt:2 '.*a 1.png' becomes 3x4x5 .* but image of .*txt:1 .*, of the same batch, 3x9x12"):
        batches(layer, top, 1)
    layer.close()


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("done", range(4))
def test_resume_goes_on_exactly(folder, prefetch, done):
    text = IMAGES % ("shuffle: true rand_skip: 3", "mirror: true crop_size: 5")
    hold_resume(folder, f"{text} data_param {{ prefetch: {prefetch} }}", done)


def test_the_same_bits_however_far_is_read_ahead(folder):
    text = IMAGES % ("shuffle: true", "mirror: true crop_size: 5")
    made = [make(folder, f"{text} data_param {{ prefetch: {prefetch} }}") for prefetch in (0, 5)]
    assert same(*(batches(*one, 6) for one in made))
    for layer, _ in made:
        layer.close()


def test_a_state_of_another_list_is_refused(folder):
    layer, top = make(folder, IMAGES % ("", ""))
    state = layer.state()
    (folder / "list.txt").write_text("a 0.png 1\n")
    other, _ = make(folder, IMAGES % ("", ""))
    with pytest.raises(Error, match="is of a list of 7 pictures, '.*list.txt' now has 1"):
        other.set_state(state)


def test_pictures_that_cannot_be_read_are_named_with_their_line(folder):
    (folder / "images/a 4.png").write_bytes((folder / "images/a 4.png").read_bytes()[:60])
    layer, top = make(folder, IMAGES % ("", ""))
    batches(layer, top, 1)
    for _ in range(2):
        with pytest.raises(Error, match="cannot read image of .*list.txt:5 '.*a 4.png'"):
            batches(layer, top, 1)
    (folder / "images/a 4.png").unlink()
    with pytest.raises(PathError, match="image of .*list.txt:5 'images/a 4.png' not found; tried"):
        batches(layer, top, 1)
    layer.close()


@pytest.mark.parametrize("text, message", [
    ('type: "ImageData"', "has no 'source'"),
    ('type: "ImageData" image_data_param { source: "list.txt" batch_size: 0 }', "batch_size 0"),
    (IMAGES % ("new_height: 3", ""), "new_height is 3 and new_width 0; give both or none"),
    (IMAGES % ("", "crop_size: 10"), "list.txt:1 '.*a 0.png' is 9x12 .*, smaller than crop_size 10"),
    (IMAGES.replace("list.txt", "lst.txt") % ("", ""), "image list 'lst.txt' not found; tried"),
])
def test_what_does_not_fit_is_refused(folder, text, message):
    with pytest.raises(Error, match=message):
        make(folder, text)
