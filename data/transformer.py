"""What `transform_param` does to each picture on its way into a net, in Caffe's order.

    crop:     crop_size x crop_size, at random in TRAIN, from the middle in TEST (rounded down)
    mean:     minus mean_file, the value at the same place of the whole picture, or minus mean_value of the channel
    scale:    times scale
    mirror:   in TRAIN and TEST alike, half of the pictures, at random

so ``top = (picture - mean) * scale``, float32, rounded twice, and a mirrored picture has had the mean of where it was. The
mean file has the size of the picture before it is cropped. One mean_value serves all channels. For each picture that is
drawn: whether to mirror, then the crop's row and column, each only if it is asked for. force_color and force_gray say how
encoded pictures are decoded. Source: Caffe's DataTransformer.
"""

import numpy as np

from netspec import binaryproto, files
from netspec.errors import Error


class Transformer:
    """Turns pictures into what a net eats.

    Parameters
    ----------
    param : TransformationParameter
    training : bool
        Whether crops are drawn at random.
    beside : path, optional
        Beside which the mean file is looked for.
    dtype : numpy dtype
        In which is computed.

    Attributes
    ----------
    color : bool or None
        How encoded pictures are decoded: to 3 channels, to 1, or as they are.
    """

    def __init__(self, param, training, beside=None, dtype=np.float32):
        self.crop, self.mirror, self.training = param.crop_size, param.mirror, training
        self.scale, self.dtype = np.dtype(dtype).type(param.scale), np.dtype(dtype)
        if param.force_color and param.force_gray:
            raise Error("transform_param has both force_color and force_gray; keep one")
        if param.mean_file and param.mean_value:
            raise Error("transform_param has both mean_file and mean_value; keep one")
        self.color = True if param.force_color else False if param.force_gray else None
        self.values = np.array(param.mean_value, dtype)
        self.mean = None
        if param.mean_file:
            self.mean_path = files.find(param.mean_file, beside, "mean file")
            mean = binaryproto.read_mean(self.mean_path)
            if mean.ndim > 3 and mean.shape[0] == 1:
                mean = mean[0]
            if mean.ndim != 3:
                raise Error(f"mean file '{self.mean_path}' holds an array of shape {list(mean.shape)}; a mean has channels, "
                            "height and width")
            self.mean = mean.astype(dtype)

    def shape(self, shape, where):
        """Return the shape of a transformed picture of `shape` (channels, height, width); `where` names it in errors."""
        channels, height, width = shape
        if self.mean is not None and self.mean.shape != (channels, height, width):
            raise Error(f"{where} is {_times(shape)} (channels x height x width), but the mean file '{self.mean_path}' is "
                        f"{_times(self.mean.shape)}; they must be equal")
        if len(self.values) not in (0, 1, channels):
            raise Error(f"mean_value is given {len(self.values)} times, but {where} has {channels} channels; give it once, or "
                        "once for each")
        if not self.crop:
            return channels, height, width
        if min(height, width) < self.crop:
            raise Error(f"{where} is {height}x{width} (height x width), smaller than crop_size {self.crop}")
        return channels, self.crop, self.crop

    def __call__(self, picture, out, draw, where):
        """Transform a (C, H, W) array into `out`, of the shape that `shape` says.

        ``draw(n)`` returns a random integer from 0 to n - 1.
        """
        _, height, width = self.shape(picture.shape, where)
        mirror = self.mirror and draw(2)
        top = left = 0
        if self.crop:
            rows, columns = picture.shape[1] - height, picture.shape[2] - width
            top, left = (draw(rows + 1), draw(columns + 1)) if self.training else (rows // 2, columns // 2)
        there = slice(None), slice(top, top + height), slice(left, left + width)
        out = out[:, :, ::-1] if mirror else out
        if self.mean is not None:
            np.subtract(picture[there], self.mean[there], out=out, dtype=self.dtype)
        elif len(self.values):
            np.subtract(picture[there], self.values[:, None, None], out=out, dtype=self.dtype)
        else:
            out[...] = picture[there]
        if self.scale != 1:
            out *= self.scale


def _times(shape):
    return "x".join(map(str, shape))
