import math

import numpy as np
import pytest
from PIL import Image

from layers.window_data import fit, read_windows
from netspec import binaryproto, caffe_pb2
from netspec.errors import Error
from tests.layers.sources import batches, hold_resume, make, same

HEIGHT, WIDTH = 40, 50
WINDOWS = [  # class, overlap, x1 y1 x2 y2
    (1, 0.9, 5, 6, 24, 31), (2, 0.7, 0, 0, 9, 9), (3, 0.5, 30, 20, 49, 39), (7, 0.4, 1, 1, 30, 30), (1, 0.1, 10, 3, 33, 12),
    (0, 0.0, 44, 33, 49, 39)]
TEXT = ('type: "WindowData" window_data_param {{ source: "windows.txt" root_folder: "images/" batch_size: {batch} '
        'fg_threshold: 0.5 bg_threshold: 0.3 fg_fraction: 0.5 {window} }} transform_param {{ crop_size: 12 {transform} }}')


def text(window="", transform="", batch=6):
    return TEXT.format(window=window, transform=transform, batch=batch)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    lines = []
    for number in range(2):
        pixels = np.random.RandomState(number).randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
        lines += [f"# {number}", f"{number}.png", "3", str(HEIGHT), str(WIDTH), str(len(WINDOWS))]
        lines += [" ".join(map(str, window)) for window in WINDOWS]
    (tmp_path / "windows.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def pictures(folder):
    return [np.asarray(Image.open(folder / f"images/{number}.png"))[:, :, ::-1] for number in range(2)]


def candidates(folder, crop, context, square, mirrors=(False,)):
    """Yield (label, crop) of every window that may be drawn: Caffe's steps, with OpenCV's resize."""
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless (pip install -e '.[test]')")

    def rounded(value):
        return int(math.floor(value + 0.5)) if value >= 0 else -int(math.floor(-value + 0.5))

    for picture in pictures(folder):
        for label, overlap, *box in WINDOWS:
            if 0.3 <= overlap < 0.5:
                continue
            for mirror in mirrors:
                x1, y1, x2, y2 = box
                above, before, size = 0, 0, (crop, crop)
                if context or square:
                    scale = crop / (crop - 2 * context)
                    half_y, half_x = (y2 - y1 + 1) / 2, (x2 - x1 + 1) / 2
                    middle_x, middle_y = x1 + half_x, y1 + half_y
                    if square:
                        half_x = half_y = max(half_x, half_y)
                    x1, x2 = rounded(middle_x - half_x * scale), rounded(middle_x + half_x * scale)
                    y1, y2 = rounded(middle_y - half_y * scale), rounded(middle_y + half_y * scale)
                    tall, wide = y2 - y1 + 1, x2 - x1 + 1
                    left, up = max(0, -x1), max(0, -y1)
                    right, down = max(0, x2 - WIDTH + 1), max(0, y2 - HEIGHT + 1)
                    x1, x2, y1, y2 = x1 + left, x2 - right, y1 + up, y2 - down
                    size = rounded((x2 - x1 + 1) * crop / wide), rounded((y2 - y1 + 1) * crop / tall)
                    above, before = rounded(up * crop / tall), rounded((right if mirror else left) * crop / wide)
                    size = min(size[0], crop - before), min(size[1], crop - above)
                cut = cv2.resize(np.ascontiguousarray(picture[y1:y2 + 1, x1:x2 + 1]), size)
                out = np.full((crop, crop, 3), np.nan, np.float32)
                out[above:above + size[1], before:before + size[0]] = cut[:, ::-1] if mirror else cut
                yield (label if overlap >= 0.5 else 0), out.transpose(2, 0, 1)


def found(seen, known):
    """Return the numbers of the known windows that were seen; all that was seen must be known."""
    numbers = set()
    for windows, labels in seen:
        for window, label in zip(windows, labels):
            hits = [number for number, (known_label, expected) in enumerate(known)
                    if known_label == label and np.array_equal(np.nan_to_num(expected), window)]
            assert hits, label
            numbers.update(hits)
    return numbers


@pytest.mark.parametrize("window, context, square", [
    ("", 0, False), ("context_pad: 2", 2, False), ('crop_mode: "square"', 0, True),
    ('context_pad: 3 crop_mode: "square"', 3, True)])
@pytest.mark.parametrize("mirror", [False, True])
def test_windows_are_cut_out_as_caffe_does(folder, window, context, square, mirror):
    known = list(candidates(folder, 12, context, square, (False, True) if mirror else (False,)))
    layer, top = make(folder, text(window, f"mirror: {str(mirror).lower()}"))
    assert layer.top_shapes([]) == [(6, 3, 12, 12), (6,)]
    seen = batches(layer, top, 40)
    assert len(found(seen, known)) > 0.9 * len(known)
    for _, labels in seen:
        assert (labels[:3] == 0).all() and (labels[3:] > 0).all()  # half of each batch is background, and stands first
    layer.close()


@pytest.mark.parametrize("transform", ["mean_value: 50 mean_value: 60 mean_value: 70", "mean_value: 55", 'mean_file: "mean"'])
def test_mean_and_scale_are_not_for_what_lies_outside(folder, transform):
    mean = np.random.RandomState(9).uniform(90, 120, (3, 16, 16)).astype(np.float32)
    binaryproto.write_mean(folder / "mean", mean)
    values = {"mean_file": mean[:, 2:14, 2:14], "mean_value: 55": 55, "mean_value: 50": np.reshape([50, 60, 70], (3, 1, 1))}
    taken = np.float32(next(one for start, one in values.items() if transform.startswith(start)))
    known = [(label, (window - taken) * np.float32(0.25)) for label, window in candidates(folder, 12, 3, True)]
    assert any(np.isnan(window).any() for _, window in known)
    layer, top = make(folder, text('context_pad: 3 crop_mode: "square"', f"{transform} scale: 0.25"))
    assert len(found(batches(layer, top, 20), known)) > 5
    layer.close()


def test_files_in_memory_give_the_same(folder):
    one, other = make(folder, text("cache_images: true", "mirror: true")), make(folder, text("", "mirror: true"))
    first = batches(*one, 3)
    assert same(first, batches(*other, 3))
    for layer, _ in (one, other):
        layer.close()


@pytest.mark.parametrize("done", range(3))
def test_resume_goes_on_exactly(folder, done):
    hold_resume(folder, text("context_pad: 2", "mirror: true"), done)


def test_the_share_of_foreground_is_rounded_down(folder):
    layer, top = make(folder, text(batch=5))
    assert [(labels > 0).tolist() for _, labels in batches(layer, top, 2)] == [[False, False, False, True, True]] * 2
    layer.close()


def test_old_fields_of_the_window_data_itself_are_moved_where_they_work(folder):
    from layers.core.net import Net

    (folder / "net.prototxt").write_text(
        'layer { name: "in" type: "WindowData" top: "data" top: "label" window_data_param { source: "windows.txt" batch_size: 2 '
        'root_folder: "images/" crop_size: 8 scale: 0.5 mirror: true fg_fraction: 0.5 } }')
    net = Net(str(folder / "net.prototxt"), caffe_pb2.TRAIN)
    net.forward()
    assert net.blobs["data"].shape == (2, 3, 8, 8) and net.blobs["data"].data.max() <= 127.5
    net.close()


@pytest.mark.parametrize("old, new, message", [
    ("# 1", "1", "windows.txt:13: '# number of a picture' should stand here; got '1'"),
    ("1.png\n3\n", "1.png\n1\n", "windows.txt:15: '1.png' has 1 channels"),
    ("1.png\n3\n40", "1.png\n3\nforty", "windows.txt:16: the height should stand here; got 'forty'"),
    ("2 0.7 0 0 9 9", "2 0.7 0 0 9", "windows.txt:8: a window .class overlap x1 y1 x2 y2. should stand here; got '2 0.7 0 0 9'"),
    ("2 0.7 0 0 9 9", "2 0.7 0 0 9 9.5", "windows.txt:8: class and corners"),
    ("2 0.7 0 0 9 9", "0 0.7 0 0 9 9", "windows.txt:8: a foreground window .* of class 0; it must be above 0"),
    ("0 0.0 44 33 49 39\n# 1", "# 1", "windows.txt:12: a window"),
])
def test_bad_lines_are_named(folder, old, new, message):
    whole = (folder / "windows.txt").read_text()
    assert old in whole
    (folder / "windows.txt").write_text(whole.replace(old, new, 1))
    with pytest.raises(Error, match=message):
        read_windows(folder / "windows.txt", 0.5, 0.3)


def test_a_truncated_file_and_one_without_windows(folder):
    whole = (folder / "windows.txt").read_text()
    (folder / "windows.txt").write_text(whole[:whole.rindex("\n", 0, -1)])
    with pytest.raises(Error, match="windows.txt' ends where a window .* should stand; it is truncated"):
        make(folder, text())
    (folder / "windows.txt").write_text("# 0\n0.png\n3\n40\n50\n0\n")
    with pytest.raises(Error, match="has no windows"):
        make(folder, text())
    (folder / "windows.txt").write_text("# 0\n0.png\n3\n40\n50\n1\n1 0.9 0 0 5 5\n")
    with pytest.raises(Error, match="has no window with an overlap below 0.3, but 3 of each batch of 6 should be such"):
        make(folder, text())


def test_windows_outside_and_pictures_that_are_gone_are_named(folder):
    (folder / "windows.txt").write_text("# 0\n0.png\n3\n40\n50\n2\n1 0.9 0 0 50 5\n1 0.1 0 0 5 5\n")
    layer, top = make(folder, text())
    with pytest.raises(Error, match=r"windows.txt:7: 0 0 50 5 leaves nothing to cut out of the 40x50 .* picture '0.png'"):
        batches(layer, top, 1)
    (folder / "images/0.png").unlink()
    with pytest.raises(Error, match="image of window .*windows.txt:8 'images/0.png' not found"):
        batches(layer, top, 1)
    layer.close()


@pytest.mark.parametrize("given, message", [
    (text().replace("crop_size: 12", ""), "has no 'crop_size'"), (text("context_pad: 6"), "context_pad 6 on both sides"),
    (text('crop_mode: "sqare"'), "crop_mode is 'sqare'; did you mean 'square'"), (text(batch=0), "has no 'batch_size'"),
    (text("fg_fraction: 2").replace("fg_fraction: 0.5", ""), "fg_fraction is 2; it must be from 0 to 1"),
    (text("", "mean_value: 1 mean_value: 2"), "mean_value is given 2 times"),
    (text("", 'mean_file: "small"'), "mean file '.*small' is 3x11x11"), ('type: "WindowData"', "has no 'source'"),
])
def test_what_does_not_fit_is_refused(folder, given, message):
    binaryproto.write_mean(folder / "small", np.zeros((3, 11, 11)))
    with pytest.raises(Error, match=message):
        make(folder, given)


def test_the_warped_window_always_fits():
    random = np.random.RandomState(0)
    for _ in range(2000):
        height, width = random.randint(5, 60, 2)
        x1, x2 = sorted(random.randint(0, width, 2))
        y1, y2 = sorted(random.randint(0, height, 2))
        (left, top, right, bottom), (rows, columns), (above, before) = fit(
            (x1, y1, x2, y2), (height, width), 24, random.randint(0, 6), bool(random.randint(2)), bool(random.randint(2)))
        assert 0 <= left <= right < width and 0 <= top <= bottom < height
        assert above >= 0 and before >= 0 and above + rows <= 24 and before + columns <= 24
