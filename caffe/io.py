"""pycaffe's `caffe.io`: pictures, their way into a net and back, and blobs and datums as arrays."""

import numpy as np
from scipy import ndimage

from data import pictures
from netspec import caffe_pb2
from netspec.errors import Error, nearest

__all__ = ["Transformer", "array_to_blobproto", "array_to_datum", "arraylist_to_blobprotovector_str", "blobproto_to_array",
           "blobprotovector_str_to_arraylist", "datum_to_array", "load_image", "oversample", "resize_image"]


# --- messages --------------------------------------------------------------------------------------------------------


def blobproto_to_array(blob, return_diff=False):
    """Return the values (or gradients) of a BlobProto as an array of its shape, float32 (float64 where it holds doubles)."""
    numbers = (blob.double_diff if return_diff else blob.double_data) or (blob.diff if return_diff else blob.data)
    shape = blob.shape.dim if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    kind = np.float64 if blob.double_data or blob.double_diff else np.float32
    try:
        return np.array(numbers, kind).reshape(tuple(shape))
    except ValueError:
        raise Error(f"the BlobProto says the shape {list(shape)}, but holds {len(numbers)} values") from None


def array_to_blobproto(array, diff=None):
    """Return a BlobProto of an array and, if given, its gradient."""
    array = np.asarray(array)
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(array.shape)
    blob.data.extend(array.astype(float).flat)
    if diff is not None:
        blob.diff.extend(np.asarray(diff).astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arrays):
    """Return arrays as the bytes of a BlobProtoVector."""
    return caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(array) for array in arrays]).SerializeToString()


