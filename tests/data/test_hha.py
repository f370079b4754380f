"""HHA: rooms whose planes are known, a loop over windows, the MATLAB encoding of a real image, the command."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data import hha
from netspec.errors import Error, UnknownName, run_door
from tests.support import ROOT, shared

CAMERA = hha.Camera(120.0, 118.0, 52.5, 36.5)
SHAPE = (73, 105)


def room(tilt=0.0, roll=0.0, height=1.4, wall=3.0, camera=CAMERA, shape=SHAPE):
    """Return (depth, down, is floor): a floor `height` metres below the camera and a wall `wall` metres before it.

    The camera looks `tilt` degrees down and is rolled by `roll`.
    """
    x, y = hha.rays(shape, camera)
    ray = np.stack([x, y, np.ones(shape)], 2)
    a, b = np.radians(tilt), np.radians(roll)
    down = np.array([np.cos(a) * np.sin(b), np.cos(a) * np.cos(b), np.sin(a)])
    forward = np.array([0, 0, 1.0]) - down * down[2]
    forward /= np.linalg.norm(forward)
    with np.errstate(divide="ignore"):
        to_floor = np.where(ray @ down > 0, height / (ray @ down), np.inf)
    to_wall = wall / (ray @ forward)
    return np.minimum(to_floor, to_wall), down, to_floor < to_wall


@pytest.mark.parametrize("tilt, roll", [(0, 0), (12, -5), (8, 8), (25, 3)])
def test_gravity_heights_and_angles_of_a_room_are_found(tilt, roll):
    depth, down, floor = room(tilt, roll, wall=6.0)
    found = hha.encode(depth, CAMERA)
    g = found.gravity
    assert np.degrees(np.arccos(g @ down)) < 1  # windows over the edge between floor and wall see neither
    # Away from the edge, where a window sees one plane only.
    inside = np.zeros(SHAPE, bool)
    for r in range(3, SHAPE[0] - 3):
        for c in range(3, SHAPE[1] - 3):
            window = floor[r - 3:r + 4, c - 3:c + 4]
            inside[r, c] = window.all() or not window.any()
    assert (inside & floor).sum() > 250 and (inside & ~floor).sum() > 250
    forward = np.array([0, 0, 1.0]) - down * down[2]
    angle = found.hha[:, :, 2].astype(float) - 38
    for where, normal in ((floor, down), (~floor, forward / np.linalg.norm(forward))):
        assert np.abs(angle[inside & where] - np.degrees(np.arccos(normal @ g))).max() <= 0.51
    x, y = hha.rays(SHAPE, CAMERA)
    above = -100 * depth * (np.stack([x, y, np.ones(SHAPE)], 2) @ g)
    assert above.min() < -90
    assert np.abs(found.hha[:, :, 1] - np.clip(above - above.min(), 0, 255)).max() <= 0.51
    assert np.array_equal(found.hha[:, :, 0], np.clip(np.floor(31000 / np.maximum(100 * depth, 100) + 0.5), 0, 255))


def test_a_single_wall_leaves_gravity_where_it_was_thought_to_be():
    depth, _, floor = room(wall=1.0)
    assert not floor.any() and np.allclose(hha.encode(depth, CAMERA).gravity, [0, 1, 0], atol=1e-6)


def test_ground_is_assumed_130_below_when_nothing_low_is_seen():
    found = hha.encode(room(height=0.5)[0], CAMERA)
    assert abs(int(found.hha[-1, :, 1].min()) - 80) <= 1  # half a metre below the camera


def test_normals_are_least_squares_planes_of_the_window():
    rng = np.random.default_rng(1)
    depth = 2 + 0.05 * rng.standard_normal((9, 11)).cumsum(0)
    missing = rng.random((9, 11)) < 0.3
    missing[:3, :4] = True
    x, y = hha.rays(depth.shape, CAMERA)
    got = hha.normals(depth, x, y, missing, 2)
    for r in range(9):
        for c in range(11):
            rows, right = [], []
            for i in range(max(r - 2, 0), min(r + 3, 9)):
                for j in range(max(c - 2, 0), min(c + 3, 11)):
                    if not missing[i, j]:
                        rows.append([(j + 1 - CAMERA.cx) / CAMERA.fx, (i + 1 - CAMERA.cy) / CAMERA.fy, 1])
                        right.append(1 / depth[i, j])
            if len(rows) < 3 or np.linalg.matrix_rank(rows) < 3:
                assert np.isnan(got[r, c]).all()
                continue
            plane = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
            plane /= np.linalg.norm(plane)
            if plane @ [x[r, c], y[r, c], 1] < 0:
                plane = -plane
            assert np.allclose(got[r, c], plane, atol=1e-6)


def test_unknown_depth_is_0_in_every_channel_and_unmeasured_depth_has_no_part_in_normals():
    depth, _, _ = room(10)
    holes = np.zeros(SHAPE, bool)
    holes[30:44, 50:70] = True
    with_holes = hha.encode(np.where(holes, 0, depth), CAMERA).hha
    assert not with_holes[holes].any() and with_holes[~holes][:, 0].all()
    filled = np.where(holes, 1.0, depth)  # a wrong filling
    found = hha.encode(filled, CAMERA, holes)
    assert np.array_equal(found.hha[~holes][:, 2], with_holes[~holes][:, 2])
    assert not found.has_normal[33:41, 53:67].any() and not found.hha[33:41, 53:67, 2].any()


def test_the_encoding_is_matlabs_pixel_by_pixel():
    """On the real image, NYUDv2's colour intrinsics, nothing marked as missing: every one of the 921,600 values equal.

    Mean absolute difference 0, all within 1 and 5 levels, correlation 1 in each channel.
    """
    depth = hha.read_depth(str(shared("real/hha/0.png")), 1e-4)
    matlab = np.asarray(Image.open(shared("real/hha/matlab_hha.png")))
    assert np.array_equal(hha.encode(depth, hha.CAMERAS["nyud"]).hha, matlab)


def test_with_the_raw_depths_holes_it_is_within_1_of_another_program():
    """Where a normal exists (78.5 % of the pixels): 100 %, 99.76 % and 99.91 % of the channels' values equal, all within 1."""
    depth = hha.read_depth(str(shared("real/hha/0.png")), 1e-4)
    missing = hha.read_depth(str(shared("real/hha/0_raw.png")), 1e-4, filled=False) == 0
    found = hha.encode(depth, hha.CAMERAS["nyud"], missing)
    other = np.asarray(Image.open(shared("real/hha/hha.png"))).astype(int)
    away = np.abs(found.hha.astype(int) - other)[found.has_normal]
    assert away.max() <= 1 and ((away == 0).mean(axis=0) > [0.9999, 0.997, 0.999]).all()
    assert abs(found.has_normal.mean() - 0.7855) < 1e-3


