"""Dense outputs of a net that subsamples, message -> message: shift-and-stitch, and its equal by dilation (paper 3.2).

Both give a score for every place of the input instead of one for every f-th, from the same parameters, bit for bit the
same where sums are added in the same order (``--math strict`` or ``caffe``; by default a convolution without holes may be
Winograd's and one with holes is direct); where y and x are multiples of f they are the plain net's.

shift-and-stitch    the net runs on the input shifted by each (y, x) with 0 <= y, x < f, as images of one batch; then the
                    outputs are interlaced.
dilation            no layer skips a place: a stride becomes 1, and every filter behind it has holes as wide as the stride.
                    A pooling with holes is the maximum of k x k crops, since Caffe's Pooling knows no dilation.

Both are made of Caffe's own layers. A convolution that pads would show a shifted image zeros where the whole one has
values, so shift-and-stitch wants the padding before everything else: `padded_first`.

The functions take a NetParameter whose first layers bring the blobs that nothing is computed for (data, label); the
dense output is the last layer's. Layers are convolutions and poolings in squares, and those that keep a place (ReLU, LRN,
Dropout, Concat, Eltwise, Scale ...). A last window of a pooling that hangs over the edge, as Caffe has it, is left out by
dilation and not by stitching: of n places that dilation gives, the first ``f floor(n / f)`` agree. In a net that pads
behind such a pooling the padding then lies elsewhere, and so the last places differ from the plain net's.
"""

import collections
from fractions import Fraction

from netspec import caffe_pb2, geometry
from netspec.coord_map import PASS_THROUGH_LAYERS
from netspec.errors import Error

SOURCES = {"Input", "Python", "Data", "DummyData", "HDF5Data", "ImageData", "MemoryData"}
Window = collections.namedtuple("Window", "kernel stride pad dilation")


def subsampling(net):
    """Return (f, offset): how far neighbours of the last blob are apart in pixels, and the centre of the first one."""
    stride, offset = {}, {}
    for layer in net.layer:
        window = _window(layer)
        for top in layer.top:
            if layer.type in SOURCES:
                stride[top], offset[top] = 1, Fraction(0)
                continue
            bottom = layer.bottom[0]
            step, shift = 1, 0
            if window:
                step = window.stride
                shift = (Fraction(window.dilation * (window.kernel - 1), 2) - window.pad) * stride[bottom]
            offset[top] = offset[bottom] + shift
            stride[top] = stride[bottom] * step
    return stride[net.layer[-1].top[0]], offset[net.layer[-1].top[0]]


def padded_first(net, data="data", more=0):
    """Return `net` with all its padding in one layer behind `data`, and `more` pixels of it; parameters stay as they are.

    Where the padding of an inner layer was zeros it is now what the layers before make of zeros. The layer is a
    convolution of each channel with the number 1.
    """
    out, pads, channels = _start(net, data)
    total, strides = {data: 0}, {data: 1}
    for layer in _work(net):
        window = _window(layer)
        bottoms = [_known(total, name, layer) for name in layer.bottom]
        if len(set(bottoms)) > 1:
            raise Error(f"layer '{layer.name}': its bottoms are padded by {bottoms} pixels in all; padding in streams that "
                        "differ cannot be put before both")
        new = out.layer.add()
        new.CopyFrom(layer)
        for number, name in enumerate(new.bottom):
            new.bottom[number] = pads if name == data else name
        strides[layer.top[0]], total[layer.top[0]] = strides[layer.bottom[0]], bottoms[0]
        if window:
            _set(new, window._replace(pad=0))
            strides[layer.top[0]] *= window.stride
            total[layer.top[0]] = bottoms[0] + window.pad * strides[layer.bottom[0]]
    pad = total[net.layer[-1].top[0]] + more
    fields = {"num_output": channels, "kernel_size": [1], "pad": [pad], "group": channels, "bias_term": False,
              "weight_filler": {"type": "constant", "value": 1}}
    layer = caffe_pb2.LayerParameter(name=pads, type="Convolution", bottom=[data], top=[pads],
                                     param=[caffe_pb2.ParamSpec(lr_mult=0, decay_mult=0)], convolution_param=fields)
    return _insert(out, len(_sources(net)), layer)


