"""Where a coordinate of one blob lies in another: affine maps of layers, composed; from them the offset of a crop.

A layer maps coordinate x of its bottom to a x + b of its top. Convolution and pooling divide by the stride,
deconvolution multiplies, activations change nothing, a crop shifts:

    Convolution, Pooling    a = 1 / stride    b = (pad - (extent - 1) / 2) / stride
    Deconvolution           a = stride        b = (extent - 1) / 2 - pad
    Crop                    a = 1             b = -offset

with extent = dilation (kernel - 1) + 1. All numbers are exact fractions, so that half a pixel is never rounded away. A
map is a triple (axis, a, b): `axis` is the last axis before the spatial ones (None: the identity, any axis), `a` and
`b` are arrays of Fraction with one entry, or one for each spatial axis. This is what the paper means by the crops that
"follow automatically" (section 4.3); pycaffe's coord_map does the same in floating point.
"""

from fractions import Fraction

import numpy as np

from netspec.errors import Error
from netspec.spec import layers as L

PASS_THROUGH_LAYERS = frozenset([
    "AbsVal", "BatchNorm", "Bias", "BN", "BNLL", "Clip", "Concat", "Dropout", "Eltwise", "ELU", "Exp", "Log", "LRN", "MVN",
    "Power", "PReLU", "ReLU", "ReLU6", "Scale", "Sigmoid", "Softmax", "Split", "Swish", "TanH", "Threshold",
])  # Concat only along the channels, over aligned bottoms; Caffe has no map for it
WINDOW_LAYERS = frozenset(["Convolution", "DepthwiseConvolution", "Pooling", "Im2col"])


class UndefinedMapException(Error):
    """The layer's type has no single map from bottom to top coordinates."""


class AxisMismatchException(Error):
    """Two maps in one chain belong to different axes."""


class UnconnectedException(Error, RuntimeError):
    """No chain of spatial layers leads from a common blob to both tops."""


class CropException(Error, AssertionError):
    """The map between the two tops is no crop: another scale, half a pixel, or a negative offset."""


def conv_params(fn):
    """Return (axis, stride, extent, pad) of a Convolution, Deconvolution, Pooling or Im2col Function."""
    fields = _fields(fn, "pooling_param" if fn.type_name == "Pooling" else "convolution_param")
    sided = sorted(f"{name}_{side}" for name in ("kernel", "stride", "pad") for side in "hw"
                   if f"{name}_{side}" in fields)
    if sided:
        raise CropException(f"{fn!r}: cropping does not support {', '.join(sided)}; "
                            f"give a list, such as kernel_size=[3, 5], for other values on each axis")
    if fields.get("global_pooling"):
        raise UndefinedMapException(f"{fn!r}: global pooling has no coordinate map; crop before it")
    if "kernel_size" not in fields:
        raise CropException(f"{fn!r}: kernel_size is missing")
    dilation = _fractions(fields.get("dilation", 1))
    extent = dilation * (_fractions(fields["kernel_size"]) - 1) + 1
    return int(fields.get("axis", 1)), _fractions(fields.get("stride", 1)), extent, _fractions(fields.get("pad", 0))


def crop_params(fn):
    """Return (axis, offset) of a Crop Function."""
    fields = _fields(fn, "crop_param")
    return int(fields.get("axis", 2)), _fractions(fields.get("offset", 0))


def coord_map(fn):
    """Return the map (axis, a, b) from the bottoms of the layer `fn` to its tops: x becomes a x + b."""
    if fn.type_name in WINDOW_LAYERS:
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, _fractions(1), -offset
    if fn.type_name == "Concat" and _fields(fn, "concat_param").get("axis", 1) != 1:
        raise UndefinedMapException(f"Concat along axis {_fields(fn, 'concat_param')['axis']} has no coordinate map")
    if fn.type_name in PASS_THROUGH_LAYERS:
        return identity()
    raise UndefinedMapException(f"a layer of type {fn.type_name} has no coordinate map from bottom to top")


def identity():
    """Return the map that changes nothing, on any axis."""
    return None, _fractions(1), _fractions(0)


