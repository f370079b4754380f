"""Pictures as OpenCV hands them to Caffe: (H, W, C) uint8, blue before green before red.

JPEG, PNG and the like are decoded by Pillow; the values are OpenCV's, grey ones too (they are rounded differently for
JPEG, PNG and other files). The EXIF orientation is not applied, as in the OpenCV of Caffe's time.
"""

import numpy as np

from data import pictures
from netspec.errors import Error


def decode(place, color, data=None, what="image"):
    """Return a picture file (or its bytes, `data`) as (H, W, C) uint8.

    Parameters
    ----------
    place : path of the file, or how errors call where `data` comes from.
    color : True for 3 channels BGR, False for 1 channel, None for as many as it has (1, 3 or, with alpha, 4).
    """
    with pictures.opened(place, what, data, grey=color is False) as picture:
        if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
            if color is None:
                raise Error(f"{what} {place} has more than 8 bits a channel ({picture.mode}); Caffe takes 8")
            values = np.asarray(picture)
            grey = np.clip(values.astype(np.int64) >> 8 if picture.mode != "F" else values, 0, 255).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3 if color else 1, axis=2)
        if color is None:
            color = picture.mode not in ("1", "L")
            if picture.mode in ("RGBA", "LA", "PA"):
                return np.ascontiguousarray(np.asarray(picture.convert("RGBA"))[:, :, [2, 1, 0, 3]])
        if color:
            return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])
        if picture.mode in ("1", "L", "LA"):
            return np.asarray(picture.convert("L"))[:, :, None]
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(np.int32), 2, 0)
        if picture.format == "PNG":
            grey = (9797 * red + 19234 * green + 3737 * blue) >> 15  # libpng's weights, cut off
        else:
            grey = (4899 * red + 9617 * green + 1868 * blue + 8192) >> 14  # OpenCV's own, rounded
        return grey.astype(np.uint8)[:, :, None]
