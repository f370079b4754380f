"""From a picture to what the nets eat, and back.

Caffe's nets are fed by OpenCV's habits: float32, channels first, blue before green before red, a mean value
subtracted from each channel and no scaling.
"""

import numpy as np
from PIL import Image

from netspec.errors import Error

VOC_MEAN = (104.00699, 116.66877, 122.67892)  # BGR; of the published prototxts
DEMO_MEAN = (104.00698793, 116.66876762, 122.67891434)  # BGR; of the published infer.py, the mean before rounding


def preprocess(image, mean=VOC_MEAN):
    """Turn an RGB picture into a net's input.

    Parameters
    ----------
    image : PIL image (any mode, converted to RGB) or ndarray, (H, W, 3) RGB or (H, W) grey, 0 to 255.
    mean : three numbers, BGR.

    Returns
    -------
    (3, H, W) float32, BGR, C-contiguous: ``float32(float64(value) - mean[channel])``, rounded once, as the published
    loaders do (they subtract a float64 mean from a float32 picture in place).
    """
    pixels = rgb(image)
    mean = np.asarray(mean, np.float64)
    if mean.shape != (3,) or not np.isfinite(mean).all():
        raise Error(f"mean must be three finite numbers in the order blue, green, red; got {mean.tolist()}")
    out = np.empty((3, *pixels.shape[:2]), np.float32)
    if pixels.dtype == np.uint8:
        table = (np.arange(256.0)[None, :] - mean[:, None]).astype(np.float32)  # every value a channel can take
        for channel in range(3):
            np.take(table[channel], pixels[:, :, 2 - channel], out=out[channel], mode="clip")  # clip: writes unbuffered
    else:
        for channel in range(3):
            out[channel] = pixels[:, :, 2 - channel].astype(np.float64) - mean[channel]
    return out


def deprocess(data, mean=VOC_MEAN):
    """Turn a net's input back into an RGB picture: the inverse of `preprocess`.

    `data` is (3, H, W) or (1, 3, H, W) float, BGR without mean. Returns (H, W, 3) uint8, rounded and clipped.
    """
    data = np.asarray(data)
    if data.ndim == 4 and data.shape[0] == 1:
        data = data[0]
    if data.ndim != 3 or data.shape[0] != 3:
        raise Error(f"deprocess takes (3, H, W) or (1, 3, H, W); got {data.shape}")
    pixels = data.astype(np.float64) + np.asarray(mean, np.float64).reshape(3, 1, 1)
    return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[::-1].transpose(1, 2, 0))


def rgb(image):
    """Return `image` (PIL picture or array) as an (H, W, 3) array, red first."""
    if isinstance(image, Image.Image):
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise Error(f"a picture is (H, W, 3) or (H, W); got {pixels.shape}")
    return pixels[:, :, :3]


def resize_label(label, height, width):
    """Resize a label map to (height, width) by the nearest pixel: labels are names, a mean of two is a third name.

    Output row i takes input row ``floor((i + 0.5) * H / height)``; columns likewise. Same dtype.
    """
    label = np.asarray(label)
    if label.ndim != 2 or height < 1 or width < 1 or 0 in label.shape:
        raise Error(f"resize_label takes a non-empty (H, W) map and a size above 0; got {label.shape} "
                    f"to {(height, width)}")
    # In integers: (2 i + 1) H // (2 height) is the formula above without rounding.
    rows = (2 * np.arange(height) + 1) * label.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * label.shape[1] // (2 * width)
    return label[rows[:, None], columns]


def resize_image(image, height, width):
    """Resize an RGB picture to (height, width), bilinear with antialiasing. Returns (height, width, 3) uint8."""
    picture = Image.fromarray(np.ascontiguousarray(rgb(image), np.uint8))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