@pytest.mark.parametrize("depth, message", [
    (np.zeros((9, 9)), "holds no depth: every pixel is 0"),
    (np.full((9, 9), np.nan), "must be finite"),
    (np.full((9, 9), -1.0), "must be finite and 0 or more, got -1 to -1"),
    (np.ones((2, 9)), r"at least 3x3; got \(2, 9\)"),
    (np.ones((9, 9, 3)), r"got \(9, 9, 3\)"),
    (np.eye(30), "no surface from which gravity"),
])
def test_what_is_no_depth_image_is_refused(depth, message):
    with pytest.raises(Error, match=message):
        hha.encode(depth, CAMERA)


def test_the_eye_matrix_has_a_normal_only_where_it_should():
    # Pixels on a diagonal span no plane, so `np.eye` above is refused; two diagonals do.
    assert hha.encode(np.eye(30) + np.eye(30, k=1), CAMERA).has_normal.any()


def save_depth(path, depth, unit=0.001):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(np.rint(depth / unit).astype(np.uint16)).save(path)


def test_the_command_encodes_folders_and_says_what_it_found(tmp_path, capsys):
    for number in range(3):
        save_depth(f"{tmp_path}/depth/img_{number}.png", room(5 * number)[0])
    assert hha.main([f"{tmp_path}/depth", "-o", f"{tmp_path}/hha", "--camera", "120,118,52.5,36.5"]) == 0
    out, said = capsys.readouterr()
    assert out.split() == [f"{tmp_path}/hha/img_{number}.png" for number in range(3)]
    assert said.count("gravity (") == 3
    expected = hha.encode(hha.read_depth(f"{tmp_path}/depth/img_2.png"), CAMERA).hha
    assert np.array_equal(np.asarray(Image.open(f"{tmp_path}/hha/img_2.png")), expected)
    hole = room(10)[0]
    hole[20:30, 20:40] = 0
    save_depth(f"{tmp_path}/raw/img_2.png", hole)
    assert hha.main([f"{tmp_path}/depth/img_2.png", "-o", f"{tmp_path}/hha", "--camera", "120,118,52.5,36.5",
                     "--raw", f"{tmp_path}/raw"]) == 0
    assert not np.array_equal(np.asarray(Image.open(f"{tmp_path}/hha/img_2.png")), expected)


@pytest.mark.parametrize("options, code, message", [
    ([], 2, "does not say through which camera.*give --camera FX,FY,CX,CY.*nyud"),
    (["--camera", "nyuv"], 2, "got 'nyuv'; did you mean 'nyud'"),
    (["--camera", "1,2,3"], 2, "takes FX,FY,CX,CY"),
    (["--camera", "0,500,320,240"], 2, "above 0"),
    (["--camera", "nyud", "--unit", "0"], 2, "--unit must be above 0, got 0.0"),
    (["--camera", "nyud", "--unit", "1"], 1, "half of its depths are above .* with --unit 1; say with --unit"),
    (["--camera", "nyud", "--raw", "nowhere"], 1, "raw depth image 'nowhere' not found"),
])
def test_wrong_options_are_said_in_one_line(tmp_path, capsys, options, code, message):
    save_depth(f"{tmp_path}/d/a.png", room()[0])
    assert run_door(hha.main, [f"{tmp_path}/d/a.png", "-o", f"{tmp_path}/o", *options]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and not os.path.exists(f"{tmp_path}/o")
    with pytest.raises((Error, UnknownName), match=message):
        raise Error(said)


def test_files_that_are_no_depth_images_or_would_be_overwritten_are_refused(tmp_path, capsys):
    save_depth(f"{tmp_path}/d/a.png", room()[0])
    save_depth(f"{tmp_path}/e/a.png", room()[0])
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(f"{tmp_path}/colour.png")
    whole = (tmp_path / "d" / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:len(whole) // 2])
    for paths, out, message in ((["d/a.png"], "d", "is itself a depth image"), (["d/a.png", "e/a.png"], "o", "would both be"),
                                (["colour.png"], "o", "is a colour picture (mode RGB), not a depth image"),
                                (["cut.png"], "o", "cut.png"), (["absent.png"], "o", "absent.png' not found")):
        assert run_door(hha.main, [*(f"{tmp_path}/{p}" for p in paths), "-o", f"{tmp_path}/{out}", "--camera", "nyud"]) == 1
        assert message in capsys.readouterr().err
    assert (tmp_path / "d" / "a.png").read_bytes() == whole and not os.path.exists(tmp_path / "o")


def test_help_shows_an_example():
    got = subprocess.run([sys.executable, "-m", "data.hha", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert got.returncode == 0 and "--camera nyud" in got.stdout
