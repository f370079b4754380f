"""The measured experiments: their arithmetic, not their figures."""

import numpy as np
import pytest
from PIL import Image

from netspec.errors import Error, PathError
from netspec.measure import measure
from paper import experiment
from paper.experiments import convolutional_cost, fc_to_conv, hha, inference_time, memory, needs_data, upper_bounds
from tests.support import shared

FACTORS = (64, 16, 4)


def ellipses(count=3):
    """Return label maps with a class, a border of 255 and background."""
    y, x = np.mgrid[:90, :130]
    found = []
    for number in range(1, count + 1):
        inside = ((y - 40 - number) / 25) ** 2 + ((x - 60 - 3 * number) / 40) ** 2
        found.append(np.where(inside < 0.9, number, np.where(inside < 1, 255, 0)).astype(np.uint8))
    return found


@pytest.mark.parametrize("way", upper_bounds.WAYS)
def test_bounds_fall_with_the_factor_and_are_100_at_1(way):
    bounds = list(upper_bounds.bounds_of(ellipses(), (*FACTORS, 1), [way])[way].values())
    assert bounds == sorted(bounds) and bounds[-1] == 1 and bounds[0] < 0.9


def test_sampling_matrices():
    def down(size, factor, how):
        return upper_bounds.downsampling(size, factor, how).toarray()

    np.testing.assert_array_equal(down(5, 2, "first"), [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(down(5, 2, "mean"), [[.5, .5, 0, 0, 0], [0, 0, .5, .5, 0], [0, 0, 0, 0, 1]])
    np.testing.assert_allclose(down(6, 2, "bilinear")[1], np.array([0, 1, 3, 3, 1, 0]) / 8)
    up = upper_bounds.upsampling(5, 2, "bilinear").toarray()
    np.testing.assert_allclose(up, [[1, 0, 0], [.75, .25, 0], [.25, .75, 0], [0, .75, .25], [0, .25, .75]])


def test_a_label_that_is_all_border_is_no_error():
    for way in upper_bounds.WAYS:
        assert not upper_bounds.sampled(*upper_bounds.pictures(np.full((7, 9), 255, np.uint8)), 4, way).any()


def test_labels_are_found_and_checked(tmp_path):
    with pytest.raises(PathError, match="seg11valid_labels' not found"):
        upper_bounds.read_labels(tmp_path)
    folder = tmp_path / upper_bounds.FOLDER
    folder.mkdir()
    with pytest.raises(PathError, match="holds no label PNG"):
        upper_bounds.read_labels(tmp_path)
    Image.fromarray(np.full((3, 4), 21, np.uint8)).save(folder / "a.png")
    with pytest.raises(Error, match="label 21 .* is outside the 21 classes"):
        upper_bounds.read_labels(tmp_path)
    (folder / "a.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(Error, match="a.png"):
        upper_bounds.read_labels(tmp_path)


def test_bounds_of_a_few_of_the_papers_labels_are_near_the_papers():
    """32 of 736 labels lack classes, so the mean over them is another one; the whole set gives 86.2."""
    found = upper_bounds.bounds_of(upper_bounds.read_labels(shared("real"))[::23], [32], ["bilinear both ways"])
    assert 100 * found["bilinear both ways"][32] == pytest.approx(86.1, abs=10)


def test_hha_without_its_folder_is_one_clear_error(tmp_path):
    with pytest.raises(Error, match="0.png"):
        hha.run(experiment.Context("hha", tmp_path, scratch=tmp_path))


def test_caffes_bytes_by_hand():
    params, blobs, buffers = memory.caffe_bytes()
    assert params == 4 * (134_346_581 + 2 * 441 * 16 + 441 * 256 + 21 * 512 + 21 + 21 * 256 + 21)
    # conv1_1 and conv1_2 alone: 64 channels of 698x698, data and gradient.
    assert 2 * 2 * 4 * 64 * 698 * 698 < blobs < 2 * 10**9
    assert buffers > 4 * 64 * 9 * 698 * 698


def test_the_grid_of_500_pixels_is_10x10():
    rows = measure(fc_to_conv.alexnet(convolutional_cost.IMAGE, convolutional_cost.IMAGE))
    assert next(row.shapes[0] for row in rows if row.layer == "fc8") == (1, 10, 10, 10)


@pytest.mark.parametrize("name", [*inference_time.PAPER, inference_time.FCN8S])
def test_timed_nets_take_500_pixels(name):
    rows = measure(inference_time.message(name))
    assert rows[-1].shapes == [(1, 21, 500, 500)]


def test_what_is_missing_is_named():
    assert needs_data.missing_of((needs_data.VGG,), {needs_data.VGG[1]: False}).startswith("Missing: ImageNet weights of VGG16")
    assert needs_data.missing_of((needs_data.VGG,), {needs_data.VGG[1]: True}) == "All of it is there; run the command."
