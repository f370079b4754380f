"""WindowData: batches of windows cut out of pictures and warped to one size, as R-CNN is trained.

    layer { name: "data" type: "WindowData" top: "data" top: "label"
            transform_param { mirror: true crop_size: 227 mean_file: "mean.binaryproto" }
            window_data_param { source: "windows.txt" batch_size: 128 fg_threshold: 0.5 bg_threshold: 0.5
                                fg_fraction: 0.25 context_pad: 16 crop_mode: "warp" } }

`source` tells of each picture, in lines of their own:

    # number of the picture
    path (behind root_folder)
    channels
    height
    width
    number of windows
    class overlap x1 y1 x2 y2       (a line a window; pixels, both corners inside)

Windows that overlap an object by fg_threshold or more are foreground and keep their class (above 0), those below bg_threshold
are background, class 0, those between are left out. Of each batch fg_fraction (rounded down) are foreground, behind the
background ones; each is drawn by itself, with replacement.

A window is cut out and resized to crop_size x crop_size (`crop_mode: "warp"`), or first made a square ("square"). With
context_pad it is enlarged so that so many pixels around it are context; what lies outside of the picture is zero. Then half of
them are mirrored if `mirror` is set, ``top = (window - mean) * scale``, the mean file being cropped in the middle. Tops: windows
(batch_size, 3, crop_size, crop_size) and labels (batch_size). cache_images keeps the files in memory.

What does not fit is an `Error` that names file and line; no picture is left out. Source: Caffe's WindowDataLayer.
"""

import math

import numpy as np

from data.decode import decode
from data.resize import resize
from data.transformer import Transformer
from layers.core.batches import Batches, Source
from netspec import files
from netspec.errors import Error, nearest

MODES = ("warp", "square")


class WindowData(Batches):
    """Read windows of pictures."""

    def check(self):
        """Refuse what is missing."""
        param = self.param.window_data_param
        if not param.source:
            self.fail("window_data_param has no 'source': a file of windows")
        if param.batch_size < 1:
            self.fail("window_data_param has no 'batch_size', or 0; give the number of windows in a batch")
        if not self.param.transform_param.crop_size:
            self.fail("transform_param has no 'crop_size': the height and width that windows get")
        if 2 * param.context_pad >= self.param.transform_param.crop_size:
            self.fail(f"context_pad {param.context_pad} on both sides leaves nothing of crop_size "
                      f"{self.param.transform_param.crop_size}; make it smaller")
        if param.crop_mode not in MODES:
            self.fail(f"crop_mode is '{param.crop_mode}'{nearest(param.crop_mode, MODES)}; it must be warp or square")
        if not 0 <= param.fg_fraction <= 1:
            self.fail(f"fg_fraction is {param.fg_fraction:g}; it must be from 0 to 1")

    def open(self):
        """Return the windows as a source."""
        path = files.find(self.param.window_data_param.source, self.prototxt, "window file")
        transformer = Transformer(self.param.transform_param, self.is_training, self.prototxt, self.dtype)
        return WindowSource(path, transformer, self.param.window_data_param)


class WindowSource(Source):
    """Windows drawn at random."""

    def __init__(self, path, transformer, param):
        self.path, self.transformer, self.param, self.batch = path, transformer, param, param.batch_size
        self.foreground, self.background = read_windows(path, param.fg_threshold, param.bg_threshold)
        self.count = int(np.float32(param.batch_size) * np.float32(param.fg_fraction))
        for count, windows, what in ((self.count, self.foreground, f"overlap of fg_threshold {param.fg_threshold:g} or more"),
                                     (self.batch - self.count, self.background, f"overlap below {param.bg_threshold:g}")):
            if count and not windows:
                raise Error(f"'{path}' has no window with an {what}, but {count} of each batch of {self.batch} should be such")
        mean, size = transformer.mean, transformer.crop
        middle = 0 if mean is None else (mean.shape[2] - size) // 2
        if mean is not None and (mean.shape[0] != 3 or middle < 0 or middle + size > mean.shape[1]):
            raise Error(f"mean file '{transformer.mean_path}' is {'x'.join(map(str, mean.shape))} (channels x height x width); "
                        f"windows of 3x{size}x{size} need one of 3 channels, square and at least that large")
        if len(transformer.values) not in (0, 1, 3):
            raise Error(f"mean_value is given {len(transformer.values)} times, but windows have 3 channels; give it once or 3 "
                        "times")
        self._cache = {} if param.cache_images else None

    def begin(self, rng):
        """Return the state before the first window: all that there is is drawn."""
        return {}

    def first_shape(self):
        """Return the shape of every window."""
        return 3, self.transformer.crop, self.transformer.crop

    def items(self, state, rng):
        """Yield windows, in each batch those of the background first."""
        while True:
            for place in range(self.batch):
                windows = self.foreground if place >= self.batch - self.count else self.background
                window = windows[rng(len(windows))]
                mirror = bool(self.transformer.mirror and rng(2))

                def fill(out, window=window, mirror=mirror):
                    self._fill(out, window, mirror)

                yield f"window {self.path}:{window.line}", self.first_shape(), window.label, fill, {}

    def _fill(self, out, window, mirror):
        """Write a window into `out`."""
        what = f"image of window {self.path}:{window.line}"
        picture = self._picture(window.image, what)
        square = self.param.crop_mode == "square"
        (left, top, right, bottom), (rows, columns), (above, before) = fit(
            window.box, picture.shape[:2], self.transformer.crop, self.param.context_pad, square, mirror)
        if not (0 <= left <= right < picture.shape[1] and 0 <= top <= bottom < picture.shape[0]) or min(rows, columns) < 1:
            raise Error(f"window {self.path}:{window.line}: {' '.join(map(str, window.box))} leaves nothing to cut out of the "
                        f"{picture.shape[0]}x{picture.shape[1]} (height x width) picture '{window.image}'")
        cut = resize(picture[top:bottom + 1, left:right + 1], rows, columns).transpose(2, 0, 1)
        place = slice(None), slice(above, above + rows), slice(before, before + columns)
        out[...] = 0
        values = (cut[:, :, ::-1] if mirror else cut).astype(out.dtype)
        mean = self.transformer.mean
        if mean is not None:
            middle = (mean.shape[2] - self.transformer.crop) // 2  # of both sides, as in Caffe
            values -= mean[:, middle + above:middle + above + rows, middle + before:middle + before + columns]
        elif len(self.transformer.values):
            values -= self.transformer.values[:, None, None]
        out[place] = values * self.transformer.scale

    def _picture(self, name, what):
        path = files.find(self.param.root_folder + name, self.path, what)
        if self._cache is None:
            return decode(path, True, what=what)
        if path not in self._cache:
            self._cache[path] = files.read_bytes(path)
        return decode(path, True, self._cache[path], what)


