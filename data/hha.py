"""HHA: a depth image as three channels that a net of pictures can read, after Gupta, Girshick, Arbelaez and Malik (2014).

    python -m data.hha data/nyud/data/depth/*.png -o data/nyud/data/hha --camera nyud

With depth z in centimetres, the viewing ray (x, y, 1) of a pixel and p = z (x, y, 1):

    channel 0   horizontal disparity    31000 / max(z, 100)
    channel 1   height above ground     h - min h with h = -p . g; where the lowest point is less than 90 below the
                                        camera, the ground is taken to lie 130 below it
    channel 2   angle with gravity      the angle in degrees between the surface normal and g, plus 38

rounded and cut to 0 ... 255. g is the direction of gravity (in the image's axes: x right, y down, z away). Channels are
stored in this order as red, green and blue of a PNG, as the nets of NYUDv2 read them.

Normals: the plane n . p = 1 that fits best, in inverse depth, the pixels of a square window: the least squares solution of
n . (x, y, 1) = 1 / z, pointing away from the camera. Windows are 7 pixels wide for the angle and 21 for gravity. They are
cut at the image's edges and leave out pixels that were not measured.

Gravity: starting from (0, 1, 0), normals within t of g or -g are floors, those within t of right angles to it walls; the
next g is the unit vector that minimises the squared cosines with walls minus those with floors (the smallest eigenvector,
in the direction nearer to the last g).
Five rounds with t = 45 degrees, five with 15.

Where no depth is known all channels are 0; where it is known but no plane can be fitted the angle is 0. Everything is
computed in float64. Constants and windows are those of the authors' MATLAB program; so is the count of pixels from 1.
"""

import argparse
import math
import os
import sys
from typing import NamedTuple

import numpy as np
import tqdm
from PIL import Image
from scipy import ndimage

from data import pictures
from netspec import files
from netspec.errors import Error, UnknownName, nearest, run_door

NEAREST = 100.0  # centimetres; what is nearer has the disparity of that
DISPARITY = 31000.0  # over centimetres
SLACK = 38.0  # degrees added to the angle: 128 is a right angle
LOWEST, GROUND = -90.0, -130.0  # centimetres: the ground when nothing is seen that low, and where it is assumed then
ANGLE_RADIUS, GRAVITY_RADIUS = 3, 10  # pixels
ROUNDS = ((45.0, 5), (15.0, 5))  # degrees, iterations


class Camera(NamedTuple):
    """A pinhole camera, in pixels: focal lengths and the principal point, the first pixel being (1, 1)."""

    fx: float
    fy: float
    cx: float
    cy: float


# NYUDv2's Kinect, from the toolbox of the data set: depth is projected into the colour image, so its intrinsics count.
CAMERAS = {"nyud": Camera(518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)}


class Encoding(NamedTuple):
    """(H, W, 3) uint8, the unit vector of gravity (3,), and (H, W) bool, where a normal was found."""

    hha: np.ndarray
    gravity: np.ndarray
    has_normal: np.ndarray


def encode(depth, camera, missing=None):
    """Encode a depth image.

    Parameters
    ----------
    depth : (H, W) metres, 0 where unknown.
    camera : Camera.
    missing : (H, W) bool, pixels whose depth was filled in and says nothing of the surface's normal; None: those of 0.

    Returns
    -------
    Encoding
    """
    depth = np.asarray(depth, np.float64)
    if depth.ndim != 2 or min(depth.shape) < 3:
        raise Error(f"a depth image is (H, W), at least 3x3; got {depth.shape}")
    if not np.isfinite(depth).all() or depth.min() < 0:
        raise Error(f"depth must be finite and 0 or more, got {depth.min():g} to {depth.max():g}")
    if not all(math.isfinite(one) for one in camera) or camera.fx <= 0 or camera.fy <= 0:
        raise Error(f"a camera's focal lengths are above 0 and all four numbers finite; got {tuple(camera)}")
    unknown = depth == 0
    if unknown.all():
        raise Error("the depth image holds no depth: every pixel is 0")
    missing = unknown if missing is None else np.asarray(missing, bool) | unknown
    if missing.shape != depth.shape:
        raise Error(f"depth {depth.shape} and missing {missing.shape} differ in size")
    x, y = rays(depth.shape, camera)
    normal = normals(depth, x, y, missing, ANGLE_RADIUS)
    down = gravity(normals(depth, x, y, missing, GRAVITY_RADIUS))
    centimetres = depth * 100
    height = -(down[0] * x + down[1] * y + down[2]) * centimetres
    lowest = height[~unknown].min()
    with np.errstate(invalid="ignore"):
        angle = np.degrees(np.arccos(np.clip(normal @ down, -1, 1)))
    has_normal = ~np.isnan(angle)
    channels = np.stack([DISPARITY / np.maximum(centimetres, NEAREST), height - (GROUND if lowest > LOWEST else lowest),
                         np.where(has_normal, angle + SLACK, 0)], axis=2)
    channels[unknown] = 0
    return Encoding(np.clip(np.floor(channels + 0.5), 0, 255).astype(np.uint8), down, has_normal)