def compose(base_map, next_map):
    """Return the map x -> base_map(next_map(x))."""
    axis1, a1, b1 = base_map
    axis2, a2, b2 = next_map
    if axis1 is not None and axis2 is not None and axis1 != axis2:
        raise AxisMismatchException(f"cannot compose coordinate maps over axis {axis1} and axis {axis2}; "
                                    "give all layers between the two tops the same axis")
    if len({len(a) for a in (a1, a2) if len(a) > 1}) > 1:
        raise AxisMismatchException(f"cannot compose coordinate maps over {len(a1)} and {len(a2)} spatial axes")
    return axis2 if axis1 is None else axis1, a1 * a2, a1 * b2 + b1


def inverse(coordinate_map):
    """Return the map back: y -> (y - b) / a."""
    axis, a, b = coordinate_map
    return axis, 1 / a, -b / a


def coord_map_from_to(top_from, top_to):
    """Return the map (axis, a, b) from one top to another: position x of `top_from` is position a x + b of `top_to`.

    So where a is 1, a crop of `top_from` to `top_to` starts at -b. Walks back from both to a blob they share. A blob
    reached on two ways with different maps is refused (Caffe takes either of them), as is an unconnected pair.
    """
    maps_from, stops = _walk_back(top_from, None)
    maps_to, stops_to = _walk_back(top_to, maps_from)
    for top, to_map in maps_to.items():
        if top in maps_from:
            return compose(to_map, inverse(maps_from[top]))
    stops = "; ".join(dict.fromkeys(stops + stops_to))
    raise UnconnectedException(f"could not compute the map between {top_from!r} and {top_to!r}: they are not connected "
                               "by spatial layers" + (f" ({stops})" if stops else ""))


def _walk_back(start, goal):
    """Return ({top: map from the top to `start`}, why the walk ended); it ends early at a top that is in `goal`."""
    maps, stops = {start: identity()}, []
    frontier = [start]
    for top in frontier:
        if goal is not None and top in goal:
            break
        # A Crop takes only the size of its second bottom.
        bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
        if not bottoms:
            continue
        try:
            step = coord_map(top.fn)
        except UndefinedMapException as error:
            stops.append(str(error))
            continue
        for bottom in bottoms:
            here = compose(maps[top], step)
            if bottom not in maps:
                maps[bottom] = here
                frontier.append(bottom)
            elif not _same(maps[bottom], here):
                raise CropException(f"two ways lead from {start!r} back to {bottom!r} with different maps, "
                                    f"{_show(maps[bottom])} and {_show(here)}; align the streams before they are "
                                    "joined (crop computes the offset)")
    return maps, stops


def crop(top_from, top_to):
    """Return ``L.Crop(top_from, top_to, ...)`` with the offset that aligns `top_from` with `top_to`.

    Refused: another scale, an offset that is no whole number (half a pixel), a negative offset (`top_from` does not
    reach the edge of `top_to`).
    """
    axis, a, b = coord_map_from_to(top_from, top_to)
    where = f"crop of {top_from!r} to {top_to!r}"
    if any(a != 1):
        raise CropException(f"{where}: scale mismatch on crop, one step of the first is {_numbers(a)} steps of the "
                            "second; upsample or pool by this factor first")
    offset = -b
    if any(value.denominator != 1 for value in offset):
        raise CropException(f"{where}: cannot crop noninteger offset {_numbers(offset)}; change a kernel by one "
                            f"(upsampling 63 instead of 64, say) or a pad")
    if any(offset < 0):
        raise CropException(f"{where}: cannot crop negative offset {_numbers(offset)}: the first does not reach the "
                            f"edge of the second; raise the pad of the first convolution by {_numbers(-offset)} or "
                            "more, or crop the other way round")
    offset = [int(value) for value in offset]
    if len(set(offset)) == 1:
        offset = offset[:1]
    return L.Crop(top_from, top_to, crop_param={"axis": 2 if axis is None else axis + 1, "offset": offset})


def _fields(fn, message):
    # The fields may be given flat (kernel_size=3) or as the message (convolution_param=dict(kernel_size=3)).
    return fn.params.get(message, fn.params)


def _fractions(values):
    values = [Fraction(value) for value in np.array(values, ndmin=1).tolist()]
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _same(one, other):
    return (one[0] == other[0] or None in (one[0], other[0])) and all(one[1] == other[1]) and all(one[2] == other[2])


def _numbers(values):
    return ", ".join(str(float(value)) if value.denominator & (value.denominator - 1) == 0 and value.denominator > 1
                     else str(value) for value in dict.fromkeys(values))


def _show(coordinate_map):
    return f"{_numbers(coordinate_map[1])} x + {_numbers(coordinate_map[2])}"
