"""Picture files for the doors: which there are, reading one of any kind, and how large one may be."""

import contextlib
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data import transform
from netspec import files
from netspec.errors import Error, PathError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")
MAX_PIXELS = 1 << 26  # refused by the size in its header, before a picture is decoded


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


def read(path):
    """Return a picture file as (H, W, 3) uint8 RGB.

    Turned as its EXIF orientation says; grey, palette and CMYK are converted, transparency is dropped (as OpenCV, which
    fed the published nets, does) and 16 bits a channel become 8. Anything wrong with the file is an `Error` naming it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about sizes and broken EXIF
            with Image.open(path) as picture:
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise Error(f"'{path}' has {width}x{height} pixels, more than the {MAX_PIXELS} that are accepted; "
                                "make it smaller")
                picture.load()
                with contextlib.suppress(Exception):  # broken EXIF: the picture as it is
                    picture = ImageOps.exif_transpose(picture)
                if picture.mode.startswith("I"):
                    values = np.asarray(picture).astype(np.int64)
                    picture = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
                return np.ascontiguousarray(transform.rgb(picture), np.uint8)
    except Error:
        raise
    except FileNotFoundError:
        raise PathError(f"'{path}' not found") from None
    except UnidentifiedImageError:
        raise Error(f"'{path}' is not a picture (JPEG, PNG, ...)") from None
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise Error(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}") from None


def free_memory():
    """Return the bytes that this process may still take, or None where the system does not say (not Linux)."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration), open("/proc/meminfo") as file:
        found.append(next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:")))
    folder = "/sys/fs/cgroup"
    with contextlib.suppress(OSError, ValueError), open(f"{folder}/memory.max") as most, \
            open(f"{folder}/memory.current") as now:
        found.append(int(most.read()) - int(now.read()))
    return max(min(found), 0) if found else None
