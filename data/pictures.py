"""Picture files: opened by their content, refused by the size in their header, named in every error."""

import contextlib
import io
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data import transform
from netspec import files
from netspec.errors import Error, PathError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")
MAX_PIXELS = 1 << 26  # a picture of more is refused before it is decoded: its blob alone would take 768 MB


@contextlib.contextmanager
def opened(path, what="picture", data=None, grey=False):
    """Yield the decoded PIL picture in a file; whatever is wrong with the file becomes one `Error` that names it.

    With `data`, those bytes are decoded and `path` only names them. `grey` lets a JPEG be decoded to its grey channel.
    """
    named = f"{what} '{path}'" if data is None else f"{what}, {path},"
    try:
        with Image.open(path if data is None else io.BytesIO(data)) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise Error(f"{named} has {width}x{height} pixels, more than the {MAX_PIXELS} that are accepted; make it "
                            "smaller")
            if grey:
                picture.draft("L", picture.size)
            picture.load()
            yield picture
    except Error:
        raise
    except FileNotFoundError:
        raise PathError(f"{named} not found; tried: {os.path.abspath(path)}") from None
    except UnidentifiedImageError:
        raise Error(f"{named} is not a picture (JPEG, PNG, ...)") from None
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise Error(f"cannot read {named.removesuffix(',')}: {getattr(error, 'strerror', None) or error}") from None


def read_image(path):
    """Read a picture of any kind as (H, W, 3) uint8 RGB. The EXIF rotation is not applied: labels do not know it."""
    with opened(path, "image") as picture:
        return transform.rgb(picture)


def read_photo(path):
    """Read a picture from anywhere as (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Grey, palette and CMYK are converted, transparency is dropped (as OpenCV, which fed the published nets, does) and 16
    bits a channel become 8.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about sizes and broken EXIF
        with opened(path, "image") as picture:
            with contextlib.suppress(Exception):  # broken EXIF: the picture as it is
                picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):
                values = np.asarray(picture).astype(np.int64)
                picture = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
            return np.ascontiguousarray(transform.rgb(picture), np.uint8)


def find_all(places):
    """Return the paths of the pictures: files as given, and of folders all files that are named as pictures."""
    found = []
    for place in places:
        place = files.find(place, what="image") if not os.path.exists(place) else os.fspath(place)
        if not os.path.isdir(place):
            found.append(place)
            continue
        inside = sorted(name for name in os.listdir(place) if name.lower().endswith(SUFFIXES))
        if not inside:
            raise PathError(f"folder '{place}' holds no picture ({', '.join(SUFFIXES)})")
        found += [os.path.join(place, name) for name in inside]
    return list(dict.fromkeys(found))