def rays(shape, camera):
    """Return x, y, both (H, W): the point at depth z that a pixel sees is z (x, y, 1)."""
    x = (np.arange(1, shape[1] + 1) - camera.cx) / camera.fx
    y = (np.arange(1, shape[0] + 1) - camera.cy) / camera.fy
    return np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape)


def normals(depth, x, y, missing, radius):
    """Return (H, W, 3) unit normals that point away from the camera, nan where the window holds no plane."""
    held = (~missing).astype(np.float64)
    inverse = np.divide(held, depth, out=np.zeros_like(held), where=depth > 0)
    xx, xy, yy, sx, sy, n, bx, by, b1 = (
        _window_sums(values, radius) for values in (x * x * held, x * y * held, y * y * held, x * held, y * held, held,
                                                    x * inverse, y * inverse, inverse))
    # The adjugate of [[xx, xy, sx], [xy, yy, sy], [sx, sy, n]] times b: the solution up to a positive factor.
    a, b, c = yy * n - sy * sy, sy * sx - xy * n, xy * sy - yy * sx
    d, e, f = xx * n - sx * sx, sx * xy - xx * sy, xx * yy - xy * xy
    normal = np.stack([a * bx + b * by + c * b1, b * bx + d * by + e * b1, c * bx + e * by + f * b1], axis=2)
    length = np.linalg.norm(normal, axis=2)
    # Three pixels in a row span no plane: what is left of the determinant is rounding.
    flat = (n < 3) | (a * xx + b * xy + c * sx <= 1e-13 * xx * yy * n) | (length == 0)
    away = np.where(normal[:, :, 0] * x + normal[:, :, 1] * y + normal[:, :, 2] < 0, -1.0, 1.0)
    factor = np.divide(away, length, out=np.full_like(length, np.nan), where=~flat)
    return normal * factor[:, :, None]


def gravity(normal):
    """Return the unit vector of gravity from (..., 3) normals (nan: none)."""
    flat = np.ascontiguousarray(normal.reshape(-1, 3).T)
    flat = flat[:, ~np.isnan(flat[0])]
    if not flat.size:
        raise Error("the depth image shows no surface from which gravity could be estimated: no window of "
                    f"{2 * GRAVITY_RADIUS + 1} pixels holds a plane")
    down = np.array([0.0, 1.0, 0.0])
    for degrees, count in ROUNDS:
        for _ in range(count):
            along = np.abs(down @ flat)
            sign = (along < math.sin(math.radians(degrees))) * 1.0 - (along > math.cos(math.radians(degrees)))
            values, vectors = np.linalg.eigh((flat * sign) @ flat.T)  # walls minus floors; eigenvalues ascend
            # A single wall fits every direction along it equally: the one nearest to what was thought before.
            best = vectors[:, values <= values[0] + 1e-9 * np.abs(values).max()]
            found = best @ (best.T @ down)
            down = found / np.linalg.norm(found) if found.any() else down
    return down


def _window_sums(values, radius):
    # Each sum for itself, not a running one: the determinants are small differences of large sums.
    ones = np.ones(2 * radius + 1)
    for axis in (0, 1):
        values = ndimage.correlate1d(values, ones, axis, mode="constant")
    return values


# --- the command -----------------------------------------------------------------------------------------------------


