"""The embedded data set: drawn, not downloaded, so that every command works on a fresh machine.

    python -m data.sample --out data/sample

draws pictures of five kinds of objects over textured grounds, in PASCAL VOC's layout: JPEGImages/ID.jpg,
SegmentationClass/ID.png (palette PNG, 255 along the outlines), classes.txt and the lists train, val, trainval and
seg11valid in ImageSets/Segmentation/. Pictures are 96 to 160 pixels high and wide, objects overlap, and every colour
belongs to several classes and to unlabelled patches of the ground, so that a net has to learn texture and shape.

The same options draw the same bytes (same versions of NumPy and Pillow), picture by picture: number k does not depend
on how many there are.
"""

import argparse
import ast
import colorsys
import contextlib
import json
import math
import os
import shutil
import sys
import tempfile

import numpy as np
from PIL import Image

from data import colors
from netspec import files
from netspec.errors import Error, run_door

CLASSES = ["background", "button", "crate", "tent", "tyre", "star"]
DEFAULT = os.path.join(files.ROOT, "data", "sample")
VERSION = 1  # of the drawing: another number redraws what `ensure` finds
BORDER = 1.5  # pixels on either side of an outline that are labelled 255
RECORD = "sample.json"

# Hues (0 to 1) of each class: every band is shared by at least two classes, so colour alone does not tell them apart.
WARM, BLUE, PINK, GREEN = (0.02, 0.12), (0.54, 0.66), (0.84, 0.95), (0.22, 0.36)
HUES = {"button": (WARM, BLUE), "crate": (WARM, GREEN), "tent": (BLUE, PINK), "tyre": (PINK, GREEN),
        "star": (WARM, PINK, BLUE)}


def main(argv=None):
    """Draw the data set."""
    parser = argparse.ArgumentParser(
        prog="python -m data.sample", description="Draw the embedded sample data set in PASCAL VOC's layout.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m data.sample --out data/sample --train 80 --val 30 --seed 1")
    parser.add_argument("--out", default=DEFAULT, metavar="FOLDER", help="where to (default: data/sample)")
    parser.add_argument("--train", type=int, default=80, metavar="N", help="training pictures (default: %(default)s)")
    parser.add_argument("--val", type=int, default=30, metavar="N", help="held-out pictures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the drawing (default: %(default)s)")
    options = parser.parse_args(argv)
    draw(options.out, options.train, options.val, options.seed)
    print(options.out)
    print(f"{options.train} training and {options.val} held-out pictures of {len(CLASSES)} classes: "
          f"{', '.join(CLASSES)}", file=sys.stderr)
    return 0


def ensure(path=None):
    """Return the folder of the sample data set, drawing it when it is missing or of an older version."""
    path = os.path.abspath(os.fspath(path or DEFAULT))
    record = _record(path)
    if record is None or record.get("version") != VERSION:
        draw(path)
    return path


def redirect(param_str, path=None):
    """Return a data layer's `param_str` with every ``..._dir`` key pointing to the sample data set: what --sample does.

    The split stays when the sample has it, and becomes ``train`` or ``val`` otherwise. Nothing is drawn; see `ensure`.
    """
    try:
        params = ast.literal_eval(param_str)
        folders = [key for key in params if key.endswith("_dir")]
    except (ValueError, SyntaxError, AttributeError, TypeError):
        raise Error(f"param_str of the data layer is not a dict of Python literals: {param_str[:200]!r}") from None
    for key in folders:
        params[key] = os.path.abspath(os.fspath(path or DEFAULT))
    if folders and params.get("split") not in ("train", "val", "trainval", "seg11valid"):
        params["split"] = "train" if "train" in str(params.get("split")) else "val"
    return str(params)