def dilated(net, data="data"):
    """Return `net` without any subsampling behind `data`: strides of 1 and filters with holes."""
    out = _copy_sources(net)
    holes = {data: 1}
    for layer in _work(net):
        window, hole = _window(layer), _known(holes, layer.bottom[0], layer)
        if any(_known(holes, name, layer) != hole for name in layer.bottom):
            raise Error(f"layer '{layer.name}': its bottoms have strides {[holes[name] for name in layer.bottom]}")
        holes[layer.top[0]] = hole * (window.stride if window else 1)
        if layer.type == "Pooling" and hole > 1:
            _dilated_pooling(out, layer, window, hole)
            continue
        new = out.layer.add()
        new.CopyFrom(layer)
        if window:
            _set(new, Window(window.kernel, 1, window.pad * hole, window.dilation * hole))
    return out


def stitched(net, data="data"):
    """Return `net` run on all shifts of `data`, with its outputs interlaced; the top keeps its name.

    One level for each stride s: s x s crops become images of the batch, and later every s x s of them one image.
    """
    first, *work = _work(net)
    out, top, levels, base = _copy_sources(net), data, [], 1
    if first.name == f"{data}_padded":  # what is shifted is the padded image
        out.layer.extend([first])
        top = data = first.top[0]
    else:
        work = [first, *work]
    for layer in work:
        window = _window(layer)
        if window and window.pad:
            raise Error(f"layer '{layer.name}' pads by {window.pad}: shifted images would have zeros where the whole one "
                        "has values; put all padding first (padded_first)")
    for stride in _strides(work, data, net.layer[-1].top[0]):
        levels.append((stride, base))
        top = _shifts(out, top, stride, base, f"shift{base}")
        base *= stride
    last = net.layer[-1].top[0]
    for layer in work:
        new = out.layer.add()
        new.CopyFrom(layer)
        for number, name in enumerate(layer.bottom):
            if name == data:
                new.bottom[number] = top
        for number, name in enumerate(layer.top):
            if name == last and levels:
                new.top[number] = f"{last}_shifted"
                if name in layer.bottom:
                    new.bottom[list(layer.bottom).index(name)] = f"{last}_shifted"
    top = f"{last}_shifted"
    for stride, base in reversed(levels):
        top = _interlace(out, top, stride, f"stitch{base}", last if base == 1 else f"stitch{base}")
    return out


# --- parts -----------------------------------------------------------------------------------------------------------


def _dilated_pooling(out, layer, window, hole):
    """Add the maximum over k x k crops, `hole` apart. The crops take their size from a pooling as wide as all of it."""
    if layer.pooling_param.pool != caffe_pb2.PoolingParameter.MAX or window.pad:
        raise Error(f"layer '{layer.name}': only max pooling without padding can be dilated")
    extent = f"{layer.name}_extent"
    _add(out, extent, "Pooling", layer.bottom[:1], propagate_down=[False],
         pooling_param={"pool": "MAX", "kernel_size": hole * (window.kernel - 1) + 1, "stride": 1})
    crops = []
    for y in range(window.kernel):
        for x in range(window.kernel):
            crops.append(f"{layer.name}_{y}_{x}")
            _add(out, crops[-1], "Crop", [layer.bottom[0], extent], crop_param={"axis": 2, "offset": [y * hole, x * hole]})
    new = _add(out, layer.name, "Eltwise", crops, eltwise_param={"operation": "MAX"})
    new.top[0] = layer.top[0]


def _shifts(out, bottom, stride, base, name):
    """Add the crops of `bottom` by multiples of `base` below ``stride x base``, one after the other in the batch."""
    if stride == 1:
        return bottom
    extent = f"{name}_extent"
    _add(out, extent, "Pooling", [bottom], propagate_down=[False],
         pooling_param={"pool": "MAX", "kernel_size": base * (stride - 1) + 1, "stride": 1})
    crops = []
    for y in range(stride):
        for x in range(stride):
            crops.append(f"{name}_{y}_{x}")
            _add(out, crops[-1], "Crop", [bottom, extent], crop_param={"axis": 2, "offset": [y * base, x * base]})
    _add(out, name, "Concat", crops, concat_param={"axis": 0})
    return name