def main(argv=None):
    """Encode depth images."""
    options = _parser().parse_args(argv)
    camera = read_camera(options.camera)
    if not math.isfinite(options.unit) or options.unit <= 0:
        raise UnknownName(f"--unit must be above 0, got {options.unit}")
    depths = pictures.find_all(options.depth)
    targets = _targets(depths, options.out)
    raw = _raw_files(depths, options.raw) if options.raw else [None] * len(depths)
    for path, other, target in tqdm.tqdm(list(zip(depths, raw, targets)), "HHA", unit="image",
                                         disable=not sys.stderr.isatty()):
        depth = read_depth(path, options.unit)
        missing = None if other is None else read_depth(other, options.unit, filled=False) == 0
        try:
            found = encode(depth, camera, missing)
        except Error as error:
            raise Error(f"'{path}': {error}") from None
        with files.atomic(target) as file:
            Image.fromarray(found.hha).save(file, "PNG")
        tqdm.tqdm.write(target)
        share = 1 - found.has_normal.mean()
        right, down, away = found.gravity
        tqdm.tqdm.write(f"{path}: {depth[depth > 0].min():.2f} to {depth.max():.2f} m, gravity ({right:.3f}, {down:.3f}, "
                        f"{away:.3f}), {share:.1%} of the pixels without a normal", file=sys.stderr)
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m data.hha", description="Encode depth images as HHA: horizontal disparity, height above ground, angle "
        "with gravity.", formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m data.hha data/nyud/data/depth -o data/nyud/data/hha --camera nyud\n"
               "  python -m data.hha room.png -o hha --camera 525,525,320,240 --unit 0.001 --raw raw/")
    parser.add_argument("depth", metavar="DEPTH", nargs="+", help="16-bit depth images (PNG), or folders of them")
    parser.add_argument("-o", "--out", metavar="FOLDER", required=True, help="where to; files keep their names")
    parser.add_argument("--camera", metavar="FX,FY,CX,CY",
                        help=f"the depth image's intrinsics in pixels, or the name of a camera: {', '.join(CAMERAS)}")
    parser.add_argument("--unit", metavar="M", type=float, default=0.001,
                        help="metres of one step of the image's values (default: %(default)s)")
    parser.add_argument("--raw", metavar="RAW", help="the depth before it was filled (a file, or a folder with the same names): "
                                                     "pixels of 0 there have no part in normals")
    return parser


def read_camera(setting):
    """Return the `Camera` of ``FX,FY,CX,CY`` or of a known name; None is an error that says why one is needed."""
    if setting is None:
        raise UnknownName("a depth image does not say through which camera it was seen, and heights and angles need that: "
                          f"give --camera FX,FY,CX,CY (in pixels) or a known one: {', '.join(CAMERAS)}")
    if setting in CAMERAS:
        return CAMERAS[setting]
    try:
        camera = Camera(*map(float, setting.split(",")))
    except (ValueError, TypeError):
        raise UnknownName(f"--camera takes FX,FY,CX,CY in pixels, such as 525,525,320,240, or one of "
                          f"{', '.join(CAMERAS)}; got '{setting}'{nearest(setting, CAMERAS)}") from None
    if not all(map(math.isfinite, camera)) or min(camera[:2]) <= 0:
        raise UnknownName(f"--camera: focal lengths are above 0 and all four numbers finite; got '{setting}'")
    return camera


def read_depth(path, unit=0.001, filled=True):
    """Read a depth image of one channel; (H, W) float64 metres. A depth that no room has is an error about `unit`."""
    with pictures.opened(path, "depth image") as picture:
        if picture.mode not in ("I", "I;16", "I;16B", "I;16L", "L", "F"):
            raise Error(f"'{path}' is a colour picture (mode {picture.mode}), not a depth image: those have one channel, "
                        "usually of 16 bits")
        depth = np.asarray(picture).astype(np.float64) * unit
    middle = np.median(depth[depth > 0]) if (depth > 0).any() else None
    if filled and middle is not None and not 0.1 <= middle <= 100:
        raise Error(f"'{path}': half of its depths are above {middle:g} m with --unit {unit:g}; say with --unit how many "
                    "metres one step is")
    return depth


def _targets(depths, folder):
    # Where each image goes; none over another or over what it is made from.
    sources, targets = set(map(os.path.realpath, depths)), {}
    for path in depths:
        target = os.path.join(folder, f"{os.path.splitext(os.path.basename(path))[0]}.png")
        if os.path.realpath(target) in sources:
            raise Error(f"'{target}' is itself a depth image that is to be read; choose another folder with -o")
        if target in targets:
            raise Error(f"'{path}' and '{targets[target]}' would both be written to '{target}'")
        targets[target] = path
    return list(targets)


def _raw_files(depths, raw):
    if not os.path.isdir(raw):
        if len(depths) > 1:
            raise Error(f"--raw '{raw}' is one file for {len(depths)} depth images; give a folder with the same names")
        return [files.find(raw, what="raw depth image")]
    return [files.find(os.path.join(raw, os.path.basename(path)), what="raw depth image") for path in depths]


if __name__ == "__main__":
    sys.exit(run_door(main))