def blobprotovector_str_to_arraylist(data):
    """Return the arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(data).blobs]


def array_to_datum(array, label=None):
    """Return a Datum of a (channels, height, width) array: bytes of a uint8 array, floats of any other."""
    array = np.asarray(array)
    if array.ndim != 3:
        raise Error(f"a Datum holds (channels, height, width), the array is {list(array.shape)}; add or remove axes")
    datum = caffe_pb2.Datum(channels=array.shape[0], height=array.shape[1], width=array.shape[2])
    if array.dtype == np.uint8:
        datum.data = array.tobytes()
    else:
        datum.float_data.extend(array.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum):
    """Return the (channels, height, width) array of a Datum: uint8 of its bytes, or float64 of its floats."""
    if datum.encoded:
        raise Error("the Datum holds an encoded picture; decode it first (data.datum does)")
    values = np.frombuffer(datum.data, np.uint8) if len(datum.data) else np.array(datum.float_data, float)
    shape = datum.channels, datum.height, datum.width
    if values.size != np.prod(shape):
        raise Error(f"the Datum says the shape {list(shape)}, but holds {values.size} values")
    return values.reshape(shape)


# --- pictures --------------------------------------------------------------------------------------------------------


def load_image(filename, color=True):
    """Return a picture as float32 in [0, 1]: (H, W, 3) red first, or (H, W, 1) without `color`.

    Transparency is dropped, grey is repeated over three channels. Grey is 0.2125 R + 0.7154 G + 0.0721 B, as scikit-image has it.
    """
    pixels = pictures.read_image(filename).astype(np.float32) / np.float32(255)
    return pixels if color else (pixels @ np.array([0.2125, 0.7154, 0.0721], np.float32))[:, :, None]


def resize_image(image, new_dims, interp_order=1):
    """Return an (H, W, channels) array at the size `new_dims` (height, width), float32.

    Splines of `interp_order` (1: bilinear) between pixel centres, beyond the border the border's value, no smoothing first.
    """
    image = np.asarray(image, np.float32)
    if image.ndim != 3:
        raise Error(f"a picture is (height, width, channels), the array is {list(image.shape)}")
    zoom = (new_dims[0] / image.shape[0], new_dims[1] / image.shape[1], 1)
    return ndimage.zoom(image, zoom, order=interp_order, mode="nearest", grid_mode=True)


def oversample(images, crop_dims):
    """Return corners and centre of each of N pictures (H, W, channels), and their mirror images: (10 N, height, width, channels).

    Of each picture first the five crops (top left, top right, bottom left, bottom right, centre), then the five mirrored.
    """
    images = [np.asarray(image) for image in images]
    height, width = (int(size) for size in crop_dims)
    out = []
    for image in images:
        rows, columns = image.shape[0] - height, image.shape[1] - width
        if rows < 0 or columns < 0:
            raise Error(f"crops of {height}x{width} do not fit into a picture of {image.shape[0]}x{image.shape[1]}; resize it")
        corners = [(0, 0), (0, columns), (rows, 0), (rows, columns), (int(rows / 2.0), int(columns / 2.0))]
        crops = [image[y:y + height, x:x + width] for y, x in corners]
        out += [*crops, *(crop[:, ::-1] for crop in crops)]
    return np.array(out, np.float32)


class Transformer:
    """From a picture to a net's input and back, as the settings say: transposed, channels swapped, scaled, less a mean, scaled.

    Parameters
    ----------
    inputs : dict
        Name of an input blob -> its shape.
    """

    def __init__(self, inputs):
        self.inputs = {name: tuple(shape) for name, shape in dict(inputs).items()}
        self.transpose, self.channel_swap, self.raw_scale, self.mean, self.input_scale = {}, {}, {}, {}, {}

    def preprocess(self, in_, data):
        """Return an (H, W, channels) picture as the input `in_` takes it: (channels, height, width) float32.

        In this order: resized to the input's size if it has another, transposed, channels swapped, times raw_scale, less the
        mean, times input_scale.
        """
        self._known(in_)
        size = self.inputs[in_][2:]
        out = np.asarray(data).astype(np.float32, copy=False)
        if out.shape[:2] != tuple(size):
            out = resize_image(out, size)
        if in_ in self.transpose:
            out = out.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            out = out[list(self.channel_swap[in_])]
        for name, change in (("raw_scale", np.multiply), ("mean", np.subtract), ("input_scale", np.multiply)):
            if in_ in getattr(self, name):
                out = change(out, getattr(self, name)[in_], dtype=np.float32)
        return out

    def deprocess(self, in_, data):
        """Return what `preprocess` made as the picture that it was (without its size)."""
        self._known(in_)
        out = np.array(data, np.float32).squeeze()
        for name, change in (("input_scale", np.divide), ("mean", np.add), ("raw_scale", np.divide)):
            if in_ in getattr(self, name):
                out = change(out, getattr(self, name)[in_], dtype=np.float32)
        if in_ in self.channel_swap:
            out = out[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            out = out.transpose(np.argsort(self.transpose[in_]))
        return out

    def set_transpose(self, in_, order):
        """Set the order of the axes, such as (2, 0, 1) for (H, W, channels) pictures."""
        self._known(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise Error(f"the order {tuple(order)} has {len(order)} axes, a picture for '{in_}' {len(self.inputs[in_]) - 1}")
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_, order):
        """Set the order of the channels, such as (2, 1, 0) from RGB to BGR. They are the first axis after the transposition."""
        self._known(in_)
        if sorted(order) != list(range(self.inputs[in_][1])):
            raise Error(f"the order {tuple(order)} is none of the {self.inputs[in_][1]} channels of '{in_}'")
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_, scale):
        """Set the factor before the mean is taken away: 255 for pictures in [0, 1] and a mean in [0, 255]."""
        self._known(in_)
        self.raw_scale[in_] = np.float32(scale)

    def set_mean(self, in_, mean):
        """Set the mean: a number a channel, or (channels, height, width)."""
        self._known(in_)
        mean, shape = np.asarray(mean, np.float32), self.inputs[in_]
        if mean.ndim == 1:
            if mean.size != shape[1]:
                raise Error(f"the mean has {mean.size} channels, '{in_}' {shape[1]}")
            mean = mean[:, None, None]
        elif mean.shape != shape[1:]:
            raise Error(f"the mean is {list(mean.shape)}, '{in_}' {list(shape[1:])}; a number a channel fits: "
                        "mean.mean(1).mean(1)")
        self.mean[in_] = mean

    def set_input_scale(self, in_, scale):
        """Set the factor after the mean is taken away."""
        self._known(in_)
        self.input_scale[in_] = np.float32(scale)

    def _known(self, in_):
        if in_ not in self.inputs:
            raise Error(f"'{in_}' is no input of the net{nearest(in_, self.inputs)}; it has {', '.join(self.inputs)}")
