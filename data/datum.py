"""Datum, what Caffe's databases hold under each key: a labelled array, or a labelled picture file (`encoded`).

A raw Datum is channels x height x width, one byte a value in `data` or else `float_data`; colours are in the order blue,
green, red. An encoded one holds a JPEG, PNG, ... file. Whatever does not fit is an `Error` that begins with `where`
(such as "key '00000003_cat.jpg' of LMDB database '/data/train_lmdb'").
"""

import io

import numpy as np
from google.protobuf import message
from PIL import Image

from data.decode import decode
from netspec import caffe_pb2
from netspec.errors import Error


def parse(value, where):
    """Return the Datum message in the bytes of a database's value."""
    datum = caffe_pb2.Datum()
    try:
        datum.ParseFromString(value)
    except message.DecodeError as error:
        raise Error(f"{where}: not a Datum, or a damaged one ({error})") from None
    return datum


def array(datum, where, color=None):
    """Return the values, (C, H, W): uint8 of bytes and pictures, float32 of `float_data`.

    `color` turns pictures into 3 (True) or 1 (False) channels; None leaves them as they are. It does nothing to raw data.
    """
    if datum.encoded:
        if not datum.data:
            raise Error(f"{where}: says that it is an encoded picture, but it has no data")
        return decode(where, color, datum.data, "encoded picture").transpose(2, 0, 1)
    shape = datum.channels, datum.height, datum.width
    count = shape[0] * shape[1] * shape[2]
    if min(shape) < 1:
        raise Error(f"{where}: {shape[0]} channels, height {shape[1]} and width {shape[2]}; each must be 1 or more")
    found = len(datum.data) or len(datum.float_data)
    if found != count:
        raise Error(f"{where}: {found} values for {shape[0]} x {shape[1]} x {shape[2]} = {count}")
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    return values.reshape(shape)


def shape(datum, where, color=None):
    """Return (channels, height, width) of `array`."""
    return array(datum, where, color).shape


def make(values, label=None):
    """Return the Datum of a (C, H, W) array: bytes if it is uint8, else `float_data`."""
    values = np.asarray(values)
    if values.ndim != 3 or not values.size:
        raise Error(f"a Datum holds an array (channels, height, width) with values; this one has shape {list(values.shape)}")
    datum = caffe_pb2.Datum(channels=values.shape[0], height=values.shape[1], width=values.shape[2])
    if values.dtype == np.uint8:
        datum.data = values.tobytes()
    else:
        datum.float_data.extend(values.reshape(-1).tolist())
    if label is not None:
        datum.label = int(label)
    return datum


def encode(picture, kind, label=None):
    """Return the Datum of an (H, W, C) BGR or grey picture, as a file of the `kind` ("jpg", "png", ...)."""
    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1] if picture.shape[2] == 3 else picture[:, :, 0]))
    form = kind_of(kind)
    # As OpenCV: quality 95, colours at half the resolution.
    image.save(file, form, **({"quality": 95, "subsampling": "4:2:0"} if form == "JPEG" else {}))
    return packed(file.getvalue(), label)


def packed(data, label=None):
    """Return the Datum of the bytes of a picture file."""
    datum = caffe_pb2.Datum(data=data, encoded=True)
    if label is not None:
        datum.label = int(label)
    return datum


def kind_of(ending):
    """Return Pillow's name of the kind of picture that is written for a file's ending, or an `Error`."""
    Image.init()
    form = Image.EXTENSION.get(f".{ending.lower().lstrip('.')}")
    if form not in Image.SAVE:
        raise Error(f"pictures cannot be encoded as '{ending}'; take jpg, png, bmp, tif or webp")
    return form