class Window:
    """One window of a picture: `image` (path), `label`, `box` (x1, y1, x2, y2), `line` of the file."""

    __slots__ = ("box", "image", "label", "line")

    def __init__(self, image, label, box, line):
        self.image, self.label, self.box, self.line = image, label, box, line


def read_windows(path, foreground, background):
    """Return (windows with an overlap of `foreground` or more, those with less than `background`, as class 0)."""
    lines = [(number, line.strip()) for number, line in enumerate(files.read_text(path).splitlines(), 1) if line.strip()]
    lines.reverse()
    found = [], []

    def take(what):
        if not lines:
            raise Error(f"'{path}' ends where {what} should stand; it is truncated")
        return lines.pop()

    def numbers(what, count, kind):
        number, line = take(what)
        try:
            values = [kind(word) for word in line.split()]
        except ValueError:
            values = []
        if len(values) != count:
            raise Error(f"{path}:{number}: {what} should stand here; got '{line[:200]}'")
        return number, values

    foreground, background = np.float32(foreground), np.float32(background)
    while lines:
        number, line = lines.pop()
        if not line.startswith("#"):
            raise Error(f"{path}:{number}: '# number of a picture' should stand here; got '{line[:200]}'")
        image = take("the path of a picture")[1]
        number, (channels,) = numbers("the number of channels", 1, int)
        if channels != 3:
            raise Error(f"{path}:{number}: '{image}' has {channels} channels; windows are cut out of colour pictures, with 3")
        for what in ("the height", "the width"):
            numbers(what, 1, int)
        number, (count,) = numbers("the number of windows", 1, int)
        for _ in range(count):
            number, values = numbers("a window (class overlap x1 y1 x2 y2)", 6, float)
            if not all(map(math.isfinite, values)) or any(value != int(value) for value in (values[0], *values[2:])):
                raise Error(f"{path}:{number}: class and corners of a window must be whole numbers; got {values}")
            label, overlap, box = int(values[0]), np.float32(values[1]), tuple(int(value) for value in values[2:])
            if overlap >= foreground:
                if label < 1:
                    raise Error(f"{path}:{number}: a foreground window (overlap {overlap:g}) of class {label}; it must be above "
                                "0")
                found[0].append(Window(image, label, box, number))
            elif overlap < background:
                found[1].append(Window(image, 0, box, number))
    if not found[0] and not found[1]:
        raise Error(f"'{path}' has no windows")
    return found


def fit(box, size, crop, context, square, mirror):
    """Return where a window is cut out, the size it gets and its place in the crop.

    Parameters
    ----------
    box : x1, y1, x2, y2, inclusive.
    size : (height, width) of the picture.
    crop, context : crop_size and context_pad.

    Returns
    -------
    (x1, y1, x2, y2) inside of the picture; (height, width); (rows above, columns before).
    """
    left, top, right, bottom = box
    if not context and not square:
        return box, (crop, crop), (0, 0)
    single, half = np.float32, np.float32(2)
    scale = single(crop) / single(crop - 2 * context)
    half_height, half_width = single(bottom - top + 1) / half, single(right - left + 1) / half
    middle_x, middle_y = single(left) + half_width, single(top) + half_height
    if square:
        half_height = half_width = max(half_height, half_width)
    left, right = _rounded(middle_x - half_width * scale), _rounded(middle_x + half_width * scale)
    top, bottom = _rounded(middle_y - half_height * scale), _rounded(middle_y + half_height * scale)
    wide, tall = right - left + 1, bottom - top + 1
    before, above = max(0, -left), max(0, -top)
    behind, below = max(0, right - size[1] + 1), max(0, bottom - size[0] + 1)
    left, right, top, bottom = left + before, right - behind, top + above, bottom - below
    scale_x, scale_y = single(crop) / single(wide), single(crop) / single(tall)
    rows, columns = _rounded(single(bottom - top + 1) * scale_y), _rounded(single(right - left + 1) * scale_x)
    above, before = _rounded(single(above) * scale_y), _rounded(single(behind if mirror else before) * scale_x)
    # Rounding may have made the two a pixel too large together.
    return (left, top, right, bottom), (min(rows, crop - above), min(columns, crop - before)), (above, before)


def _rounded(value):
    # As C does: halves away from zero.
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))