def draw(path, train=80, val=30, seed=1):
    """Draw the data set into the folder `path`, all or nothing: a folder is either complete or not there.

    A folder that was not drawn by this command is never overwritten.
    """
    if not 1 <= train <= 100000 or not 1 <= val <= 100000:
        raise Error(f"--train and --val must be 1 to 100000, got {train} and {val}")
    if seed < 0:
        raise Error(f"--seed must be 0 or more, got {seed}")
    path = os.path.abspath(os.fspath(path))
    if os.path.exists(path) and _record(path) is None and (not os.path.isdir(path) or os.listdir(path)):
        raise Error(f"'{path}' exists and was not drawn by data.sample; choose another folder with --out")
    parent = os.path.dirname(path)
    try:
        os.makedirs(parent, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=f".{os.path.basename(path)}.", suffix=".part", dir=parent)
    except OSError as error:
        raise Error(f"cannot write '{path}': {error.strerror}") from None
    try:
        _draw_into(temporary, train, val, seed)
        os.chmod(temporary, 0o755)
        _swap(temporary, path)
    except OSError as error:
        raise Error(f"cannot write '{path}': {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _draw_into(folder, train, val, seed):
    pictures, labels = os.path.join(folder, "JPEGImages"), os.path.join(folder, "SegmentationClass")
    lists = os.path.join(folder, "ImageSets", "Segmentation")
    for new in (pictures, labels, lists):
        os.makedirs(new)
    ids = {}
    for code, (split, count) in enumerate((("train", train), ("val", val))):
        ids[split] = [f"{split}_{number:04d}" for number in range(1, count + 1)]
        for number, name in enumerate(ids[split], 1):
            image, label = scene(np.random.default_rng([seed, code, number]), number)
            Image.fromarray(image).save(os.path.join(pictures, f"{name}.jpg"), quality=95, subsampling=0)
            colors.palette_image(label).save(os.path.join(labels, f"{name}.png"))
    ids["trainval"] = ids["train"] + ids["val"]
    ids["seg11valid"] = ids["val"]  # the name that the published prototxts score on
    for split, names in ids.items():
        _write(os.path.join(lists, f"{split}.txt"), "".join(f"{name}\n" for name in names))
    _write(os.path.join(folder, "classes.txt"), "".join(f"{name}\n" for name in CLASSES))
    _write(os.path.join(folder, RECORD), json.dumps(
        {"drawn by": "data.sample", "version": VERSION, "train": train, "val": val, "seed": seed}) + "\n")


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _swap(new, path):
    # Put the folder `new` at `path`; what was there goes away only after the new one is in place.
    if not os.path.lexists(path):
        with contextlib.suppress(FileExistsError):
            os.rename(new, path)
            return
    old = tempfile.mkdtemp(prefix=f".{os.path.basename(path)}.", suffix=".old", dir=os.path.dirname(path))
    os.rename(path, os.path.join(old, "sample"))
    try:
        os.rename(new, path)
    except OSError:
        os.rename(os.path.join(old, "sample"), path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _record(path):
    # What an earlier run wrote down, or None when the folder is not one of ours.
    try:
        with open(os.path.join(path, RECORD), encoding="utf-8") as file:
            record = json.load(file)
        return record if isinstance(record, dict) and record.get("drawn by") == "data.sample" else None
    except (OSError, ValueError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# drawing


def scene(rng, number):
    """Draw one picture.

    Returns ((H, W, 3) uint8 RGB, (H, W) uint8 label). `number` only makes the classes take turns as the main object, so
    that a small set holds all of them evenly.
    """
    height, width = (int(v) for v in rng.integers(96, 161, 2))
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float64) + 0.5
    image = _ground(rng, ys, xs)
    label = np.zeros((height, width), np.uint8)
    first = 1 + (number - 1) % (len(CLASSES) - 1)
    kinds = [first, *rng.integers(1, len(CLASSES), int(rng.integers(1, 4)))]
    size = min(height, width)
    for kind in rng.permutation(kinds):
        radius = size * rng.uniform(0.20, 0.33)
        y, x = rng.uniform(0.12, 0.88) * height, rng.uniform(0.12, 0.88) * width
        turn = rng.uniform(0, 2 * math.pi)
        u = ((xs - x) * math.cos(turn) + (ys - y) * math.sin(turn)) / radius
        v = ((ys - y) * math.cos(turn) - (xs - x) * math.sin(turn)) / radius
        distance, colour = OBJECTS[CLASSES[kind]](rng, u, v, radius)
        distance = distance * radius  # pixels to the outline, negative inside
        shadow = np.clip(0.5 - _shift(distance, 3, 2) / 6, 0, 1) * 0.35
        image *= (1 - shadow)[:, :, None]
        cover = np.clip(0.5 - distance, 0, 1)[:, :, None]
        light = 1 - 0.22 * np.clip((u * math.sin(turn) + v * math.cos(turn)), -1, 1)  # from above, whatever the turn
        image = image * (1 - cover) + np.clip(colour * light[:, :, None], 0, 1) * cover
        label[distance < 0] = kind
        label[np.abs(distance) <= BORDER] = colors.IGNORE
    exposure = rng.uniform(0.85, 1.12)
    image = image * exposure + rng.normal(0, 0.018, image.shape)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), label


def _ground(rng, ys, xs):
    # Cloudy texture between two shades of any hue, fine grain, and soft patches in the objects' colours.
    hue, other = rng.uniform(0, 1, 2)
    low = _colour(hue, rng.uniform(0.12, 0.45), rng.uniform(0.25, 0.5))
    high = _colour(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.08, 0.35), rng.uniform(0.55, 0.9))
    cloud = _noise(rng, ys.shape, int(rng.integers(16, 40))) * 0.75 + _noise(rng, ys.shape, 5) * 0.25
    image = low + (high - low) * cloud[:, :, None]
    for _ in range(int(rng.integers(2, 5))):
        band = (WARM, BLUE, PINK, GREEN)[int(rng.integers(4))]
        patch = _colour(rng.uniform(*band), rng.uniform(0.45, 0.85), rng.uniform(0.5, 0.9))
        y, x = rng.uniform(0, ys.shape[0]), rng.uniform(0, ys.shape[1])
        reach = rng.uniform(8, 22) * (1 + 0.6 * (_noise(rng, ys.shape, 12) - 0.5))
        weight = 0.8 * np.clip(1.4 - np.hypot(ys - y, (xs - x) * rng.uniform(0.6, 1.4)) / reach, 0, 1)[:, :, None]
        image = image * (1 - weight) + patch * weight
    grain = _noise(rng, ys.shape, 2)[:, :, None] - 0.5
    return np.clip(image + 0.10 * grain, 0, 1)


