"""A net in ncnn's own files: text of layers with numbered settings, and a file of weights.

Made as ncnn's converters make them: ReLU is done in the convolution before it, dropout is left out, a blob that several layers
read goes through a Split. Source of the numbers: ncnn's table of operators' settings and weights.
"""

import numpy as np

from netspec import caffe_pb2, geometry, graph

RAW = np.uint32(0).tobytes()  # the mark of float32 before a layer's weights


def to_ncnn(net, arrays, param_file, weights_file, output):
    """Write a deploy NetParameter and {layer: its arrays}; return the name that blob `output` has in ncnn's net."""
    net = graph.filter_net(net, caffe_pb2.NetState(phase=caffe_pb2.TEST))
    net = graph.insert_splits(_without_dropout(net))
    lines, blobs, names = [], set(), {}
    layers = list(net.layer)
    rectified = {}  # number of a convolution -> that of the ReLU behind it
    for number, (layer, after) in enumerate(zip(layers, layers[1:])):
        in_place = list(layer.top) == list(after.bottom) == list(after.top)
        if layer.type in ("Convolution", "InnerProduct") and after.type == "ReLU" and in_place:
            rectified[number] = number + 1
    for number, layer in enumerate(layers):
        if number in rectified.values():
            continue
        if layer.type == "Input":
            written = [("Input", {}, list(layer.top)[i : i + 1]) for i in range(len(layer.top))]
            for i, (kind, _, tops) in enumerate(written):
                names[tops[0]] = tops[0]
                blobs.add(tops[0])
                lines.append(f"{kind} {_word(layer.name)}_{i} 0 1 {tops[0]}")
            continue
        kind, fields = TYPES[layer.type](layer, number in rectified, arrays.get(layer.name, ()))
        bottoms = [names[name] for name in layer.bottom]
        tops = []
        for name in layer.top:
            own = _word(name)
            while own in blobs:
                own += "_"  # a blob changed in place is another one to ncnn
            names[name] = own
            blobs.add(own)
            tops.append(own)
        if kind == "Crop":
            bottoms[1] = _without_channels(bottoms[1], _word(layer.name), lines, blobs)
        settings = " ".join(f"{key}={value}" for key, value in fields.items())
        lines.append(" ".join([kind, _word(layer.name), str(len(bottoms)), str(len(tops)), *bottoms, *tops, settings]))
        _write_weights(layer, arrays.get(layer.name, ()), weights_file)
    param_file.write(f"7767517\n{len(lines)} {len(blobs)}\n" + "\n".join(lines) + "\n")
    return names[output]


def _word(name):
    return name.replace(" ", "_")


def _without_channels(blob, name, lines, blobs):
    """Add two layers that make a picture of one channel's size: a Crop takes the channels, too, from what it is cropped to."""
    one, flat = f"{name}_one", f"{name}_size"
    lines.append(f"Crop {one} 1 1 {blob} {one} 0=0 1=0 2=0 3=-233 4=-233 5=1")
    lines.append(f"Squeeze {flat} 1 1 {one} {flat} 2=1")
    blobs.update((one, flat))
    return flat


def _without_dropout(net):
    result = caffe_pb2.NetParameter()
    result.CopyFrom(net)
    del result.layer[:]
    result.layer.extend(layer for layer in net.layer if layer.type != "Dropout")
    return result


def _write_weights(layer, own, file):
    if layer.type == "Deconvolution":
        own = [np.ascontiguousarray(_deconvolution_weight(layer, own[0])), *own[1:]]
    for number, array in enumerate(own):
        if number == 0 and layer.type != "Scale":
            file.write(RAW)
        file.write(np.ascontiguousarray(array, np.float32).tobytes())


def _deconvolution_weight(layer, weight):
    # Caffe: (channels, outputs / group, kh, kw); ncnn: (outputs, channels / group, kh, kw), group by group.
    group = layer.convolution_param.group
    channels, outputs, *kernel = weight.shape
    return weight.reshape(group, channels // group, outputs, *kernel).swapaxes(1, 2)


def _convolution(layer, rectified, own):
    param = layer.convolution_param
    kernel, stride, pad, dilation = geometry.kernel_stride_pad_dilation(param, 2)
    fields = {0: param.num_output, 1: kernel[1], 11: kernel[0], 2: dilation[1], 12: dilation[0], 3: stride[1], 13: stride[0],
              4: pad[1], 14: pad[0], 5: int(param.bias_term), 6: own[0].size}
    if param.group > 1:
        fields[7] = param.group
    if rectified:
        fields[9] = 1
    return layer.type + ("DepthWise" if param.group > 1 else ""), fields


def _pooling(layer, rectified, own):
    param = layer.pooling_param
    fields = {0: int(param.pool == param.AVE)}
    if param.global_pooling:
        return "Pooling", {**fields, 4: 1}
    kernel, stride, pad = geometry.pool_kernel_stride_pad(param, 1 << 30, 1 << 30)
    return "Pooling", {**fields, 1: kernel[1], 11: kernel[0], 2: stride[1], 12: stride[0], 3: pad[1], 13: pad[0], 14: pad[1],
                       15: pad[0], 5: 0, 6: int(max(pad) > 0)}


def _inner_product(layer, rectified, own):
    param = layer.inner_product_param
    fields = {0: param.num_output, 1: int(param.bias_term), 2: own[0].size}
    return "InnerProduct", {**fields, 9: 1} if rectified else fields


def _lrn(layer, rectified, own):
    param = layer.lrn_param
    return "LRN", {0: int(param.norm_region), 1: param.local_size, 2: param.alpha, 3: param.beta, 4: param.k}


def _crop(layer, rectified, own):
    offsets = list(layer.crop_param.offset) or [0]
    offsets = offsets * 2 if len(offsets) == 1 else offsets
    return "Crop", {0: offsets[1], 1: offsets[0]}


def _eltwise(layer, rectified, own):
    param = layer.eltwise_param
    fields = {0: int(param.operation)}
    if param.coeff:
        fields[-23301] = ",".join(map(str, (len(param.coeff), *param.coeff)))
    return "Eltwise", fields


def _scale(layer, rectified, own):
    return "Scale", {0: own[0].size, 1: int(layer.scale_param.bias_term)}


TYPES = {
    "Concat": lambda layer, rectified, own: ("Concat", {0: layer.concat_param.axis - 1}), "Convolution": _convolution,
    "Crop": _crop, "Deconvolution": _convolution, "Eltwise": _eltwise, "InnerProduct": _inner_product, "LRN": _lrn,
    "Pooling": _pooling, "ReLU": lambda layer, rectified, own: ("ReLU", {}), "Scale": _scale,
    "Softmax": lambda layer, rectified, own: ("Softmax", {0: layer.softmax_param.axis - 1, 1: 1}),
    "Split": lambda layer, rectified, own: ("Split", {}),
}