def _interlace(out, bottom, stride, name, top):
    """Add the reverse: of every ``stride x stride`` parts of the batch one image, ``stride`` times as high and wide."""
    pieces = [f"{name}_{y}_{x}" for y in range(stride) for x in range(stride)]
    _add(out, f"{name}_parts", "Slice", [bottom], pieces, slice_param={"axis": 0})
    rows = []
    for y in range(stride):
        wide = []
        for x in range(stride):
            wide.append(f"{name}_{y}_{x}_wide")
            _add(out, wide[-1], "Reshape", [f"{name}_{y}_{x}"],
                 reshape_param={"axis": 4, "num_axes": 0, "shape": {"dim": [1]}})
        _add(out, f"{name}_{y}_columns", "Concat", wide, concat_param={"axis": 4})
        rows.append(f"{name}_{y}")
        _add(out, f"{name}_{y}_joined", "Reshape", [f"{name}_{y}_columns"],
             reshape_param={"axis": 3, "num_axes": 2, "shape": {"dim": [-1]}})
        _add(out, rows[-1], "Reshape", [f"{name}_{y}_joined"],
             reshape_param={"axis": 3, "num_axes": 0, "shape": {"dim": [1]}})
    _add(out, f"{name}_rows", "Concat", rows, concat_param={"axis": 3})
    new = _add(out, name, "Reshape", [f"{name}_rows"], reshape_param={"axis": 2, "num_axes": 2, "shape": {"dim": [-1]}})
    new.top[0] = top
    return top


# --- reading and writing layers --------------------------------------------------------------------------------------


def _window(layer):
    """Return the Window of a convolution or pooling, None for a layer that keeps its place; others are refused."""
    if layer.type == "Convolution":
        values = geometry.kernel_stride_pad_dilation(layer.convolution_param, 2)
    elif layer.type == "Pooling" and not layer.pooling_param.global_pooling:
        values = (*geometry.pool_kernel_stride_pad(layer.pooling_param, 1, 1), (1, 1))
    elif layer.type in PASS_THROUGH_LAYERS or layer.type in SOURCES:
        return None
    else:
        raise Error(f"layer '{layer.name}' ({layer.type}): dense forms know convolutions, poolings and layers that keep "
                    "their place")
    if any(len(set(pair)) > 1 for pair in values):
        raise Error(f"layer '{layer.name}': dense forms know square windows only")
    return Window(*(pair[0] for pair in values))


def _set(layer, window):
    if layer.type == "Pooling":
        if window.dilation != 1:
            raise Error(f"layer '{layer.name}': pooling knows no dilation")
        layer.pooling_param.stride, layer.pooling_param.pad = window.stride, window.pad
        return
    param = layer.convolution_param
    for name, value, default in (("stride", window.stride, 1), ("pad", window.pad, 0), ("dilation", window.dilation, 1)):
        param.ClearField(f"{name}_h") if name != "dilation" else None
        param.ClearField(f"{name}_w") if name != "dilation" else None
        param.ClearField(name)
        if value != default:
            getattr(param, name).append(value)


def _strides(layers, data, last):
    """Return the strides between the blobs `data` and `last`, from the first layer's on, without ones."""
    found = {data: ()}
    for layer in layers:
        window = _window(layer)
        before = _known(found, layer.bottom[0], layer)
        found[layer.top[0]] = (*before, window.stride) if window and window.stride > 1 else before
    return found[last]


def _known(found, name, layer):
    if name not in found:
        raise Error(f"layer '{layer.name}': its bottom '{name}' does not come from the image")
    return found[name]


def _sources(net):
    return [layer for layer in net.layer if layer.type in SOURCES]


def _work(net):
    return [layer for layer in net.layer if layer.type not in SOURCES]


def _copy_sources(net):
    out = caffe_pb2.NetParameter(name=net.name) if net.name else caffe_pb2.NetParameter()
    out.layer.extend(_sources(net))
    return out


def _start(net, data):
    """Return (a net of the sources, the name of the padded image, channels of the image)."""
    channels = 3
    for layer in _sources(net):
        if layer.type == "Input" and data in layer.top:
            channels = layer.input_param.shape[0].dim[1]
    return _copy_sources(net), f"{data}_padded", channels


def _insert(net, place, layer):
    layers = list(net.layer)
    del net.layer[:]
    net.layer.extend([*layers[:place], layer, *layers[place:]])
    return net


def _add(net, name, kind, bottoms, tops=None, **fields):
    layer = net.layer.add(name=name, type=kind, bottom=list(bottoms), top=list(tops or [name]))
    layer.MergeFrom(caffe_pb2.LayerParameter(**fields))
    return layer