def _button(rng, u, v, radius):
    # A disc with a lattice of dots.
    base, mark = _shades(rng, "button")
    period = max(6.0, radius * 0.34) / radius
    dots = np.hypot((u + period / 2) % period - period / 2, (v + period / 2) % period - period / 2) < 0.30 * period
    return np.hypot(u, v) - 1, _two(base, mark, dots)


def _crate(rng, u, v, radius):
    # A box of planks: dark joints along one side, grain along the planks.
    base, mark = _shades(rng, "crate")
    w, h = 1.0, rng.uniform(0.62, 0.95)
    period = max(6.0, radius * 0.36) / radius
    joints = (v + 0.5 * period) % period < 0.26 * period
    frame = np.maximum(np.abs(u) - w, np.abs(v) - h) > -0.13
    grain = 0.07 * np.sin(v * 23 + 2.5 * np.sin(u * 2.1))
    dx, dy = np.abs(u) - w, np.abs(v) - h
    distance = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0)
    return distance, _two(base, mark, joints ^ frame) * (1 + grain)[:, :, None]


def _tent(rng, u, v, radius):
    # A triangle of broad slanting stripes in two strong shades.
    base, mark = _shades(rng, "tent", light=True)
    top = rng.uniform(-0.35, 0.35)
    period = max(8.0, radius * 0.42) / radius
    stripes = (u + v) % period < 0.5 * period
    return _polygon(u, v, [(top, -1.15), (1.1, 0.8), (-1.1, 0.8)]), _two(base, mark, stripes)


def _tyre(rng, u, v, radius):
    # A ring with spokes across the tread.
    base, mark = _shades(rng, "tyre")
    r = np.hypot(u, v)
    half = rng.uniform(0.27, 0.34)
    count = max(10, round(radius * 0.62))
    spokes = np.sin(np.arctan2(v, u) * count) > 0.25
    return np.abs(r - (1.05 - half)) - half, _two(base, mark, spokes)


def _star(rng, u, v, radius):
    # A five-pointed star, smooth, bright in the middle.
    base, _ = _shades(rng, "star")
    corners = []
    for k in range(10):
        reach, angle = (1.3, 0.72)[k % 2], math.pi * k / 5
        corners.append((reach * math.sin(angle), -reach * math.cos(angle)))
    glow = np.clip(1 - np.hypot(u, v), 0, 1)[:, :, None]
    return _polygon(u, v, corners), np.clip(base * (0.75 + 0.5 * glow) + 0.25 * glow, 0, 1)


OBJECTS = {"button": _button, "crate": _crate, "tent": _tent, "tyre": _tyre, "star": _star}


def _shades(rng, kind, light=False):
    # The colour of a body and of the marks on it: darker, or nearly white.
    bands = HUES[kind]
    hue = rng.uniform(*bands[int(rng.integers(len(bands)))])
    saturation, value = rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.95)
    base = _colour(hue, saturation, value)
    if light:
        return base, _colour(hue, 0.08, min(1.0, value + 0.2))
    return base, _colour(hue + 0.02, min(1.0, saturation + 0.1), value * rng.uniform(0.30, 0.45))


def _two(base, mark, where):
    # (H, W, 3): `mark` where true, `base` elsewhere.
    return np.where(where[:, :, None], mark, base)


def _colour(hue, saturation, value):
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def _noise(rng, shape, cell):
    # Smooth noise in [0, 1]: random values on a lattice of `cell` pixels, joined by smooth steps.
    rows, columns = shape[0] // cell + 2, shape[1] // cell + 2
    lattice = rng.random((rows, columns))
    y, x = (np.arange(n) / cell for n in shape)
    i, j = y.astype(int), x.astype(int)
    a, b = (y - i)[:, None], (x - j)[None, :]
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    upper = lattice[i][:, j] * (1 - b) + lattice[i][:, j + 1] * b
    lower = lattice[i + 1][:, j] * (1 - b) + lattice[i + 1][:, j + 1] * b
    return upper * (1 - a) + lower * a


def _polygon(u, v, corners):
    # Signed distance to a polygon, negative inside: the nearest edge, and the parity of edges crossed by a ray.
    nearest_edge = np.full(u.shape, np.inf)
    inside = np.zeros(u.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        nearest_edge = np.minimum(nearest_edge, np.hypot(u - x0 - along * dx, v - y0 - along * dy))
        if dy:
            inside ^= ((y0 > v) != (y1 > v)) & (u < dx * (v - y0) / dy + x0)
    return np.where(inside, -nearest_edge, nearest_edge)


def _shift(array, down, right):
    # The array moved, its first rows and columns repeated.
    rows = np.clip(np.arange(array.shape[0]) - down, 0, None)
    columns = np.clip(np.arange(array.shape[1]) - right, 0, None)
    return array[rows[:, None], columns]


if __name__ == "__main__":
    sys.exit(run_door(main))
